"""What a run learns from, as a digest in its config.json, so that it never goes on with other rows."""

import hashlib
import json
from pathlib import Path
from typing import Any

from goodeye.training import checkpoint


def told_data(run_dir: str | Path, rows: Any, pixels: bytes = b"") -> dict[str, str]:
    """A field for the `about` of `goodeye.training.loop.fit`: data, 12 digits of rows (plain JSON) and pixels. Nothing
    where run_dir holds a run that was begun before this field was kept: it goes on as it was."""
    folder = Path(run_dir)
    if checkpoint.found(folder / "checkpoints") and not _kept(folder / "config.json"):
        return {}
    digest = hashlib.sha256(json.dumps(rows).encode())
    digest.update(pixels)
    return {"data": digest.hexdigest()[:12]}


def _kept(path: Path) -> bool:
    """Whether a run's config.json has the field; one that cannot be read is left for `fit` to refuse."""
    try:
        return "data" in json.loads(path.read_text(encoding="utf-8"))["about"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
