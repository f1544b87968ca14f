"""What all commands share: the tree, their arguments' types, and how a result, a complaint or a JSON file is given."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

DONE, FAILED, BAD_INPUT = 0, 1, 2
AS_ESCAPES = "backslashreplace"  # how a file name's bytes that are no text are written; in JSON, too, this is right


def optional(metavar: str, help: str | None = None) -> Any:
    """An argument that may be left away, without "(default: None)" in its help."""
    return arg(metavar=metavar, help=help, help_behavior_hint="")


Json = Annotated[Path | None, optional("FILE", "write the result there as JSON, too")]
ModelSet = Annotated[str, arg(metavar="SET", help="showroom, sd15, or a TOML file that names a model for each role")]
WHICH_LEDGER = "the ledger; GOODEYE_LEDGER or ./goodeye-ledger if not given"
Place = Annotated[Positional[str | None], optional("[FOLDER|URL]", WHICH_LEDGER)]
Images = Annotated[
    Path | None,
    optional("FOLDER", "of the picture files, if not the ledger's own; GOODEYE_IMAGES if not given with a URL"),
]
Text = Annotated[str | None, optional("TEXT")]
Pictures = Annotated[Positional[tuple[Path, ...]], optional("PICTURE...")]
Device = Annotated[str, arg(help="cpu, cuda, cuda:1, mps")]


@dataclass(frozen=True, kw_only=True)
class Products:
    """What pictures are made of."""

    inputs: Pictures = ()
    """picture files, folders of them, or CSV or Parquet tables with the columns image, title, prompt"""
    title: Text = None
    """what the product is, for all that bring no title of their own"""
    prompt: Text = None
    """the scene it shall stand in; a setting is chosen where there is none"""
    remover: Literal["saliency", "rembg"] = "saliency"
    """what cuts out photographs without a transparent background"""


@dataclass(frozen=True)
class Call:
    """A command with its arguments, ready to run; `resume` is what to add to the line to go on after Ctrl-C."""

    name: str
    run: Callable[[], int]
    resume: str


app, ads, ledger, models, showroom = (SubcommandApp() for _ in range(5))
app.command(ads, name="ads", help="Product pictures in, checked advertising images out.")
app.command(ledger, name="ledger", help="The record of every image, verdict and run.")
app.command(models, name="models", help="What a set's models take on this machine.")
app.command(showroom, name="showroom", help="The embedded world: scenes with known truth, and its small models.")


def command(group: SubcommandApp, name: str, resume: str = "") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Puts a function into the tree. Parsing gives a `Call`: nothing runs before the whole line is understood, and
    before a --json file is known to be one that can be written."""

    def put(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def bind(*args: Any, **kwargs: Any) -> Call:
            def run() -> int:
                if kwargs.get("json") is not None:
                    from goodeye.atomic import require_writable

                    require_writable(kwargs["json"])
                return function(*args, **kwargs)

            return Call(f"goodeye {name}", run, resume)

        group.command(name=name.split()[-1])(bind)
        return function

    return put


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


def row_of(words: str) -> tuple[str, Path]:
    """NAME=FOLDER of a proof's --row. Raises BadInput for anything else."""
    from goodeye.errors import BadInput

    name, equals, folder = words.partition("=")
    if not (name and equals and folder):
        raise BadInput(f"--row {words} names no folder. Write --row NAME=FOLDER.")
    return name, Path(folder)
