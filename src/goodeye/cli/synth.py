"""`goodeye synth`: concepts in, a training set for detectors out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import BAD_INPUT, DONE, Json, app, command, complain, optional, say, write_json

if TYPE_CHECKING:
    from goodeye.synth.layout import Layout

synth = SubcommandApp()
app.command(synth, name="synth", help="Concepts in, a training set for detectors out.")

ServerUrl = Annotated[str | None, optional("URL", "an OpenAI-compatible server; GOODEYE_SERVER if not given")]
ModelName = Annotated[str | None, optional("NAME", "its large model; GOODEYE_MODEL if not given")]


@command(synth, "synth priors")
def synth_priors(
    sources: Annotated[Positional[tuple[Path, ...]], optional("FILE...")],
    /,
    *,
    out: Annotated[Path, arg(metavar="PARQUET")],
    captions: Annotated[tuple[Path, ...], optional("FILE...")] = (),
    most: int = 2000,
    json: Json = None,
) -> int:
    """Gathers where things stand to each other in real pictures: the priors that plan and judge layouts.

    Args:
        sources: COCO instances, Visual Genome's relationships.json, layouts (.jsonl)
        out: the store to write
        captions: COCO captions of the same pictures: relations that people named
        most: pairs kept of one subject, relation and object, drawn at random
    """
    from goodeye.synth.sources import build_priors

    priors = build_priors(sources, captions, most=most)
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
