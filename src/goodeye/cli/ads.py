"""`goodeye ads`: product pictures in, checked advertising images out. And `goodeye demo`, which shows it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    WHICH_LEDGER,
    Json,
    ModelSet,
    Pictures,
    Text,
    ads,
    app,
    command,
    complain_of,
    optional,
    say,
    write_json,
)

if TYPE_CHECKING:
    from goodeye.ads.results import Result


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
    remover: Literal["saliency", "rembg"] = "saliency",
    batch: int = 16,
    device: str = "cpu",
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
        remover: what cuts out photographs without a transparent background
        batch: attempts made at once
        device: cpu, cuda, cuda:1, mps
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
        remover=remover,
        batch=batch,
        device=device,
        resume=resume,
        progress=True,
    )
    return tell_ads("goodeye ads make", result, json)


@command(ads, "ads train-judge", resume="--resume")
def ads_train_judge(
    data: Annotated[Positional[Path], arg(metavar="DATA")],
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
    ablations: bool = False,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Trains RFNet, the inspector, from labelled pictures, and reports how well it judges those held out.

    Args:
        data: a folder of pictures with their labels, or a CSV or Parquet table of them
        out: folder for the checkpoints, metrics.jsonl, the trained judge and report.html
        epochs: times through the data
        batch: pictures a step
        lr: learning rate; 1e-4 with a pretrained image encoder, else 1e-3
        image_encoder: pretrained weights for the pictures; without them a small encoder starts from nothing
        text_encoder: pretrained weights for the titles; without them a small encoder starts from nothing
        image_size: pixels a side; the model set's own, or 384 with a pretrained image encoder
        held_out: the part of the data to test on, where it names none itself
        ablations: train the single-image baseline and RFNet without each of its inputs, too
        seed: of the order and of the held-out part
        device: cpu, cuda, cuda:1, mps
        resume: go on with the run in --out
    """
    from goodeye.judging.train_rfnet import train_judge

    result = train_judge(
        data,
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
        ablations=ablations,
    )
    complain_of("goodeye ads train-judge", result.skipped, f"all of them: {result.report}")
    say(result.summary())
    write_json(json, result.as_json())
    return BAD_INPUT if result.skipped else DONE


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
        if result.failures:
            say("Why the others failed: " + ", ".join(f"{label} {times}" for label, times in result.failures.items()))
        for brief in result.briefs:
            if not brief.passed:
                say(f"No picture of {brief.key} passed; its best are in {result.out / 'not_passed'}.")
        say(f"Report: {result.report}")
    write_json(json, result.as_json())
    return BAD_INPUT if result.problems else DONE
