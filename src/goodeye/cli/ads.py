"""`goodeye ads`: product pictures in, checked advertising images out. And `goodeye demo`, which shows it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    FAILED,
    WHICH_LEDGER,
    Images,
    Json,
    ModelSet,
    Pictures,
    Text,
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
    from PIL.Image import Image

    from goodeye.ads.results import Result
    from goodeye.ads.rollout import Placed


@command(ads, "ads make", resume="--resume")
def ads_make(
    products: Pictures = (),
    /,
    *,
    title: Text = None,
    prompt: Text = None,
    want: int = 4,
    attempts: int = 5,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-ads"),
    ledger: Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)] = None,
    seed: int = 0,
    threshold: Annotated[float | None, optional("P")] = None,
    promise: Annotated[float | None, optional("SHARE")] = None,
    promise_file: Annotated[Path, arg(metavar="FILE")] = Path("goodeye-promise.json"),
    remover: Literal["saliency", "rembg"] = "saliency",
    batch: int = 16,
    device: str = "cpu",
    early: Annotated[Path | None, optional("FILE")] = None,
    restart: Annotated[float | None, optional("STRENGTH")] = None,
    restart_times: int = 1,
    restart_stopped: bool = False,
    resume: bool = False,
    json: Json = None,
) -> int:
    """Makes advertising images of products; each is inspected and tried again until it passes.

    Args:
        products: picture files, folders of them, or CSV or Parquet tables with the columns image, title, prompt
        title: what the product is, for all that bring no title of their own
        prompt: the scene it shall stand in; a setting is chosen where there is none
        want: pictures of each product
        attempts: at most so many for each picture
        out: folder for the pictures, the contact sheet, report.html and results.json
        seed: the same seed gives the same pictures on the same machine
        threshold: p(available) from which a picture passes; the model set's own if not given
        promise: at most this share of passed pictures is bad; the threshold is that of the promise's file
        promise_file: what `goodeye ads calibrate` made
        remover: what cuts out photographs without a transparent background
        batch: attempts made at once
        device: cpu, cuda, cuda:1, mps
        early: what `goodeye ads early` made: stop an attempt on the way when it will fail
        restart: go back from a failed picture and run this part of the steps again, instead of all from noise
        restart_times: so often in a row; then from noise again
        restart_stopped: go back from what was stopped early, too
        resume: go on with the run in --out
    """
    from goodeye.ads.make import make

    result = make(
        products,
        title=title,
        prompt=prompt,
        want=want,
        attempts=attempts,
        models=models,
        out=out,
        ledger=ledger,
        seed=seed,
        threshold=threshold,
        promise=promise,
        promise_file=promise_file,
        remover=remover,
        batch=batch,
        device=device,
        early=early,
        restart=restart,
        restart_times=restart_times,
        restart_stopped=restart_stopped,
        resume=resume,
        progress=True,
    )
    return tell_ads("goodeye ads make", result, json)


@command(ads, "ads early", resume="--resume")
def ads_early(
    products: Pictures = (),
    /,
    *,
    title: Text = None,
    prompt: Text = None,
    attempts: int = 400,
    checks: Annotated[tuple[int, ...], optional("STEP...")] = (),
    lose: Annotated[float, arg(metavar="PART")] = 0.02,
    confidence: float = 0.95,
    most: int = 2,
    models: ModelSet = "showroom",
    out: Path = Path("goodeye-early"),
    seed: int = 0,
    threshold: Annotated[float | None, optional("P")] = None,
    remover: Literal["saliency", "rembg"] = "saliency",
    batch: int = 16,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Finds out when an attempt that will fail can be stopped, by recording attempts with the inspector's readings.

    Args:
        products: as `goodeye ads make` takes them; they take turns
        title: what the product is, for all that bring no title of their own
        prompt: the scene it shall stand in; a setting is chosen where there is none
        attempts: recorded in all
        checks: candidates: the inspector reads after so many steps; a fifth to two thirds of all if not given
        lose: the part of the good attempts that may be lost
        confidence: how surely no more than that is lost
        most: checks that are used of the candidates
        out: folder for the recording and for early.json, which --early takes
        seed: of the attempts
        threshold: p(available) from which a picture is good; the model set's own if not given
        remover: what cuts out photographs without a transparent background
        batch: attempts made at once
        device: cpu, cuda, cuda:1, mps
        resume: go on with the recording in --out, or calibrate it for another promise or threshold
    """
    from goodeye.ads.trajectories import calibrate_early

    found = calibrate_early(
        products,
        title=title,
        prompt=prompt,
        attempts=attempts,
        checks=checks or None,
        lose=lose,
        confidence=confidence,
        most=most,
        models=models,
        out=out,
        seed=seed,
        threshold=threshold,
        remover=remover,
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
    seed: int = 0,
    device: str = "cpu",
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
        seed: of the order and of the held-out part
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out
    """
    from goodeye.judging.train_rfnet import train_judge
    from goodeye.ledger.training import is_ledger

    result = train_judge(
        _labels_of(data, out / "votes", models) if is_ledger(data) else data,
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


def _labels_of(place: str, folder: Path, models: str) -> Path:
    """A table of what people voted on the ledger's attempts, with their cut-outs as they stand in the pictures."""
    from goodeye.ads.canvas import place as placed
    from goodeye.images import open_image, to_pil
    from goodeye.ledger.ledger import Ledger
    from goodeye.ledger.training import label_table
    from goodeye.modelset import resolve

    scale = resolve(models).settings.product_scale

    def standing(cutout: Path, picture: Path) -> "Image":
        side = open_image(picture).width
        return to_pil(placed(open_image(cutout).convert("RGBA"), side, scale, name=str(cutout)).product)

    with Ledger.open(place, create=False) as opened:
        made = label_table(opened, folder, standing)
    say(f"{made.count} labelled pictures on the ledger; {made.even} left out, on which people are even.")
    return made.table


@command(ads, "ads align", resume="--resume")
def ads_align(
    products: Pictures = (),
    /,
    *,
    title: Text = None,
    prompt: Text = None,
    models: ModelSet = "showroom",
    out: Path = Path("runs/align"),
    method: Literal["rfft", "refl", "dpo"] = "rfft",
    regulariser: Annotated[Literal["cc", "kl", "none"] | None, optional("cc|kl|none")] = None,
    cc: Literal["norm", "squared"] = "norm",
    beta: Annotated[float | None, optional("WEIGHT")] = None,
    train: Literal["controlnet", "lora"] = "controlnet",
    rank: int = 64,
    aux_grad: Literal["through", "detach"] = "through",
    last: Annotated[int | None, optional("STEPS")] = None,
    reuse: int = 1,
    steps: int = 120,
    batch: int = 8,
    accumulate: int = 1,
    part: int = 4,
    each: int = 4,
    gap: float = 0.1,
    lr: Annotated[float | None, optional("RATE")] = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    evaluate_every: int = 20,
    watched: int = 32,
    guard: bool = True,
    held_out: Annotated[Path | None, optional("FOLDER")] = None,
    remover: Literal["saliency", "rembg"] = "saliency",
    briefs: int = 512,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains the generator so that its inspector passes more of what it makes, and keeps it from cheating.

    Args:
        products: picture files, folders of them, or CSV or Parquet tables with the columns image, title, prompt
        title: what the product is, for all that bring no title of their own
        prompt: the scene it shall stand in; a setting is chosen where there is none
        out: folder for what is trained, checkpoints, metrics.jsonl, samples and report.html
        method: reward feedback fine-tuning, or one of its baselines
        regulariser: what holds the generator to its start; cc for rfft, none for refl if not given
        cc: consistent condition as the paper states it, or as its author's code has it
        beta: weight of the regulariser, 0.02 if not given; for dpo its beta, 2000
        train: the ControlNet whole, or LoRA on the U-Net
        rank: of LoRA
        aux_grad: whether gradient also passes through depth and saliency
        last: gradient begins at one of so many last steps of the sampler; a quarter of them if not given
        reuse: gradient steps that the latents of one rollout serve
        steps: gradient steps in all
        batch: pictures, or pairs, at once
        accumulate: batches to a step
        part: pictures decoded and judged at once
        each: for dpo, pictures made of each brief; the best and the worst are a pair
        gap: for dpo, p(available) by which the best leads, at least
        lr: learning rate; 1e-5 for a ControlNet, 1e-4 for LoRA, 3e-4 for small networks if not given
        precision: bf16 for accelerators that have it
        evaluate_every: steps between two looks at the watched briefs
        watched: briefs looked at, two pictures each; not trained on where there are four times as many
        guard: do not look for, nor stop at, a held-out judge that falls while the trained one rises
        held_out: folder of an RFNet trained on other pictures, as the guard's judge; CLIP's similarity if not given
        remover: what cuts out photographs without a transparent background
        briefs: how many of the showroom's own, where no product is given with --models showroom
        seed: of briefs, noise and steps
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out, under the same settings
    """
    from goodeye.ads.align import Align, align

    config = Align(
        method=method,
        train=train,
        regulariser=regulariser,
        cc=cc,
        beta=beta,
        aux_grad=aux_grad,
        last=last,
        steps=steps,
        batch=batch,
        accumulate=accumulate,
        reuse=reuse,
        lr=lr,
        rank=rank,
        part=part,
        each=each,
        gap=gap,
        evaluate_every=evaluate_every,
        watched=watched,
        guard=guard,
        precision=precision,
        seed=seed,
    )
    done = align(
        products,
        briefs=_showrooms_own(seed, briefs) if models == "showroom" and not products else (),
        config=config,
        models=models,
        out=out,
        title=title,
        prompt=prompt,
        remover=remover,
        held_out=held_out,
        device=device,
        resume=resume,
    )
    complain_of("goodeye ads align", done.problems, "--json FILE names all of them")
    say(done.summary())
    write_json(json, done.as_json())
    return FAILED if done.failed else BAD_INPUT if done.problems else DONE


def _showrooms_own(seed: int, count: int) -> "list[Placed]":
    from goodeye.showroom.briefs import training_briefs

    return training_briefs(seed, count)


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
    batch: int = 16,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Finds, from people's votes, the threshold at which at most a share of passed pictures is bad, and promises it.

    Args:
        votes: a CSV or Parquet table of image and label (available, bad, a class, 1 to 6), or a ledger with votes in it
        max_bad: at most this share of passed pictures may be bad
        confidence: how surely that is to hold
        out: the promise's file, which `ads make --promise` reads
        batch: pictures scored at once
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.ads.calibrate import calibrate

    found = calibrate(
        votes,
        max_bad=max_bad,
        confidence=confidence,
        models=models,
        out=out,
        images=images,
        batch=batch,
        device=device,
    )
    complain_of("goodeye ads calibrate", found.skipped, "--json FILE names all of them")
    write_json(json, found.as_json())
    if found.calibration is None:
        complain("goodeye ads calibrate", found.refusal)
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
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Makes advertising images of three products in under three minutes and names the report to look at.

    Args:
        picture: a product picture of your own, as one of the three
        out: folder for the pictures, report.html and a ledger of its own
        seed: another seed, other pictures
        device: cpu, cuda, cuda:1, mps
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
