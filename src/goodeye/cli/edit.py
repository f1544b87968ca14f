"""`goodeye edit`: pictures edited by words, steered by three rewards."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import BAD_INPUT, DONE, Json, app, command, complain_of, say, write_json
from goodeye.cli.search import ModelName, ServerUrl

edit = SubcommandApp()
app.command(edit, name="edit", help="Pictures edited by words, steered by three rewards.")

Triplets = Annotated[Positional[Path], arg(metavar="TRIPLETS")]


@command(edit, "edit annotate", resume=" ")
def edit_annotate(
    triplets: Triplets,
    /,
    *,
    out: Annotated[Path, arg(metavar="FOLDER")],
    server: ServerUrl = None,
    model: ModelName = None,
    workers: int = 4,
    price: float = 0.0,
    json: Json = None,
) -> int:
    """Gives each triplet three scores and failure texts by a large model; the same line goes on where it was stopped.

    Args:
        triplets: InsPix2Pix's folder or Parquet, RewardEdit's JSON, our Parquet, or a folder of Parquet files
        out: folder for rewards.json, triplets.parquet and what is known so far
        workers: triplets asked about at once
        price: of one request, to show what it costs
    """
    from goodeye.edit.annotate import LargeAnnotator, annotate
    from goodeye.edit.triplets import read_triplets
    from goodeye.judging.large import LargeModel, cache_folder, server_from

    named = server_from(server, model)
    asked = LargeModel(named, cache_folder())
    done = annotate(
        read_triplets(triplets),
        LargeAnnotator(asked),
        out,
        about={"job": "edit annotate", "triplets": str(triplets.resolve()), "model": named.model},
        requests=lambda: asked.requests,
        price=price,
        workers=workers,
    )
    complain_of("goodeye edit annotate", done.skipped, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.to_json())
    return BAD_INPUT if done.skipped else DONE


@command(edit, "edit measure")
def edit_measure(
    edited: Annotated[Positional[Path], arg(metavar="EDITED")],
    /,
    *,
    of: Annotated[Path, arg(metavar="REAL-EDIT|TRIPLETS")],
    server: ServerUrl = None,
    model: ModelName = None,
    pixels: bool = False,
    json: Json = None,
) -> int:
    """Measures edited pictures by a large model (Real-Edit's way) and by the pixels outside the edited region.

    Args:
        edited: a folder with a picture for each task: 10-local.png for Real-Edit's 10.jpeg, KEY.png for a triplet
        of: Real-Edit's folder (eval_instruct.json, imgs/), or triplets, with masks if SSIM, PSNR and L1 are wanted
        pixels: measure pixels alone, without a large model
    """
    from goodeye.edit.measure import INSTRUCTIONS, LargeJudge, as_text, measure, read_real_edit, tables, tasks_of
    from goodeye.edit.triplets import read_triplets, usable
    from goodeye.errors import BadInput
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.judging.tables import Skipped

    skipped: list[Skipped] = []
    if (of / INSTRUCTIONS).is_file():
        listed = list(read_real_edit(of))
        tasks = [one for one in listed if not isinstance(one, Skipped)]
        skipped += [one for one in listed if isinstance(one, Skipped)]
    else:
        tasks = tasks_of(usable(read_triplets(of), skipped))
    judge = None if pixels else LargeJudge(LargeModel(server_from(server, model), cache_folder()))
    found = measure(tasks, edited, judge, skipped)
    complain_of("goodeye edit measure", skipped, "--json FILE names all of them")
    if not found:
        raise BadInput(f"{edited} has no picture of a task. Name them by their tasks, as 10-local.png.")
    rows = tables(found)
    say(as_text(rows))
    write_json(json, {"rows": rows, "skipped": [vars(one) for one in skipped]})
    return BAD_INPUT if skipped else DONE
