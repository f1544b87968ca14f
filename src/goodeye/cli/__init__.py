"""The command tree: parse, call, print. Every command is a thin call of a public function of the library.

Result on stdout; progress, warnings and errors on stderr. Exit 0: done. 1: failed, stopped, or a check found something.
2: bad input, with one plain line. Heavy libraries are imported inside the commands, so that `--help` answers at once.
common.py holds what all commands share; then there is a file for each group of them.
"""

import io
import os
import shlex
import sys
from collections.abc import Iterable, Sequence

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes

import goodeye
from goodeye.cli import (  # noqa: F401 (each puts its commands into the tree)
    ads,
    align,
    compare,
    edit,
    judge,
    ledger,
    models,
    review,
    search,
    search_train,
    showroom,
    synth,
    synth_make,
)
from goodeye.cli.common import AS_ESCAPES, BAD_INPUT, DONE, FAILED, Call, app, complain, say
from goodeye.errors import BadInput

DESCRIPTION = """Judge what image models make, keep what is good, teach them to do better, and prove it.

goodeye COMMAND --help tells more. --version names the version. With --debug, or GOODEYE_DEBUG=1, a failure shows where
in the code it happened."""


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
