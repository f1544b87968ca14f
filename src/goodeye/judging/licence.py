"""Which licence a model's folder says it has."""

import re
from pathlib import Path

from transformers.utils import cached_file

_LINE = re.compile(r"^license(?:_name)?:\s*[\"']?([^\s\"']+)", re.MULTILINE)


def licence_of(folder_or_id: str | Path) -> str:
    """The licence named in the front matter of the model card (README.md); "unknown" where there is none."""
    card = cached_file(str(folder_or_id), "README.md", _raise_exceptions_for_missing_entries=False)
    if card is None:
        return "unknown"
    parts = Path(card).read_text(encoding="utf-8", errors="replace").split("---", 2)
    found = _LINE.findall(parts[1]) if len(parts) == 3 and not parts[0].strip() else []
    return found[-1] if found else "unknown"
