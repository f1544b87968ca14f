"""`goodeye synth make`, which does all of it, and `goodeye synth prove`, which measures what that is worth."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    Device,
    Json,
    ModelSet,
    command,
    complain,
    complain_of,
    optional,
    say,
    write_json,
)
from goodeye.cli.synth import (
    ConceptsFile,
    Draws,
    Formats,
    Join,
    Judged,
    Large,
    Picks,
    Plans,
    WhichLedger,
    synth,
    version_of,
)


@command(synth, "synth make", resume=" ")
def synth_make(
    concepts: ConceptsFile,
    /,
    *,
    images: int,
    out: Annotated[Path, arg(metavar="FOLDER")],
    priors: Annotated[Path | None, optional("PARQUET")] = None,
    plans: Plans,
    draws: Draws,
    judged: Judged,
    picks: Picks,
    tries: int = 4,
    rounds: int = 8,
    masks: bool = False,
    boxes: Literal["layout", "mask"] = "layout",
    formats: Formats = ("coco", "lvis", "yolo", "qa"),
    join: Join = None,
    models: ModelSet = "showroom",
    large: Large,
    ledger: WhichLedger = None,
    seed: int = 0,
    batch: int = 8,
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Makes a training set of concepts: plans, draws, scores, picks, exports; the same line goes on after a stop.

    Args:
        concepts: a category a line, with attributes to choose from after a colon: mug: red, blue
        images: pictures in the set
        out: the folder of the set; run/ below it keeps all that was drawn, with scores and reasons
        priors: what `goodeye synth priors` wrote; of the showroom's layouts if not given
        tries: pictures of each layout, of which the best may be kept
        rounds: so often at most, new layouts are planned for what is still missing
        masks: find a mask for each thing: by the set's SAM (role segmenter), exact ones of the renderer
        boxes: of the labels: the layouts', or those around the masks
        formats: coco, lvis, yolo, qa
        seed: the same seed gives the same set on the same machine
        batch: pictures drawn and scored at once
    """
    from goodeye.modelset import opened
    from goodeye.synth.make import Make, Means, make
    from goodeye.synth.pick import summary
    from goodeye.synth.plan import read_concepts
    from goodeye.synth.priors import open_priors
    from goodeye.synth.sources import read_categories

    wanted, loaded = read_concepts(concepts), opened(models, device)
    store = priors or _showroom_priors(out / "run" / "priors.parquet")
    known = open_priors(store)
    known.require(wanted)
    drawer, drawn_by = draws.drawer(loaded)
    clis_l, by_layout = judged.clis_l(store, loaded)
    words = [word for one in wanted.values() for word in one]
    scorer, by_image = judged.clis_i(loaded, large, [*wanted, *known.categories], words)
    planner = large.asked() if plans.by_model else None
    masker, masked_by = draws.masker(loaded, seed) if masks or boxes == "mask" else (None, None)
    clip = loaded.clip if picks.duplicates else None
    means = Means(
        priors=known, draw=drawer, scorer=scorer, clis_l=clis_l,
        about={"draw": drawn_by, "clis_l": by_layout, "clis_i": by_image, "masks": masked_by,
               "near-duplicates": {"by": loaded.model_set.name, "licence": clip.licence} if clip else None,
               "planner": planner.server.model if planner else "priors",
               "join": str(join.resolve()) if join else None},
        clip=clip,
        planner=planner,
        masker=masker,
        categories=read_categories(join) if join else None,
        version=version_of(by_image),
        evals=draws.evals(loaded),
    )  # fmt: skip
    config = Make(
        images=images, tries=tries, rounds=rounds, seed=seed, batch=batch, planning=plans.planning(seed),
        picking=picks.picking(), formats=formats, boxes=boxes,
    )  # fmt: skip
    made = make(wanted, out, means, config, ledger=ledger)
    complain_of("goodeye synth make", [*made.unread, *made.left_out], "see the scores in run/")
    if made.failed:
        complain("goodeye synth make", f"{made.failed} combinations could not be laid out; see {out}/run/failed.jsonl")
    found = made.counts["images"]
    if found < images:
        why = "more rounds or tries, or a lower threshold, give more"
        complain("goodeye synth make", f"only {found} of {images} pictures could be had: {why}")
    say(f"{found} of {images} pictures asked for are in {out}, with {made.counts['annotations']} labelled things.")
    say(f"Drawn: {summary(made.choices)}")
    write_json(json, made.to_json())
    return BAD_INPUT if made.unread or made.left_out or made.failed else DONE


def _showroom_priors(file: Path, count: int = 3000) -> Path:
    """The showroom's own priors, written once."""
    if not file.exists():
        from goodeye.showroom.layouts import layouts
        from goodeye.synth.sources import build_priors

        build_priors([], [], layouts(count)).save(file)
    return file


OFTEN_WRONG = Draws(draw="renderer", faults=0.4)  # what is wrong is known, and picking the right ones can help


@command(synth, "synth prove", resume=" ")
def synth_prove(
    *,
    seeds: int = 3,
    seed: int = 0,
    real: int = 300,
    test: int = 720,
    layouts: int = 640,
    tries: int = 4,
    bins: int = 8,
    binned: int = 3,
    steps: int = 3000,
    more: int = 600,
    draws: Draws = OFTEN_WRONG,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-synth-proof"),
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Measures on the showroom whether picks by CLIS make a detector better than random ones, and than other picks.

    Args:
        seeds: detectors of each row
        seed: the first seed; another one, other pictures
        real: long-tailed labelled pictures that every detector begins with
        test: pictures it is measured on, all categories alike
        layouts: planned for each seed; pictures of a half of them are picked
        tries: pictures drawn of each layout
        bins: of equally many drawn pictures by their score, a detector each
        binned: how many seeds have bins, too: the first ones
        steps: of training on the real pictures alone
        more: steps from there on, of every row
        out: folder for all of it, report.html and results.json; the same line goes on where it was stopped
    """
    from goodeye.modelset import opened
    from goodeye.showroom.layouts import CATEGORIES, long_tail, render_folder
    from goodeye.showroom.layouts import layouts as sampled
    from goodeye.showroom.products import COLOURS
    from goodeye.synth.prove import Ground, Prove, prove
    from goodeye.synth.prove_report import table

    loaded = opened(models, device)
    drawer, drawn_by = draws.drawer(loaded)
    concepts = dict.fromkeys(CATEGORIES, tuple(COLOURS))
    scorer, by_image = Judged().clis_i(loaded, Large(), CATEGORIES, tuple(COLOURS))
    ground = Ground(
        concepts=concepts,
        real=partial(_rendered, render_folder, long_tail(1.5)),
        test=partial(_rendered, render_folder, long_tail(0)),
        layouts=lambda count, of: sampled(count, of),
        draw=drawer,
        clip=loaded.clip,
        scorer=scorer,
        about={"draw": drawn_by, "clis_i": by_image, "models": models},
    )
    config = Prove(
        seeds=seeds,
        seed=seed,
        real=real,
        test=test,
        layouts=layouts,
        tries=tries,
        bins=bins,
        binned=binned,
        steps=steps,
        more=more,
    )
    numbers = prove(ground, out, config)
    say(table(numbers))
    say(f"Report: {out / 'report.html'}")
    write_json(json, numbers)
    return DONE


def _rendered(render_folder: Any, weights: Any, folder: Path, count: int, seed: int) -> None:
    render_folder(folder, count=count, seed=90_000 + seed, weights=weights)
