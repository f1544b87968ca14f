"""`goodeye edit`: pictures edited by words, steered by three rewards."""

import os
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    WHICH_LEDGER,
    Device,
    Images,
    Json,
    ModelSet,
    app,
    command,
    complain,
    complain_of,
    optional,
    row_of,
    say,
    write_json,
)
from goodeye.cli.search import ModelName, ServerUrl, server_named
from goodeye.edit.config import Train

edit = SubcommandApp()
app.command(edit, name="edit", help="Pictures edited by words, steered by three rewards.")

Triplets = Annotated[Positional[Path], arg(metavar="TRIPLETS")]
Row = Literal["no_reward", "best", "full", "scores", "text", "a", "b", "averaged", "shuffled"]


@command(edit, "edit annotate", resume=" ")
def edit_annotate(
    triplets: Annotated[Positional[str], arg(metavar="TRIPLETS|LEDGER")],
    /,
    *,
    out: Annotated[Path, arg(metavar="FOLDER")],
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    images: Images = None,
    server: ServerUrl = None,
    model: ModelName = None,
    workers: int = 4,
    again: bool = False,
    price: float = 0.0,
    price_read: float = 0.0,
    price_written: float = 0.0,
    json: Json = None,
) -> int:
    """Gives each triplet three scores and failure texts by a large model, or by what people voted on a ledger's edits;
    the same line goes on where it was stopped.

    Args:
        triplets: InsPix2Pix's folder or Parquet, RewardEdit's JSON, our Parquet, or a folder of Parquet files; those of
            the showroom need no model, since their facts are known; or a ledger with people's scores of edits
        out: folder for rewards.json, triplets.parquet and what is known so far
        run: of a ledger, only edits of these runs
        workers: triplets asked about at once
        again: ask once more for scores that are missing
        price: of one request, to show what it costs
        price_read: of a million tokens that the model reads
        price_written: of a million that it writes
    """
    from goodeye.edit.annotate import LargeAnnotator, Price, Spent, annotate
    from goodeye.edit.people import annotate_by_people
    from goodeye.edit.triplets import read_triplets
    from goodeye.errors import BadInput
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.ledger.training import is_ledger
    from goodeye.showroom.edits import FACTS, by_true_facts

    if is_ledger(triplets):
        if server or model:
            raise BadInput(f"{triplets} is a ledger, whose edits people scored. Leave --server and --model away.")
        said = annotate_by_people(triplets, out, images=images, runs=run)
        complain_of("goodeye edit annotate", said.skipped, "--json FILE names all of them")
        say(said.summary())
        write_json(json, said.to_json())
        return BAD_INPUT if said.skipped else DONE
    if run:
        raise BadInput(f"--run is of a ledger's runs, and {triplets} is none. Leave it away.")
    source = Path(triplets)
    if not source.exists():
        raise BadInput(f"There is no ledger in {triplets}, and there are no triplets. Check the path.")
    by_facts = (source / FACTS).is_file() and not (server or model or os.environ.get("GOODEYE_SERVER"))
    asked = None if by_facts else LargeModel(server_from(server, model), cache_folder())
    if out.resolve() == source.resolve():
        raise BadInput(f"{source} holds the triplets, whose table would stand in their place. Name another --out.")
    large = LargeAnnotator(asked) if asked else None
    done = annotate(
        read_triplets(source),
        large or by_true_facts(source),
        out,
        about={
            "job": "edit annotate",
            "triplets": str(source.resolve()),
            "model": asked.server.model if asked else "true facts",
        },
        spent=lambda: Spent.by(asked),
        price=Price(request=price, read=price_read, written=price_written),
        workers=workers,
        again=again,
    )
    complain_of("goodeye edit annotate", done.skipped, "--json FILE names all of them")
    if large and large.wrong:
        complain("goodeye edit annotate", f"some scores are missing. {large.wrong}. --again asks once more.")
    say(done.summary())
    write_json(json, done.to_json())
    return BAD_INPUT if done.skipped else DONE


