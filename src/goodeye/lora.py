"""Adapters as peft saves them (adapter_config.json and weights): what one stands upon.

Its adapter_config.json names that (base_model_name_or_path): by a path from the adapter's folder, by a full path or by
a hub id.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput

CONFIG, BASE = "adapter_config.json", "base_model_name_or_path"


def is_adapter(place: str | Path) -> bool:
    """Whether that is the folder of an adapter."""
    return (Path(place) / CONFIG).is_file()


def stands_upon(folder: str | Path) -> str:
    """What an adapter stands upon: a full path, or a hub id. Raises BadInput where the adapter does not say."""
    file = Path(folder) / CONFIG
    try:
        named = json.loads(file.read_text(encoding="utf-8")).get(BASE)
    except (OSError, ValueError, AttributeError):
        named = None
    if not named or not isinstance(named, str):
        raise BadInput(f"{file} does not say by {BASE} what the adapter stands upon. Name a model there.")
    beside = Path(folder) / named
    return str(beside.resolve()) if beside.exists() else named


def name_base(folder: Path, base: str) -> None:
    """Writes into an adapter's folder what it stands upon."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_bytes(folder / CONFIG, (json.dumps({**config, BASE: base}, indent=1) + "\n").encode())


def wrapped(model: Any, config: Any) -> Any:
    """The model wrapped by peft, additions by this LoraConfig in it, which change nothing at first."""
    from peft import get_peft_model

    with _quietly():
        return get_peft_model(model, config)


def merged(model: Any, folder: str | Path) -> Any:
    """The model with an adapter's additions in its own weights."""
    from peft import PeftModel

    with _quietly():
        return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


@contextmanager
def _quietly() -> Iterator[None]:
    """peft asks transformers by a name that is to go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
