"""`goodeye edit`: pictures edited by words, steered by three rewards."""

import os
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    Json,
    ModelSet,
    app,
    command,
    complain_of,
    optional,
    say,
    write_json,
)
from goodeye.cli.search import ModelName, ServerUrl, server_named

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
        triplets: InsPix2Pix's folder or Parquet, RewardEdit's JSON, our Parquet, or a folder of Parquet files; those of
            the showroom need no model, since their facts are known
        out: folder for rewards.json, triplets.parquet and what is known so far
        workers: triplets asked about at once
        price: of one request, to show what it costs
    """
    from goodeye.edit.annotate import LargeAnnotator, annotate
    from goodeye.edit.triplets import read_triplets
    from goodeye.judging.large import LargeModel, cache_folder, server_from
    from goodeye.showroom.edits import FACTS, by_true_facts

    by_facts = (triplets / FACTS).is_file() and not (server or model or os.environ.get("GOODEYE_SERVER"))
    asked = None if by_facts else LargeModel(server_from(server, model), cache_folder())
    done = annotate(
        read_triplets(triplets),
        LargeAnnotator(asked) if asked else by_true_facts(triplets),
        out,
        about={
            "job": "edit annotate",
            "triplets": str(triplets.resolve()),
            "model": asked.server.model if asked else "true facts",
        },
        requests=lambda: asked.requests if asked else 0,
        price=price,
        workers=workers,
    )
    complain_of("goodeye edit annotate", done.skipped, "--json FILE names all of them")
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
    device: str = "cpu",
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
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.edit.annotate import LargeAnnotator
    from goodeye.edit.generate import Settings, load_editor, settings_of
    from goodeye.edit.make import EDITED, make, make_all
    from goodeye.edit.measure import tasks_in
    from goodeye.edit.rewards import parse_rewards
    from goodeye.judging.large import LargeModel, cache_folder
    from goodeye.judging.tables import PICTURES, Skipped
    from goodeye.modelset import Models, resolve

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
        count = make_all(tasks, load_editor(loaded), out, skipped, rewards=wanted, settings=settings, seed=seed)
        complain_of("goodeye edit make", skipped, "--json FILE names all of them")
        say(f"{count} pictures edited: {out / EDITED}")
        write_json(json, {"made": count, "skipped": [vars(one) for one in skipped]})
        return BAD_INPUT if skipped else DONE
    named = server_named(server, model)
    made = make(
        image,
        instruction or "",
        load_editor(loaded),
        out,
        rewards=wanted,
        n=n,
        judge=LargeAnnotator(LargeModel(named, cache_folder())) if named else None,
        settings=settings,
        seed=seed,
        batch=batch,
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
    from goodeye.judging.tables import Skipped

    skipped: list[Skipped] = []
    tasks = tasks_in(of, skipped)
    judge = None if pixels else LargeJudge(LargeModel(server_from(server, model), cache_folder()))
    found = measure(tasks, edited, judge, skipped)
    complain_of("goodeye edit measure", skipped, "--json FILE names all of them")
    if not found:
        raise BadInput(f"{edited} has no picture of a task. Name them by their tasks, as 10-local.png.")
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
    out: Path = Path("runs/edit-train"),
    models: ModelSet = "showroom",
    stage: Literal[1, 2] = 2,
    given: Literal["rewards", "none", "averaged", "shuffled"] = "rewards",
    best: float = 1.0,
    without: Annotated[tuple[Literal["scores", "text", "a", "b"], ...], optional("PART...")] = (),
    type_embedding: bool = False,
    size: int = 256,
    batch: int = 4,
    accumulate: int = 4,
    steps: Annotated[int | None, optional("N", "15000 in stage 1, 10000 in stage 2 if not given")] = None,
    lr: Annotated[float | None, optional("RATE", "1e-4 in stage 1, 5e-5 in stage 2 if not given")] = None,
    drop: float = 0.05,
    drop_rewards: float = 0.0,
    flip: bool = True,
    zoom: float = 1.0,
    ema: float = 0.999,
    held: int = 32,
    evaluate_every: int = 500,
    precision: Literal["fp32", "bf16"] = "fp32",
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains an editor from a text-to-image model (stage 1), or with rewards as its condition (stage 2).

    Args:
        triplets: as for `goodeye edit annotate`; stage 2 takes those with three rewards
        out: folder for editor/, rewards/, editor.toml (a model set), checkpoints and metrics.jsonl
        stage: 1 begins with the set's unet, 2 with its editor
        given: what stage 2 is given: the rewards, none, or as controls their average or another triplet's
        best: share of the triplets kept, by their mean score
        without: parts of the reward module to leave out: scores, text, a, b
        type_embedding: a learned vector for each of the two tokens
        size: pixels a side of what is trained on
        batch: triplets at once
        accumulate: batches to a step
        drop: share of triplets that lose the text, again that lose both, again that lose the picture
        drop_rewards: share that loses the rewards, so that they can be guided by, too
        flip: mirror no pairs; those whose instruction says left or right never are
        zoom: pictures are made up to so much larger before they are cut
        ema: decay of the average of the weights
        held: triplets on which the loss is watched, a tenth of all at most
        evaluate_every: steps between two looks at them
        precision: bf16 for accelerators that have it
        seed: of batches and steps
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.edit.train import Train, train
    from goodeye.edit.triplets import read_triplets
    from goodeye.modelset import Models, resolve

    config = Train(
        stage=stage,
        given=given,
        best=best,
        use_scores="scores" not in without,
        use_text="text" not in without,
        inject_a="a" not in without,
        inject_b="b" not in without,
        type_embedding=type_embedding,
        size=size,
        batch=batch,
        accumulate=accumulate,
        steps=steps,
        lr=lr,
        drop=drop,
        drop_rewards=drop_rewards,
        flip=flip,
        zoom=zoom,
        ema=ema,
        held=held,
        evaluate_every=evaluate_every,
        precision=precision,
        seed=seed,
    )
    config.check()
    loaded = Models(resolve(models), device=device)
    done = train(read_triplets(triplets), loaded, out, config=config, resume=resume, cpu=device.startswith("cpu"))
    complain_of("goodeye edit train", done.skipped, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.to_json())
    return BAD_INPUT if done.skipped else DONE
