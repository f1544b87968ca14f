"""`goodeye synth`: concepts in, a training set for detectors out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    Json,
    ModelSet,
    app,
    command,
    complain,
    complain_of,
    optional,
    say,
    write_json,
)

if TYPE_CHECKING:
    from goodeye.synth.layout import Layout
    from goodeye.synth.score import Item

synth = SubcommandApp()
app.command(synth, name="synth", help="Concepts in, a training set for detectors out.")

ServerUrl = Annotated[str | None, optional("URL", "an OpenAI-compatible server; GOODEYE_SERVER if not given")]
ModelName = Annotated[str | None, optional("NAME", "its large model; GOODEYE_MODEL if not given")]

Run = Annotated[Positional[Path], arg(metavar="RUN")]


@command(synth, "synth priors")
def synth_priors(
    sources: Annotated[Positional[tuple[Path, ...]], optional("FILE...")],
    /,
    *,
    out: Annotated[Path, arg(metavar="PARQUET")],
    captions: Annotated[tuple[Path, ...], optional("FILE...")] = (),
    showroom: int = 0,
    most: int = 2000,
    seed: int = 0,
    json: Json = None,
) -> int:
    """Gathers where things stand to each other in real pictures: the priors that plan and judge layouts.

    Args:
        sources: COCO instances, Visual Genome's relationships.json, layouts (.jsonl)
        out: the store to write
        captions: COCO captions of the same pictures: relations that people named
        showroom: so many layouts of the showroom, too
        most: pairs kept of one subject, relation and object, drawn at random
        seed: of the showroom's layouts
    """
    from goodeye.synth.sources import build_priors

    more: Sequence[Layout] = ()
    if showroom:
        from goodeye.showroom.layouts import layouts

        more = layouts(showroom, seed)
    priors = build_priors(sources, captions, more, most=most)
    priors.save(out)
    say(priors.summary())
    write_json(json, priors.to_json())
    return DONE


@command(synth, "synth plan")
def synth_plan(
    concepts: Annotated[Positional[Path], arg(metavar="CONCEPTS.txt")],
    /,
    *,
    priors: Annotated[Path, arg(metavar="PARQUET")],
    out: Annotated[Path, arg(metavar="LAYOUTS")],
    n: Annotated[int, arg(aliases=["-n"])] = 100,
    things: tuple[int, int] = (2, 4),
    tail: float = 0.3,
    rare: int = 10,
    by_model: bool = False,
    server: ServerUrl = None,
    model: ModelName = None,
    seed: int = 0,
    json: Json = None,
) -> int:
    """Plans what to draw: combinations of the concepts, and where they stand, as in real pictures.

    Args:
        concepts: a category a line, with attributes to choose from after a colon: mug: red, blue
        priors: what `goodeye synth priors` wrote
        out: the layouts, a JSON line each; what a large model failed at goes to a file beside it
        n: how many layouts
        things: in a picture, at least and at most
        tail: share of the layouts that begin with a rare concept
        rare: a concept in at most so many pairs of the priors is rare
        by_model: a large model describes each combination and lays it out
        seed: the same seed gives the same plans
    """
    from goodeye.synth.layout import write_layouts
    from goodeye.synth.plan import Planning, plan, read_concepts
    from goodeye.synth.priors import open_priors

    planning = Planning(things=things, tail=tail, rare=rare, seed=seed)
    plans = plan(open_priors(priors), read_concepts(concepts), n, planning)
    if not by_model:
        write_layouts(out, plans)
        say(f"{len(plans)} layouts are in {out}.")
        write_json(json, {"layouts": len(plans), "failed": []})
        return DONE
    return _by_model(plans, out, server, model, json)


def _by_model(plans: "Sequence[Layout]", out: Path, server: str | None, model: str | None, json: Path | None) -> int:
    from goodeye.atomic import append
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.progress import track
    from goodeye.synth.describe import Failed, ask_for_all
    from goodeye.synth.layout import write_layouts

    asked = LargeModel(server_from(server, model), cache_folder())
    answers = list(track(ask_for_all(asked, plans), "asking for layouts", len(plans), "layouts"))
    failed = [one for one in answers if isinstance(one, Failed)]
    made = [one for one in answers if not isinstance(one, Failed)]
    for one in failed:
        complain("goodeye synth plan", f"{one.key}: {one.message}")
    beside = out.with_name(f"{out.stem}.failed.jsonl")
    beside.unlink(missing_ok=True)
    if failed:
        append(beside, *map(vars, failed))
    write_layouts(out, [one.layout for one in made])
    repaired = sum(bool(one.repaired) for one in made)
    say(f"{len(made)} layouts are in {out}, {repaired} of them repaired; {len(failed)} failed.")
    write_json(json, {"layouts": len(made), "repaired": repaired, "failed": [vars(one) for one in failed]})
    return BAD_INPUT if failed else DONE


@command(synth, "synth render")
def synth_render(
    out: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    *,
    count: int = 16,
    size: int = 128,
    seed: int = 0,
) -> int:
    """Draws layouts of the showroom, with exact boxes and masks: a labelled set with a long tail.

    Args:
        out: folder for images/, layouts.jsonl and instances.json (COCO)
        count: how many pictures
        size: pixels a side
        seed: the same seed gives the same pictures
    """
    from goodeye.showroom.layouts import render_folder

    render_folder(out, count=count, size=size, seed=seed)
    say(f"{count} pictures of layouts are in {out}.")
    return DONE


@command(synth, "synth draw", resume=" ")
def synth_draw(
    layouts: Annotated[Positional[Path], arg(metavar="LAYOUTS")],
    /,
    *,
    out: Annotated[Path, arg(metavar="FOLDER")],
    models: Annotated[str, arg(metavar="SET")],
    tries: int = 4,
    batch: int = 8,
    seed: int = 0,
    device: str = "cpu",
) -> int:
    """Draws layouts by GLIGEN; the same line goes on where it was stopped.

    Args:
        layouts: what `goodeye synth plan` wrote
        out: the folder of the pictures, KEY-1.png, KEY-2.png and so on
        models: a TOML file that names a GLIGEN U-Net in the role layout_unet
        tries: pictures of each layout
        batch: pictures drawn at once
        seed: another seed, other pictures
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.modelset import opened
    from goodeye.synth.draw import draw_all, gligen
    from goodeye.synth.layout import read_layouts

    planned = read_layouts(layouts)
    drawn = draw_all(gligen(opened(models, device)), planned, out, tries=tries, seed=seed, batch=batch)
    say(f"{drawn} pictures of {len(planned)} layouts were drawn into {out}.")
    return DONE


