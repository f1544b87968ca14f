"""`goodeye ads align` and `goodeye ads prove`: the generator learns from its inspector, and what each way gains."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction

from goodeye.ads.settings import Align, Budget, Prove
from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    FAILED,
    Device,
    Json,
    ModelSet,
    Products,
    ads,
    command,
    complain_of,
    optional,
    row_of,
    say,
    write_json,
)

if TYPE_CHECKING:
    from goodeye.ads.rollout import Placed


@command(ads, "ads align", resume="--resume")
def ads_align(
    *,
    products: Products,
    config: Align,
    models: ModelSet = "showroom",
    out: Path = Path("runs/align"),
    held_out: Annotated[Path | None, optional("FOLDER")] = None,
    briefs: int = 512,
    device: Device = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains the generator so that its inspector passes more of what it makes, and keeps it from cheating.

    Args:
        out: folder for what is trained, checkpoints, metrics.jsonl, samples and report.html
        held_out: folder of an RFNet trained on other pictures, as the guard's judge; CLIP's similarity if not given
        briefs: how many of the showroom's own, where no product is given with the showroom's models
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.ads.align import align

    done = align(
        **vars(products),
        briefs=_showrooms_own(config.seed, briefs) if _of_the_showroom(models) and not products.inputs else (),
        config=config,
        models=models,
        out=out,
        held_out=held_out,
        device=device,
        resume=resume,
    )
    complain_of("goodeye ads align", done.problems, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.as_json())
    return FAILED if done.failed else BAD_INPUT if done.problems else DONE


def _of_the_showroom(models: str) -> bool:
    return models.partition("+")[0] == "showroom"


def _showrooms_own(seed: int, count: int) -> "list[Placed]":
    from goodeye.showroom.briefs import training_briefs

    return training_briefs(seed, count)


@command(ads, "ads prove", resume=" ")
def ads_prove(
    *,
    config: Prove,
    budget: Budget,
    n: int = 256,
    models: ModelSet = "showroom",
    row: Annotated[UseAppendAction[tuple[str, ...]], optional("NAME=FOLDER")] = (),
    retrain: bool = False,
    rows: Annotated[tuple[str, ...], optional("ROW...")] = (),
    lpips: Annotated[Path | None, optional("FILE")] = None,
    out: Path = Path("goodeye-proof"),
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Measures every method on fresh briefs of the showroom, side by side, by a judge that nothing was trained against.

    Args:
        n: how many briefs
        row: a row more, of what `goodeye ads align` trained; or in place of the shipped adapter of that name
        retrain: train the rows first, each with the budget below, instead of taking the shipped adapters
        rows: with --retrain, only these: refl, rfft_none, rfft_kl, rfft_cc, dpo
        lpips: weights (.safetensors) to measure diversity by
        out: folder for the attempts, results.json and report.html; what is there already is not made again
    """
    from goodeye.ads.prove import prove
    from goodeye.ads.prove_report import table
    from goodeye.ads.retrain import Retrained
    from goodeye.ads.retrain import retrain as train_rows
    from goodeye.errors import BadInput
    from goodeye.judging.lpips import Lpips
    from goodeye.modelset import Models, resolve, shipped_adapters
    from goodeye.showroom.briefs import fresh_briefs
    from goodeye.showroom.prove import SUFFIX, the_oracle

    if (rows or budget != Budget()) and not retrain:
        raise BadInput("--rows and the budget are for training the rows. Add --retrain, or leave them away.")
    trained = Retrained(adapters=shipped_adapters(models))
    if retrain:
        own = _showrooms_own(config.seed, budget.briefs)
        place = out / "retrained"
        trained = train_rows(own, rows=rows, budget=budget, models=models, out=place, seed=config.seed, device=device)
    proof = prove(
        fresh_briefs(config.seed, n),
        models=Models(resolve(models), device=device),
        held_out=the_oracle(),
        adapters={**trained.adapters, **dict(map(row_of, row))},
        lacking=trained.lacking,
        config=replace(config, suffix=SUFFIX if config.suffix is None else config.suffix),
        lpips=Lpips.from_pretrained(lpips) if lpips else None,
        out=out,
        progress=True,
    )
    say(table(proof.numbers))
    say(f"Report: {proof.report}")
    write_json(json, proof.numbers)
    return DONE
