"""`goodeye synth`: concepts in, a training set for detectors out."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import DONE, Json, app, command, optional, say, write_json

synth = SubcommandApp()
app.command(synth, name="synth", help="Concepts in, a training set for detectors out.")


@command(synth, "synth priors")
def synth_priors(
    sources: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE...")],
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
