"""How every bench takes its options and ends: its result as JSON, with the options and the machine."""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any


def new_parser(described: str | None) -> argparse.ArgumentParser:
    """A parser with the bench's own description and --out."""
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the JSON there, too")
    return parser


def finish(result: dict[str, Any], options: argparse.Namespace, **machine: Any) -> dict[str, Any]:
    """The result with options and machine (cores, processor, and what else is given), printed and written to --out."""
    asked = {name: str(value) for name, value in vars(options).items() if value is not None}
    there = {"cores": os.cpu_count(), **machine, "cpu": platform.processor()}
    return write(result | {"options": asked, "machine": there}, options.out)


def write(result: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Prints it as JSON, and writes it to `out` if that is named."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n")
    return result
