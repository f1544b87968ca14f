"""`goodeye ads`: product pictures in, checked advertising images out. And `goodeye demo`, which shows it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    WHICH_LEDGER,
    Device,
    Images,
    Json,
    ModelSet,
    Products,
    ads,
    app,
    command,
    complain,
    complain_of,
    optional,
    say,
    write_json,
)

if TYPE_CHECKING:
    from goodeye.ads.results import Result


@dataclass(frozen=True, kw_only=True)
class Early:
    """Fewer steps for each good picture."""

    early: Annotated[Path | None, optional("FILE")] = None
    """what `goodeye ads early` made: stop an attempt on the way when it will fail"""
    restart: Annotated[float | None, optional("STRENGTH")] = None
    """go back from a failed picture and run this part of the steps again, instead of all from noise"""
    restart_times: int = 1
    """so often in a row; then from noise again"""
    restart_stopped: bool = False
    """go back from what was stopped early, too"""
    stride: Annotated[int | None, optional("STEPS")] = None
    """take so many of the sampler's first steps at once; the model set's own if not given, which is 1"""


@command(ads, "ads make", resume="--resume")
def ads_make(
    *,
    products: Products,
    early: Early,
    want: int = 4,
    attempts: int = 5,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-ads"),
    ledger: Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)] = None,
    seed: int = 0,
    threshold: Annotated[float | None, optional("P")] = None,
    promise: Annotated[float | None, optional("SHARE")] = None,
    promise_file: Annotated[Path, arg(metavar="FILE")] = Path("goodeye-promise.json"),
    retry_models: Annotated[str | None, optional("SET")] = None,
    batch: int = 16,
    device: Device = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Makes advertising images of products; each is inspected and tried again until it passes.

    Args:
        want: pictures of each product
        attempts: at most so many for each picture
        out: folder for the pictures, the contact sheet, report.html and results.json
        seed: the same seed gives the same pictures on the same machine
        threshold: p(available) from which a picture passes; the model set's own if not given
        promise: at most this share of passed pictures is bad; the threshold is that of the promise's file
        promise_file: what `goodeye ads calibrate` made
        retry_models: makes all but the first attempt of each picture, as showroom+rfft_cc, which was aligned
        batch: attempts made at once
        resume: go on with the run in --out
    """
    from goodeye.ads.make import make

    result = make(
        **vars(products),
        want=want,
        attempts=attempts,
        models=models,
        out=out,
        ledger=ledger,
        seed=seed,
        threshold=threshold,
        promise=promise,
        promise_file=promise_file,
        retry_models=retry_models,
        batch=batch,
        device=device,
        **vars(early),
        resume=resume,
        progress=True,
    )
    return tell_ads("goodeye ads make", result, json)


