"""`goodeye synth`: concepts in, a training set for detectors out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    WHICH_LEDGER,
    Device,
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
    from goodeye.judging.large import LargeModel
    from goodeye.modelset import Models
    from goodeye.synth.clis_l import ClisL
    from goodeye.synth.draw import Draw
    from goodeye.synth.layout import Layout, Thing
    from goodeye.synth.masks import Masker
    from goodeye.synth.pick import Picking
    from goodeye.synth.plan import Planning
    from goodeye.synth.score import Scorer

synth = SubcommandApp()
app.command(synth, name="synth", help="Concepts in, a training set for detectors out.")

DRAWING = ("layout_unet", "unet", "text_encoder", "vae")  # roles whose licences a drawn set's card names
Run = Annotated[Positional[Path], arg(metavar="RUN")]
WhichLedger = Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)]
ConceptsFile = Annotated[Positional[Path], arg(metavar="CONCEPTS.txt")]
Formats = Annotated[tuple[Literal["coco", "lvis", "yolo", "qa"], ...], arg(metavar="FORMAT...")]
Join = Annotated[Path | None, optional("COCO", "a COCO or LVIS file whose category ids are taken")]


@dataclass(frozen=True, kw_only=True)
class Large:
    """A large model behind an OpenAI-compatible server."""

    server: Annotated[str | None, optional("URL")] = None
    """where it is; GOODEYE_SERVER if not given"""
    model: Annotated[str | None, optional("NAME")] = None
    """its name; GOODEYE_MODEL if not given"""

    def asked(self) -> "LargeModel":
        """The model. Raises BadInput where none is named."""
        from goodeye.judging.large import LargeModel, cache_folder, server_from

        return LargeModel(server_from(self.server, self.model), cache_folder())


@dataclass(frozen=True, kw_only=True)
class Plans:
    """What is planned."""

    things: tuple[int, int] = (2, 4)
    """in a picture, at least and at most"""
    tail: float = 0.3
    """share of the layouts that begin with a rare concept"""
    rare: int = 10
    """a concept in at most so many pairs of the priors is rare"""
    by_model: bool = False
    """a large model describes each combination and lays it out"""

    def planning(self, seed: int) -> "Planning":
        """For `plan`."""
        from goodeye.synth.plan import Planning

        return Planning(things=self.things, tail=self.tail, rare=self.rare, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How layouts and pictures are scored."""

    alike: Annotated[str, arg(metavar="letters|clip|MODEL")] = "letters"
    """which categories of the priors may stand in for others: by spelling, by the model set's CLIP, or by a sentence
    encoder, a folder or hub id"""
    by: Literal["region", "model"] = "region"
    """CLIS-I by the model set's CLIP, region by region, or by a large model that describes and judges"""

    def clis_l(self, priors: Path, models: "Models") -> "tuple[ClisL, dict[str, Any]]":
        """CLIS-L by these priors, and what it is, for the run's config."""
        from goodeye.synth.clis_l import ClisL
        from goodeye.synth.nearness import BY_LETTERS, by_clip, sentences_of
        from goodeye.synth.priors import open_priors

        store, encoder = open_priors(priors), BY_LETTERS
        if self.alike != "letters":
            encoder = by_clip(models.clip) if self.alike == "clip" else sentences_of(self.alike)
        judge = ClisL.fit(store, encoder)
        about = {"priors": priors.name, "pairs": len(store), "encoder": encoder.name}
        return judge, about | {"version": judge.version}

    def clis_i(
        self, models: "Models", large: Large, known: Sequence[str], attributes: Sequence[str]
    ) -> "tuple[Scorer, dict[str, Any]]":
        """CLIS-I among these categories and attributes, and what it is."""
        if self.by == "model":
            from goodeye.synth.told import score_all_told

            asked = large.asked()
            told = {"by": asked.server.model}
            return lambda pictures, layouts, rivals: score_all_told(pictures, layouts, asked, asked), told
        from goodeye.synth.clis_i import RegionScorer, region_clip

        clip = region_clip(models)
        region = RegionScorer(clip, sorted(set(known)), sorted(set(attributes)))
        told = {"by": models.model_set.name, "version": region.version, "licence": clip.licence}
        return region.of_pictures, told


def version_of(told: Mapping[str, Any]) -> str:
    """Of the judge that `Judged.clis_i` tells of: its own, or a large model's name."""
    return str(told.get("version", told.get("by", "")))