@command(synth, "synth score", resume=" ")
def synth_score(
    source: Annotated[Positional[Path], arg(metavar="LAYOUTS|COCO")],
    /,
    *,
    out: Annotated[Path, arg(metavar="RUN")],
    images: Annotated[Path | None, optional("FOLDER")] = None,
    priors: Annotated[Path | None, optional("PARQUET")] = None,
    alike: Literal["letters", "clip"] = "letters",
    by: Literal["region", "model"] = "region",
    thing: float = 60.0,
    image: Annotated[float | None, optional("SCORE")] = None,
    layout: Annotated[float | None, optional("SCORE")] = None,
    best: int = 1,
    quota: Annotated[int | None, optional("N")] = None,
    duplicates: float = 0.97,
    most: Annotated[int | None, optional("N")] = None,
    models: ModelSet = "showroom",
    server: ServerUrl = None,
    model: ModelName = None,
    batch: int = 16,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Scores layouts and labelled pictures, and picks the good ones; the same line goes on where it was stopped.

    Args:
        source: layouts (.jsonl), or a COCO instances file
        out: the folder of the scores and picks; other thresholds pick anew from the same scores
        images: the folder of the layouts' pictures, KEY.png or KEY-1.png; of COCO's, if not beside the file
        priors: what `goodeye synth priors` wrote; without it there is no CLIS-L
        alike: which categories of the priors may stand in for others: by spelling, or by the model set's CLIP
        by: CLIS-I by the model set's CLIP, region by region, or by a large model that describes and judges
        thing: a thing below it loses its label, a picture without any is rejected
        image: least CLIS-I of a picture
        layout: least CLIS-L of its layout
        best: pictures kept of each layout
        quota: labelled things of each category, at most
        duplicates: cosine from which a picture is too like a kept one; 0 looks for none
        most: pictures kept in all
        batch: pictures scored at once
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.modelset import opened
    from goodeye.synth.pick import Picking, summary
    from goodeye.synth.score import pick_run, read_set, score_set

    items, loaded = read_set(source, images), opened(models, device)
    drawn = any(one.file is not None for one in items)
    clis_l, scorer, told = _scorers(items, priors, alike, by if drawn else "", loaded, server, model)
    config = {"source": str(source.resolve()), "images": str(images.resolve()) if images else None, **told}
    skipped = score_set(items, out, clis_l, scorer, config, batch=batch)
    complain_of("goodeye synth score", skipped, "")
    picking = Picking(
        thing=thing, image=image, layout=layout, best=best, quota=quota, duplicates=duplicates or None, most=most
    )
    choices = pick_run(out, picking, loaded.clip if drawn and duplicates else None)
    say(summary(choices))
    write_json(json, {"kept": [one.key for one in choices if one.kept], "choices": [vars(one) for one in choices]})
    return BAD_INPUT if skipped else DONE


def _scorers(
    items: "Sequence[Item]",
    priors: Path | None,
    alike: str,
    by: str,
    models: Any,
    server: str | None,
    model: str | None,
) -> tuple[Any, Any, dict[str, Any]]:
    """CLIS-L, CLIS-I, and what they are, for the run's config."""
    from goodeye.errors import BadInput
    from goodeye.images import to_tensor

    clis_l, told = None, dict[str, Any]()
    if priors:
        from goodeye.synth.clis_l import ClisL
        from goodeye.synth.nearness import BY_LETTERS, by_clip
        from goodeye.synth.priors import open_priors

        store = open_priors(priors)
        encoder = by_clip(models.clip) if alike == "clip" else BY_LETTERS
        clis_l = ClisL.fit(store, encoder)
        told["clis_l"] = {"priors": str(priors.resolve()), "pairs": len(store), "encoder": encoder.name}
    if not (priors or by):
        raise BadInput("there are layouts alone, so there is only CLIS-L to score. Give --priors, or --images.")
    if by == "model":
        from goodeye.judging.large import LargeModel, cache_folder, server_from
        from goodeye.synth.told import score_all_told

        large = LargeModel(server_from(server, model), cache_folder())
        told["clis_i"] = {"by": large.server.model}
        return clis_l, lambda pictures, layouts: score_all_told(pictures, layouts, large, large), told
    if by == "region":
        from goodeye.synth.clis_i import RegionScorer

        things = [thing for one in items for thing in one.layout.things]
        known = sorted({one.category for one in things} | set(clis_l.look_up.priors.categories if clis_l else ()))
        region = RegionScorer(models.clip, known, sorted({word for one in things for word in one.attributes}))
        told["clis_i"] = {"by": models.model_set.name, "version": region.version, "licence": models.clip.licence}
        return clis_l, lambda pictures, layouts: region.score([to_tensor(p) for p in pictures], layouts), told
    return clis_l, None, told


@command(synth, "synth look")
def synth_look(
    run: Run,
    /,
    *,
    out: Annotated[Path | None, optional("HTML")] = None,
    most: int = 60,
) -> int:
    """Shows what was kept and what was rejected, with boxes, scores and reasons, as one page.

    Args:
        run: the folder that `goodeye synth score` wrote
        out: the page; look.html in that folder if not given
        most: kept pictures shown, and as many rejected ones
    """
    from goodeye.synth.look import write_page

    say(f"Page: {write_page(run, out, most)}")
    return DONE


@command(synth, "synth export")
def synth_export(
    run: Run,
    /,
    *,
    out: Annotated[Path, arg(metavar="FOLDER")],
    formats: Annotated[tuple[Literal["coco", "lvis", "yolo", "qa"], ...], arg(metavar="FORMAT...")] = (
        "coco",
        "lvis",
        "yolo",
        "qa",
    ),
    join: Annotated[Path | None, optional("COCO")] = None,
    json: Json = None,
) -> int:
    """Writes what was kept as a data set to train on, with a data card.

    Args:
        run: the folder that `goodeye synth score` wrote
        out: the folder of the set
        formats: coco, lvis, yolo, qa
        join: a COCO or LVIS file whose category ids are taken, so that both sets can be trained on together
    """
    from goodeye.runfolder import RunFolder
    from goodeye.synth.export import export
    from goodeye.synth.score import examples, read_picks
    from goodeye.synth.sources import read_categories

    about = RunFolder(run).config() | {"thresholds": read_picks(run)["picking"]}
    counts = export(examples(run), out, formats, categories=read_categories(join) if join else None, about=about)
    say(f"{counts['images']} pictures with {counts['annotations']} labelled things are in {out}.")
    write_json(json, counts)
    return DONE