@command(ads, "ads early", resume="--resume")
def ads_early(
    *,
    products: Products,
    attempts: int = 400,
    checks: Annotated[tuple[int, ...], optional("STEP...")] = (),
    lose: Annotated[float, arg(metavar="PART")] = 0.02,
    confidence: float = 0.95,
    most: int = 2,
    stride: Annotated[int | None, optional("STEPS")] = None,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-early"),
    seed: int = 0,
    threshold: Annotated[float | None, optional("P")] = None,
    batch: int = 16,
    device: Device = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Finds out when an attempt that will fail can be stopped, by recording attempts with the inspector's readings.

    Args:
        attempts: recorded in all
        checks: candidates: the inspector reads after so many steps; a fifth to two thirds of all if not given
        lose: the part of the good attempts that may be lost
        confidence: how surely no more than that is lost
        most: checks that are used of the candidates
        stride: take so many of the sampler's first steps at once, as `ads make --stride` will
        out: folder for the recording and for early.json, which --early takes
        seed: of the attempts
        threshold: p(available) from which a picture is good; the model set's own if not given
        batch: attempts made at once
        resume: go on with the recording in --out, or calibrate it for another promise or threshold
    """
    from goodeye.ads.trajectories import calibrate_early

    found = calibrate_early(
        **vars(products),
        attempts=attempts,
        checks=checks or None,
        lose=lose,
        confidence=confidence,
        most=most,
        stride=stride,
        models=models,
        out=out,
        seed=seed,
        threshold=threshold,
        batch=batch,
        device=device,
        resume=resume,
        progress=True,
    )
    complain_of("goodeye ads early", found.problems, "Use other pictures for them.")
    say(found.summary())
    say(f"Use it with --early {found.file}")
    write_json(json, found.rule.as_json())
    return BAD_INPUT if found.problems else DONE


@command(ads, "ads train-judge", resume="--resume")
def ads_train_judge(
    data: Annotated[Positional[str], arg(metavar="DATA")],
    /,
    *,
    out: Path = Path("runs/judge"),
    models: ModelSet = "showroom",
    epochs: float = 10.0,
    batch: int = 64,
    lr: Annotated[float | None, optional("RATE")] = None,
    image_encoder: Annotated[str | None, optional("ID|FOLDER")] = None,
    text_encoder: Annotated[str | None, optional("ID|FOLDER")] = None,
    image_size: Annotated[int | None, optional("PIXELS")] = None,
    held_out: Annotated[float, arg(metavar="PART")] = 0.1,
    most: Annotated[int | None, optional("PICTURES")] = None,
    ablations: bool = False,
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    images: Images = None,
    seed: int = 0,
    device: Device = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains RFNet, the inspector, from labelled pictures, and reports how well it judges those held out.

    Args:
        data: a folder of pictures with their labels, a CSV or Parquet table of them, or a ledger with votes in it
        out: folder for the checkpoints, metrics.jsonl, the trained judge and report.html
        epochs: times through the data
        batch: pictures a step
        lr: learning rate; 1e-4 with a pretrained image encoder, else 1e-3
        image_encoder: pretrained weights for the pictures; without them a small encoder starts from nothing
        text_encoder: pretrained weights for the titles; without them a small encoder starts from nothing
        image_size: pixels a side; the model set's own, or 384 with a pretrained image encoder
        held_out: the part of the data to test on, where it names none itself
        most: take at most so many pictures, those of some products
        ablations: train the single-image baseline and RFNet without each of its inputs, too
        run: of a ledger, only votes on these runs
        seed: of the order and of the held-out part
        resume: go on with the run in --out
    """
    from goodeye.ads.votes import voted_pictures
    from goodeye.errors import BadInput
    from goodeye.judging.train_rfnet import train_judge
    from goodeye.ledger.training import is_ledger

    votes = voted_pictures(data, out / "votes", models=models, images=images, runs=run) if is_ledger(data) else None
    if votes:
        say(votes.summary())
    elif run:
        raise BadInput(f"--run is of a ledger's runs, and {data} is none. Leave it away.")
    result = train_judge(
        votes.table if votes else data,
        out=out,
        models=models,
        epochs=epochs,
        batch=batch,
        seed=seed,
        device=device,
        resume=resume,
        lr=lr,
        image_encoder=image_encoder,
        text_encoder=text_encoder,
        image_size=image_size,
        held_out=held_out,
        most=most,
        ablations=ablations,
    )
    complain_of("goodeye ads train-judge", result.skipped, f"all of them: {result.report}")
    say(result.summary())
    write_json(json, result.as_json())
    return BAD_INPUT if result.skipped else DONE


@command(ads, "ads calibrate")
def ads_calibrate(
    votes: Annotated[Positional[str], arg(metavar="VOTES")],
    /,
    *,
    max_bad: Annotated[float, arg(metavar="SHARE")] = 0.05,
    confidence: Annotated[float, arg(metavar="P")] = 0.95,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-promise.json"),
    images: Images = None,
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    stride: Annotated[int | None, optional("STEPS")] = None,
    retry_models: Annotated[str | None, optional("SET")] = None,
    batch: int = 16,
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Finds, from people's votes, the threshold at which at most a share of passed pictures is bad, and promises it.

    Args:
        votes: a CSV or Parquet table of image and label (available, bad, a class, 1 to 6), or a ledger with votes in it
        max_bad: at most this share of passed pictures may be bad
        confidence: how surely that is to hold
        out: the promise's file, which `ads make --promise` reads
        run: of a ledger, only votes on these runs
        stride: of the sampler that made the pictures; the model set's own if not given
        retry_models: what made all but their first attempts, if that was another set
        batch: pictures scored at once
    """
    from goodeye.ads.calibrate import calibrate

    found = calibrate(
        votes,
        max_bad=max_bad,
        confidence=confidence,
        models=models,
        out=out,
        images=images,
        runs=run,
        stride=stride,
        retry_models=retry_models,
        batch=batch,
        device=device,
    )
    complain_of("goodeye ads calibrate", found.skipped, "--json FILE names all of them")
    write_json(json, found.as_json())
    if found.calibration is None:
        complain("goodeye ads calibrate", found.summary())
        return BAD_INPUT
    say(found.summary())
    return BAD_INPUT if found.skipped else DONE


@command(app, "demo")
def demo(
    picture: Annotated[Positional[Path | None], optional("[PICTURE]")] = None,
    /,
    *,
    out: Path = Path("goodeye-demo"),
    models: ModelSet = "showroom",
    seed: int = 0,
    device: Device = "cpu",
    json: Json = None,
) -> int:
    """Makes advertising images of three products in under three minutes and names the report to look at.

    Args:
        picture: a product picture of your own, as one of the three
        out: folder for the pictures, report.html and a ledger of its own
        seed: another seed, other pictures
    """
    from goodeye.demo import demo as run

    return tell_ads("goodeye demo", run(picture, out=out, models=models, seed=seed, device=device), json)


def tell_ads(name: str, result: "Result", json: Path | None) -> int:
    """Says what passed, why the others failed, and what could not be used; returns the exit status."""
    complain_of(name, result.problems, f"all of them: {result.out / 'results.json'}")
    if result.briefs:
        say(result.summary())
        if result.promise:
            say(f"Promise: {result.promise.words}")
        if result.failures:
            say("Why the others failed: " + ", ".join(f"{label} {times}" for label, times in result.failures.items()))
        for brief in result.briefs:
            if not brief.passed:
                say(f"No picture of {brief.key} passed; its best are in {result.out / 'not_passed'}.")
        if result.command.get("early") or result.command.get("restart"):
            say(result.cost())
        say(f"Report: {result.report}")
    write_json(json, result.as_json())
    return BAD_INPUT if result.problems else DONE
