"""The command tree: parse, call, print. Every command is a thin call of a public function of the library.

Result on stdout; progress, warnings and errors on stderr. Exit 0: done. 1: failed, stopped, or a check found something.
2: bad input, with one plain line. Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg
from tyro.extras import SubcommandApp

import goodeye
from goodeye.errors import BadInput

if TYPE_CHECKING:
    from goodeye.ads.results import Result

DONE, FAILED, BAD_INPUT = 0, 1, 2
AS_ESCAPES = "backslashreplace"  # how a file name's bytes that are no text are written; in JSON, too, this is right
DESCRIPTION = """Judge what image models make, keep what is good, teach them to do better, and prove it.

goodeye COMMAND --help tells more. --version names the version. With --debug, or GOODEYE_DEBUG=1, a failure shows where
in the code it happened."""


def _optional(metavar: str, help: str | None = None) -> Any:
    """An argument that may be left away, without "(default: None)" in its help."""
    return arg(metavar=metavar, help=help, help_behavior_hint="")


Json = Annotated[Path | None, _optional("FILE", "write the result there as JSON, too")]
ModelSet = Annotated[str, arg(metavar="SET", help="showroom, sd15, or a TOML file that names a model for each role")]
WHICH_LEDGER = "the ledger; GOODEYE_LEDGER or ./goodeye-ledger if not given"
Place = Annotated[Positional[str | None], _optional("[FOLDER|URL]", WHICH_LEDGER)]
Images = Annotated[
    Path | None,
    _optional("FOLDER", "of the picture files, if not the ledger's own; GOODEYE_IMAGES if not given with a URL"),
]
Text = Annotated[str | None, _optional("TEXT")]
Pictures = Annotated[Positional[tuple[Path, ...]], _optional("PICTURE...")]


@dataclass(frozen=True)
class Call:
    """A command with its arguments, ready to run; `resume` is what to add to the line to go on after Ctrl-C."""

    name: str
    run: Callable[[], int]
    resume: str


app, ads, ledger, showroom = SubcommandApp(), SubcommandApp(), SubcommandApp(), SubcommandApp()
app.command(ads, name="ads", help="Product pictures in, checked advertising images out.")


def command(group: SubcommandApp, name: str, resume: str = "") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Puts a function into the tree. Parsing gives a `Call`: nothing runs before the whole line is understood."""

    def put(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def bind(*args: Any, **kwargs: Any) -> Call:
            return Call(f"goodeye {name}", partial(function, *args, **kwargs), resume)

        group.command(name=name.split()[-1])(bind)
        return function

    return put


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
    ledger: Annotated[str | None, _optional("FOLDER|URL", WHICH_LEDGER)] = None,
    seed: int = 0,
    threshold: Annotated[float | None, _optional("P")] = None,
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
    return _tell_ads("goodeye ads make", result, json)


@command(ads, "ads train-judge", resume="--resume")
def ads_train_judge(
    data: Annotated[Positional[Path], arg(metavar="DATA")],
    /,
    *,
    out: Path = Path("runs/judge"),
    models: ModelSet = "showroom",
    epochs: float = 10.0,
    batch: int = 64,
    lr: Annotated[float | None, _optional("RATE")] = None,
    image_encoder: Annotated[str | None, _optional("ID|FOLDER")] = None,
    text_encoder: Annotated[str | None, _optional("ID|FOLDER")] = None,
    image_size: Annotated[int | None, _optional("PIXELS")] = None,
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
    return DONE


@command(app, "judge", resume="--resume")
def judge(
    pictures: Pictures,
    /,
    *,
    judges: Annotated[tuple[str, ...], arg(name="with", metavar="JUDGE...")],
    title: Annotated[str, _optional("TEXT")] = "",
    prompt: Annotated[str, _optional("TEXT")] = "",
    product: Annotated[Path | None, _optional("FILE")] = None,
    head: Annotated[Path | None, _optional("FILE")] = None,
    models: ModelSet = "showroom",
    out: Annotated[Path | None, _optional("FILE")] = None,
    batch: int = 16,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Scores pictures by one or more judges.

    Args:
        pictures: picture files, folders of them, or CSV or Parquet tables (image, product, title, prompt)
        judges: which judges: clip, aesthetic, rfnet
        title: what the product is, where a picture has no title of its own
        prompt: what the picture was to show, where it has no prompt of its own
        product: the cut-out as it stands in the picture (for rfnet), where it has none of its own
        head: weights of the aesthetic head
        out: write all scores to this Parquet file, every minute and at the end
        batch: pictures scored at once
        device: cpu, cuda, cuda:1, mps
        resume: go on with the file in --out
    """
    from rich.console import Console

    from goodeye.judging.files import judge_files, score_table
    from goodeye.modelset import Models, resolve

    judged = judge_files(
        pictures,
        judges,
        Models(resolve(models), device=device),
        batch_size=batch,
        title=title,
        prompt=prompt,
        product=product,
        aesthetic_head=head,
        out=out,
        resume=resume,
    )
    complain_of("goodeye judge", judged.skipped, "--json FILE names all of them")
    if judged.rows:
        Console().print(score_table(judged))
    write_json(json, {"versions": judged.versions, "rows": judged.rows, "skipped": list(map(vars, judged.skipped))})
    return BAD_INPUT if judged.skipped else DONE


@command(ledger, "ledger check")
def ledger_check(
    place: Place = None,
    /,
    *,
    images: Images = None,
    json: Json = None,
) -> int:
    """Proves that the ledger's files and rows agree; exits 1 if they don't."""
    from dataclasses import asdict

    from goodeye.ledger.check import check, describe
    from goodeye.ledger.ledger import Ledger
    from goodeye.progress import progress

    with Ledger.open(place, images, create=False) as opened, progress("checking pictures", unit="files") as advance:
        report = check(opened, on_file=advance)
    say(describe(report))
    write_json(json, {"clean": report.clean, **asdict(report)})
    return DONE if report.clean else FAILED


@command(ledger, "ledger sweep")
def ledger_sweep(place: Place = None, /, *, images: Images = None) -> int:
    """Removes picture files that no row names, such as a kill leaves behind."""
    from goodeye.ledger.ledger import Ledger

    with Ledger.open(place, images, create=False) as opened:
        removed = opened.sweep()
    for file in removed:
        say(f"removed {file}")
    say(f"{len(removed)} files removed.")
    return DONE


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
    only: Annotated[tuple[str, ...], _optional("ROLE...")] = (),
) -> int:
    """Trains the showroom's models from nothing, in their order; goes on where an earlier call was stopped.

    Args:
        out: folder for the models, a folder a role, and for the checkpoints
        only: train just these roles anew, with the others' finished models
    """
    from goodeye.showroom.build import build

    say(f"Models: {build(out, only=only, say=partial(print, file=sys.stderr, flush=True))}")
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


@command(app, "demo")
def demo(
    picture: Annotated[Positional[Path | None], _optional("[PICTURE]")] = None,
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

    return _tell_ads("goodeye demo", run(picture, out=out, models=models, seed=seed, device=device), json)


def _tell_ads(name: str, result: "Result", json: Path | None) -> int:
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


app.command(ledger, name="ledger", help="The record of every image, verdict and run.")
app.command(showroom, name="showroom", help="The embedded world: scenes with known truth, and its small models.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's) and returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=AS_ESCAPES)
    line = [word for word in given if word != "--debug"]
    debug = line != given or os.environ.get("GOODEYE_DEBUG", "0") not in ("", "0")
    if line == ["--version"]:
        say(f"goodeye {goodeye.__version__}")
        return DONE
    call: Call = app.cli(
        prog="goodeye",
        description=DESCRIPTION,
        args=line,
        config=(OmitArgPrefixes, OmitSubcommandPrefixes, FlagCreatePairsOff),
    )
    try:
        return call.run()
    except BadInput as error:
        if debug:
            raise
        complain(call.name, str(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        complain(call.name, f"stopped. {_how_to_resume(call, line)}")
        return FAILED
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            raise
        said = " ".join(str(error).split()) or "no reason given"
        complain(call.name, f"failed: {type(error).__name__}: {said}. Run it again with --debug to see where.")
        return FAILED


def _how_to_resume(call: Call, line: Iterable[str]) -> str:
    words = ["goodeye", *line]
    if not call.resume:
        return f"Run it again: {shlex.join(words)}"
    if call.resume.strip() and call.resume not in words:
        words.append(call.resume)
    return f"What was done is kept. Go on with: {shlex.join(words)}"


def say(words: str) -> None:
    """A line of the result, on stdout."""
    print(words, flush=True)


def complain(name: str, words: str) -> None:
    """One line on stderr: which command, what is wrong, what to do."""
    print(f"{name}: {' '.join(words.split())}", file=sys.stderr, flush=True)


class Unusable(Protocol):
    """Something of a batch that could not be used, with its one plain line."""

    @property
    def message(self) -> str: ...


def complain_of(name: str, unusable: Sequence[Unusable], where: str) -> None:
    """A line for each thing of a batch that could not be used; past fifty, where to read the rest."""
    for one in unusable[:50]:
        complain(name, one.message)
    if len(unusable) > 50:
        complain(name, f"and {len(unusable) - 50} more; {where}")


def write_json(file: Path | None, data: Any) -> None:
    """Writes the result for machines, whole or not at all, if a file was named."""
    if file is None:
        return
    import json

    from goodeye.atomic import write_bytes

    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(file, f"{text}\n".encode(errors=AS_ESCAPES))


if __name__ == "__main__":
    sys.exit(main())