@command(edit, "edit make", resume=" ")
def edit_make(
    image: Annotated[Positional[Path], arg(metavar="IMAGE|REAL-EDIT|TRIPLETS")],
    instruction: Annotated[Positional[str | None], optional("[INSTRUCTION]")] = None,
    /,
    *,
    out: Path = Path("goodeye-edit"),
    rewards: Annotated[str | None, optional("F,P,Q")] = None,
    n: Annotated[int, arg(aliases=["-n"])] = 4,
    models: ModelSet = "showroom",
    steps: Annotated[int | None, optional("N", "of the sampler, if not the model set's")] = None,
    text_guidance: Annotated[float | None, optional("S", "weight of the instruction")] = None,
    image_guidance: Annotated[float | None, optional("S", "weight of the picture")] = None,
    size: Annotated[int | None, optional("PIXELS", "longer side that the model works at")] = None,
    server: ServerUrl = None,
    model: ModelName = None,
    batch: int = 4,
    seed: int = 0,
    ledger: Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)] = None,
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Edits a picture by an instruction, several times; a large model, if one is named, chooses the best.

    Args:
        image: the picture; or, without an instruction, Real-Edit's folder or triplets, each of which is edited once
        instruction: what to change
        out: folder for 1.png and so on, sheet.png (before and after) and results.json; of a benchmark, for pictures/
        rewards: what is asked for, 0 to 5 each: following, preserving, quality; 5,5,5 if not given
        n: how many edits
        batch: edits made at once
        seed: another seed, other edits
    """
    from goodeye.edit.annotate import LargeAnnotator
    from goodeye.edit.generate import Settings, load_editor, settings_of
    from goodeye.edit.make import EDITED, make, make_all
    from goodeye.edit.measure import tasks_in
    from goodeye.edit.rewards import parse_rewards
    from goodeye.judging.large import LargeModel, cache_folder
    from goodeye.modelset import Models, resolve
    from goodeye.tables import PICTURES, Skipped

    wanted = parse_rewards(rewards) if rewards is not None else None
    loaded = Models(resolve(models), device=device)
    usual = settings_of(loaded.model_set)
    settings = Settings(
        size=usual.size if size is None else size,
        steps=usual.steps if steps is None else steps,
        text_guidance=usual.text_guidance if text_guidance is None else text_guidance,
        image_guidance=usual.image_guidance if image_guidance is None else image_guidance,
    )
    if instruction is None and image.suffix.lower() not in PICTURES:
        skipped: list[Skipped] = []
        tasks = tasks_in(image, skipped)
        count = make_all(
            tasks, load_editor(loaded), out, skipped, rewards=wanted, settings=settings, seed=seed, ledger=ledger
        )
        complain_of("goodeye edit make", skipped, "--json FILE names all of them")
        say(f"{count} pictures edited: {out / EDITED}")
        write_json(json, {"made": count, "skipped": [vars(one) for one in skipped]})
        return BAD_INPUT if skipped else DONE
    named = server_named(server, model)
    judge = LargeAnnotator(LargeModel(named, cache_folder())) if named else None
    made = make(
        image,
        instruction or "",
        load_editor(loaded),
        out,
        rewards=wanted,
        n=n,
        judge=judge,
        judged_by=("large", named.model) if named else ("judge", ""),
        settings=settings,
        seed=seed,
        batch=batch,
        ledger=ledger,
    )
    if judge and judge.wrong:
        complain(
            "goodeye edit make",
            f"some scores are missing{'' if made.best else ', so none is the best'}. {judge.wrong}.",
        )
    say(made.summary())
    write_json(json, made.to_json())
    return DONE


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
    from goodeye.edit.measure import LargeJudge, as_text, measure, tables, tasks_in
    from goodeye.errors import BadInput
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.tables import Skipped

    skipped: list[Skipped] = []
    tasks = tasks_in(of, skipped)
    judge = None if pixels else LargeJudge(LargeModel(server_from(server, model), cache_folder()))
    found = measure(tasks, edited, judge, skipped)
    complain_of("goodeye edit measure", skipped, "--json FILE names all of them")
    if not found:
        raise BadInput(f"{edited} has no picture of a task. Name them by their tasks, as 10-local.png.")
    if pixels and not any(one.pixels for one in found):
        raise BadInput(
            f"no task of {of} has a mask, so no pixels can be compared. Leave --pixels, or name triplets with masks."
        )
    if judge and judge.wrong:
        complain("goodeye edit measure", f"some answers are missing. {judge.wrong}.")
    rows = tables(found)
    say(as_text(rows))
    write_json(json, {"rows": rows, "skipped": [vars(one) for one in skipped]})
    return BAD_INPUT if skipped else DONE


@command(edit, "edit triplets")
def edit_triplets(
    out: Annotated[Positional[Path], arg(metavar="FOLDER")],
    /,
    *,
    count: int = 64,
    size: int = 128,
    seed: int = 0,
    faulty: float = 0.35,
) -> int:
    """Renders the showroom's triplets, with masks and with rewards by true facts, to learn and to measure on.

    Args:
        out: folder for the triplets, as InsPix2Pix has them, rewards.json and facts.json
        count: how many
        size: pixels a side
        seed: of the world
        faulty: the share with a fault, for each of three sorts: not followed, details lost, artefacts
    """
    from goodeye.showroom.edits import write_edits

    write_edits(out, count, seed, size, faulty)
    say(f"{count} triplets: {out}")
    return DONE


@command(edit, "edit train", resume="--resume")
def edit_train(
    triplets: Triplets,
    /,
    *,
    train: Train,
    out: Path = Path("runs/edit-train"),
    models: ModelSet = "showroom",
    cache: Annotated[Path | None, optional("FOLDER")] = None,
    device: Device = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains an editor from a text-to-image model (stage 1), or with rewards as its condition (stage 2).

    Args:
        triplets: as for `goodeye edit annotate`; stage 2 takes those with three rewards
        out: folder for editor/, rewards/, editor.toml (a model set), checkpoints and metrics.jsonl
        cache: encode every picture once and keep that there; pictures are neither cut nor mirrored then
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.edit.train import train as fit
    from goodeye.edit.triplets import read_triplets
    from goodeye.modelset import Models, resolve
    from goodeye.training.processes import is_cpu, own_device

    train.check()
    loaded, cpu = Models(resolve(models), device=own_device(device)), is_cpu(device)
    done = fit(read_triplets(triplets), loaded, out, config=train, cache=cache, resume=resume, cpu=cpu)
    complain_of("goodeye edit train", done.skipped, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.to_json())
    return BAD_INPUT if done.skipped else DONE


@command(edit, "edit prove", resume=" ")
def edit_prove(
    *,
    n: int = 128,
    seed: int = 0,
    models: ModelSet = "showroom",
    row: Annotated[UseAppendAction[tuple[str, ...]], optional("NAME=FOLDER")] = (),
    retrain: bool = False,
    rows: Annotated[tuple[Row, ...], optional("ROW...")] = (),
    triplets: int = 8192,
    steps: int = 1000,
    sweep: int = 48,
    batch: int = 16,
    out: Path = Path("goodeye-edit-proof"),
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Measures editors on unseen edits of the showroom, side by side, by their known truth.

    Args:
        n: how many edits
        seed: another seed, other edits
        row: a row more, of what `goodeye edit train` trained; or in place of the shipped one of that name
        retrain: train the rows of stage 2 first, all from the same editor on the same triplets in as many steps
        rows: with --retrain, which of them; all if not given
        triplets: with --retrain, on how many
        steps: with --retrain, of each row
        sweep: edits on which each reward is asked for at 0 to 5
        batch: edits made at once
        out: folder for pictures, results.json and report.html; what is there already is not made again
    """
    from goodeye.edit.prove import Prove, prove
    from goodeye.edit.prove_report import table
    from goodeye.modelset import Models, resolve
    from goodeye.showroom.edit_truth import bench
    from goodeye.showroom.editor import rows_of, train_rows

    config = Prove(seed=seed, sweep=sweep, batch=batch)
    config.check()
    found = rows_of(resolve(models))
    if retrain:
        found |= train_rows(found, rows, out / "training", triplets, steps, device)
    found |= {name: resolve(folder / "editor.toml") for name, folder in map(row_of, row)}
    proof = prove(bench(seed, n), {name: Models(one, device) for name, one in found.items()}, config=config, out=out)
    say(table(proof.numbers))
    say(f"Report: {proof.report}")
    write_json(json, proof.numbers)
    return DONE