@dataclass(frozen=True, kw_only=True)
class Picks:
    """What is kept."""

    thing: float = 60.0
    """a thing below it loses its label, a picture without any is rejected"""
    image: Annotated[float | None, optional("SCORE")] = None
    """least CLIS-I of a picture"""
    layout: Annotated[float | None, optional("SCORE")] = None
    """least CLIS-L of its layout"""
    best: int = 1
    """pictures kept of each layout"""
    quota: Annotated[int | None, optional("N")] = None
    """labelled things of each category, at most"""
    duplicates: float = 0.97
    """cosine from which a picture is too like a kept one; 0 looks for none"""

    def picking(self, most: int | None = None) -> "Picking":
        """For `pick`."""
        from goodeye.synth.pick import Picking

        return Picking(**{**vars(self), "duplicates": self.duplicates or None}, most=most)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What draws."""

    draw: Literal["gligen", "renderer"] = "gligen"
    """the model set's GLIGEN, or the showroom's renderer, which needs no model"""
    faults: float = 0.0
    """share of things that the renderer draws wrongly"""

    def drawer(self, models: "Models") -> "tuple[Draw, dict[str, Any]]":
        """What draws, and what it is, for the run's config."""
        if self.draw == "renderer":
            from goodeye.showroom.painter import Painter

            return Painter(faults=self.faults), {"by": "the showroom's renderer", "faults": self.faults}
        from goodeye.hub import split_reference
        from goodeye.judging.licence import licence_of
        from goodeye.modelset import reference
        from goodeye.synth.draw import gligen

        drawer, roles = gligen(models), models.model_set.roles
        licences = {role: licence_of(split_reference(roles[role])[0]) for role in DRAWING if role in roles}
        return drawer, {"by": "gligen", "models": reference(models), "licences": licences}

    def evals(self, models: "Models") -> int:
        """Calls of the denoiser for a picture, for the ledger."""
        return models.model_set.settings.steps if self.draw == "gligen" else 0

    def masker(self, models: "Models", seed: int) -> "tuple[Masker, dict[str, Any]]":
        """Exact masks of what the renderer drew, or else the model set's SAM; and what it is."""
        if self.draw == "renderer":
            from goodeye.showroom.painter import Painter

            return Painter(faults=self.faults).masker(seed), {"by": "the showroom's renderer"}
        from goodeye.hub import split_reference
        from goodeye.judging.licence import licence_of
        from goodeye.synth.masks import sam

        place = models.model_set.roles.get("segmenter", "")
        return sam(models), {"by": place, "licence": licence_of(split_reference(place)[0])}


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
    concepts: ConceptsFile,
    /,
    *,
    priors: Annotated[Path, arg(metavar="PARQUET")],
    out: Annotated[Path, arg(metavar="LAYOUTS")],
    n: Annotated[int, arg(aliases=["-n"])] = 100,
    plans: Plans,
    large: Large,
    seed: int = 0,
    json: Json = None,
) -> int:
    """Plans what to draw: combinations of the concepts, and where they stand, as in real pictures.

    Args:
        concepts: a category a line, with attributes to choose from after a colon: mug: red, blue
        priors: what `goodeye synth priors` wrote
        out: the layouts, a JSON line each; what a large model failed at goes to a file beside it
        n: how many layouts
        seed: the same seed gives the same plans
    """
    from goodeye.synth.layout import write_layouts
    from goodeye.synth.plan import plan, read_concepts
    from goodeye.synth.priors import open_priors

    planned = plan(open_priors(priors), read_concepts(concepts), n, plans.planning(seed))
    if plans.by_model:
        return _by_model(planned, out, large, json)
    write_layouts(out, planned)
    say(f"{len(planned)} layouts are in {out}.")
    write_json(json, {"layouts": len(planned), "failed": []})
    return DONE


