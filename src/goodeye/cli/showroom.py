"""`goodeye showroom`: the embedded world, and its small models."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from goodeye.ads.settings import Budget
from goodeye.cli.common import DONE, Json, ModelSet, command, optional, say, showroom, write_json


@command(showroom, "showroom render")
def showroom_render(
    out: Positional[Path],
    /,
    *,
    count: int = 16,
    size: int = 128,
    seed: int = 0,
) -> int:
    """Renders scenes of the showroom with their depth, saliency, masks, boxes, captions and labels.

    Args:
        out: folder for the pictures and their labels
        count: how many scenes
        size: pixels a side
        seed: the same seed gives the same scenes
    """
    from goodeye.showroom.folder import render_folder

    render_folder(out, count=count, size=size, seed=seed)
    say(f"{count} scenes are in {out}.")
    return DONE


@command(showroom, "showroom build", resume=" ")
def showroom_build(
    out: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    *,
    only: Annotated[tuple[str, ...], optional("ROLE...")] = (),
) -> int:
    """Trains the showroom's models from nothing, in their order; goes on where an earlier call was stopped.

    Args:
        out: folder for the models, a folder a role, and for the checkpoints
        only: train just these roles anew, with the others' finished models
    """
    from goodeye.showroom.build import build

    say(f"Models: {build(out, only=only, say=partial(print, file=sys.stderr, flush=True))}")
    return DONE


@command(showroom, "showroom compare", resume=" ")
def showroom_compare(
    out: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    *,
    own: float = 0.5,
    variants: Annotated[tuple[str, ...], optional("VARIANT...")] = (),
    json: Json = None,
) -> int:
    """Trains RFNet, a ResNet of like size that sees the image alone, and RFNet with each modality left out, on the same
    pictures of the showroom for as long; hours on a CPU. Goes on where an earlier call was stopped.

    Args:
        out: folder for pictures and runs, or of a build
        own: share of products that have an unusual part of their own, which only their own picture tells from something
            grown; with 0 the pictures that the shipped RFNet learned from
        variants: RFNet and only these: image (the ResNet), product, depth, saliency, title (what is left out)
    """
    from goodeye.judging.rfnet_compare import named
    from goodeye.judging.rfnet_report import text_table
    from goodeye.showroom.build import compare_rfnet

    told = partial(print, file=sys.stderr, flush=True)
    rows = compare_rfnet(out, say=told, own=own, variants=named(variants))
    say(text_table(rows))
    write_json(json, {"own": own, "rows": [row.to_json() for row in rows]})
    return DONE


@command(showroom, "showroom align", resume=" ")
def showroom_align(
    out: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    *,
    budget: Budget,
    rows: Annotated[tuple[str, ...], optional("ROW...")] = (),
    models: ModelSet = "showroom",
) -> int:
    """Trains the aligned adapters that ship with the showroom; goes on where an earlier call was stopped.

    Args:
        out: folder for the runs, and for weights/align/ROW, ready to ship
        rows: only these: refl, rfft_none, rfft_kl, rfft_cc, dpo
    """
    from goodeye.showroom.adapters import build_adapters

    told = partial(print, file=sys.stderr, flush=True)
    say(f"Adapters: {build_adapters(out, rows=rows, budget=budget, models=models, say=told)}")
    return DONE


@command(showroom, "showroom prove")
def showroom_prove(
    *,
    n: int = 128,
    seed: int = 0,
    attempts: int = 5,
    models: ModelSet = "showroom",
    json: Json = None,
) -> int:
    """Measures the shipped ads models on fresh briefs, by the oracle: one attempt, and recurrent generation.

    Args:
        n: how many briefs
        seed: another seed, other briefs
        attempts: at most so many for each brief
    """
    from goodeye.showroom.prove import prove, table

    result = prove(n, seed, attempts=attempts, models=models)
    say(table(result))
    write_json(json, result)
    return DONE
