"""The formats by name: how each is written, how it is read, and which job its runs are of."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from goodeye.errors import BadInput
from goodeye.exchange.annotators import export_argilla, export_label_studio, import_argilla, import_label_studio
from goodeye.exchange.coco import export_coco, import_coco
from goodeye.exchange.intake import Imported, Intake
from goodeye.exchange.outlet import Exported, Outlet
from goodeye.exchange.research import (
    export_hpir,
    export_rewardedit,
    export_rf1m,
    import_hpir,
    import_rewardedit,
    import_rf1m,
)
from goodeye.exchange.tables import export_csv, export_preferences, import_csv, import_preferences
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.sql import storable

Name = Literal["csv", "rf1m", "hpir", "rewardedit", "preferences", "coco", "label-studio", "argilla"]


class Format(NamedTuple):
    """One format. Its importer takes the name of who voted, or judged, where the rows do not say."""

    write: Callable[[Outlet], Exported]
    take: Callable[[Intake, str], Imported]
    job: str


FORMATS: dict[Name, Format] = {
    "csv": Format(export_csv, import_csv, "ads"),
    "rf1m": Format(export_rf1m, import_rf1m, "ads"),
    "hpir": Format(export_hpir, import_hpir, "search"),
    "rewardedit": Format(export_rewardedit, import_rewardedit, "edit"),
    "preferences": Format(export_preferences, import_preferences, "ads"),
    "coco": Format(export_coco, import_coco, "synth"),
    "label-studio": Format(export_label_studio, import_label_studio, "ads"),
    "argilla": Format(export_argilla, import_argilla, "ads"),
}


def export(ledger: Ledger, format: Name, out: str | Path, runs: Sequence[int] = ()) -> Exported:
    """Writes runs of the ledger (all, if none is named) to an empty or new folder, in the format.

    Votes and comparisons of people set aside are left out. Raises BadInput for a folder that holds something.
    """
    return _of(format).write(Outlet.open(ledger, Path(out), runs))


def import_into(
    ledger: Ledger,
    format: Name,
    source: str | Path,
    *,
    person: str = "",
    job: str = "",
    pictures: str | Path | None = None,
    on_row: Callable[[], None] = lambda: None,
) -> Imported:
    """Takes a file or folder of the format into the ledger, each vote once, however often it is imported.

    person: who voted, where the rows do not say. job: of the runs; default the format's own. pictures: a folder in
    which the pictures may lie, too; without it none is read but those beside or below the file. on_row: called after
    each row, for a progress bar. A row that cannot be used is in `skipped`, with its name and the reason, and the rest
    goes on.
    Raises BadInput where nothing can be used, and where `pictures` is no folder.
    """
    chosen = _of(format)
    folder = None if pictures is None else Path(pictures)
    if folder is not None and not folder.is_dir():
        raise BadInput(f"{folder} is not a folder. Name the one that the pictures are in.")
    return chosen.take(Intake(ledger, Path(source), format, job or chosen.job, on_row, folder), storable(person))


def _of(format: Name) -> Format:
    if format not in FORMATS:
        raise BadInput(f"{format} is no format here. Use one of {', '.join(get_args(Name))}.")
    return FORMATS[format]