def _by_model(plans: "Sequence[Layout]", out: Path, large: Large, json: Path | None) -> int:
    from goodeye.atomic import append
    from goodeye.progress import track
    from goodeye.synth.describe import Failed, ask_for_all
    from goodeye.synth.layout import write_layouts

    answers = list(track(ask_for_all(large.asked(), plans), "asking for layouts", len(plans), "layouts"))
    failed = [one for one in answers if isinstance(one, Failed)]
    made = [one for one in answers if not isinstance(one, Failed)]
    for one in failed:
        complain("goodeye synth plan", f"{one.key}: {one.message}")
    beside = out.with_name(f"{out.stem}.failed.jsonl")
    beside.unlink(missing_ok=True)
    if failed:
        append(beside, *map(vars, failed))
    if not made:
        complain("goodeye synth plan", f"no layout came of it, so {out} is not written; see {beside}")
        write_json(json, {"layouts": 0, "repaired": 0, "failed": [vars(one) for one in failed]})
        return BAD_INPUT
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
    draws: Draws,
    models: ModelSet = "showroom",
    tries: int = 4,
    batch: int = 8,
    ledger: WhichLedger = None,
    seed: int = 0,
    device: Device = "cpu",
) -> int:
    """Draws layouts; the same line goes on where it was stopped.

    Args:
        layouts: what `goodeye synth plan` wrote
        out: the folder of the pictures, KEY-1.png, KEY-2.png and so on
        tries: pictures of each layout
        batch: pictures drawn at once
        seed: another seed, other pictures
    """
    from goodeye.modelset import opened
    from goodeye.runfolder import mark_of
    from goodeye.synth import book as record
    from goodeye.synth.draw import draw_all, require_counts
    from goodeye.synth.layout import read_layouts

    require_counts(tries, batch)
    planned, loaded = read_layouts(layouts), opened(models, device)
    drawer, drawn_by = draws.drawer(loaded)
    told = {"job": record.DRAW, "layouts": mark_of(layouts), "draw": drawn_by, "seed": seed}
    with record.opened(out, told, ledger, seed, evals=draws.evals(loaded)) as book:
        drawn = draw_all(drawer, planned, out, tries=tries, seed=seed, batch=batch, on_picture=book.drawn)
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
    judged: Judged,
    picks: Picks,
    most: Annotated[int | None, optional("N")] = None,
    models: ModelSet = "showroom",
    large: Large,
    ledger: Annotated[
        str | None, optional("FOLDER|URL", "of pictures that `synth draw` drew, if not where it did")
    ] = None,
    batch: int = 16,
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Scores layouts and labelled pictures, and picks the good ones; the same line goes on where it was stopped.

    Args:
        source: layouts (.jsonl), or a COCO instances file
        out: the folder of the scores and picks; other thresholds pick anew from the same scores
        images: the folder of the layouts' pictures, KEY.png or KEY-1.png; of COCO's, if not beside the file
        priors: what `goodeye synth priors` wrote; without it there is no CLIS-L
        most: pictures kept in all
        batch: pictures scored at once
    """
    from goodeye.errors import BadInput
    from goodeye.modelset import opened
    from goodeye.runfolder import mark_of
    from goodeye.synth.book import CLIS_I, CLIS_L, drawn_by_us
    from goodeye.synth.pick import summary
    from goodeye.synth.score import pick_run, read_scores, read_set, score_set
    from goodeye.synth.sources import licences_of
    from goodeye.tables import Skipped

    picking, left_out = picks.picking(most), list[Skipped]()
    items, loaded = read_set(source, images, left_out), opened(models, device)
    drawn = any(one.file is not None for one in items)
    if not (priors or drawn):
        raise BadInput("there are layouts alone, so there is only CLIS-L to score. Give --priors, or --images.")
    config: dict[str, Any] = {"source": mark_of(source), "images": str(images.resolve()) if images else None}
    if source.suffix != ".jsonl" and (licences := licences_of(source)):
        config["licences"] = ", ".join(licences)  # for the data card
    clis_l, scorer, known = None, None, list[str]()
    if priors:
        clis_l, config["clis_l"] = judged.clis_l(priors, loaded)
        known = list(clis_l.look_up.priors.categories)
    if drawn:
        things: list[Thing] = [thing for one in items for thing in one.layout.things]
        words = [word for one in things for word in one.attributes]
        known += [one.category for one in things]
        scorer, config["clis_i"] = judged.clis_i(loaded, large, known, words)
    versions = {CLIS_I: version_of(config.get("clis_i", {})), CLIS_L: clis_l.version if clis_l else ""}
    with drawn_by_us(images, versions, ledger) as book:
        noted = {"on_row": book.scored} if book else {}
        skipped = score_set(items, out, clis_l, scorer, config, batch=batch, **noted)
        choices = pick_run(out, picking, loaded.clip if drawn and picks.duplicates else None)
        if book:
            book.picked(read_scores(out), choices)
    skipped += left_out
    complain_of("goodeye synth score", skipped, "--json FILE names all of them")
    say(summary(choices, "pictures" if drawn else "layouts"))
    found = {"kept": [one.key for one in choices if one.kept], "choices": [vars(one) for one in choices]}
    write_json(json, found | {"skipped": [vars(one) for one in skipped]})
    return BAD_INPUT if skipped else DONE


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
    formats: Formats = ("coco", "lvis", "yolo", "qa"),
    join: Join = None,
    boxes: Literal["layout", "mask"] = "layout",
    json: Json = None,
) -> int:
    """Writes what was kept as a data set to train on, with a data card.

    Args:
        run: the folder that `goodeye synth score` wrote
        out: the folder of the set
        formats: coco, lvis, yolo, qa
        boxes: of the labels: the layouts', or those around the masks that the run has
    """
    from goodeye.ledger.begun import told_of
    from goodeye.runfolder import RunFolder
    from goodeye.synth.export import export
    from goodeye.synth.score import examples, read_picks
    from goodeye.synth.sources import read_categories
    from goodeye.tables import Skipped

    about = told_of(RunFolder(run)) | {"thresholds": read_picks(run)["picking"], "boxes": boxes}
    skipped: list[Skipped] = []
    ids = read_categories(join) if join else None
    counts = export(examples(run, boxes, skipped), out, formats, categories=ids, about=about, skipped=skipped)
    complain_of("goodeye synth export", skipped, "--json FILE names all of them")
    say(f"{counts['images']} pictures with {counts['annotations']} labelled things are in {out}.")
    write_json(json, counts | {"skipped": [vars(one) for one in skipped]})
    return BAD_INPUT if skipped else DONE
