"""`goodeye demo`: the main job on three products, from the models that come with Goodeye."""

import csv
import io
import json
from importlib.resources import files
from pathlib import Path

from goodeye.ads.make import make
from goodeye.ads.results import Result
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.runfolder import RunFolder
from goodeye.tables import PICTURES

PRODUCTS = 3


def demo(
    picture: str | Path | None = None,
    *,
    out: str | Path = "goodeye-demo",
    models: str = "showroom",
    want: int = 4,
    attempts: int = 5,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Result:
    """Makes advertising images of three of the showroom's products, or of `picture` and two of them.

    Everything, the ledger too, goes into `out`; where that holds a run already, into out-2, out-3, … Raises BadInput
    for a picture that cannot be used.
    """
    folder = _free(Path(out))
    rows = showroom_products()
    if picture is not None:
        if not Path(picture).is_file():
            raise BadInput(f"{picture} does not exist. Check the path.")
        rows = [(Path(picture).resolve(), ""), *rows]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("image", "title"), *rows[:PRODUCTS]])
    write_bytes(folder / "briefs.csv", table.getvalue().encode())
    return make(
        [folder / "briefs.csv"],
        want=want,
        attempts=attempts,
        models=models,
        out=folder,
        ledger=folder / "ledger",
        seed=seed,
        device=device,
        progress=progress,
    )


def showroom_products() -> list[tuple[Path, str]]:
    """The cut-outs that come with Goodeye, with their titles, in the order of their titles.json.

    Raises BadInput where Goodeye's own files are not complete.
    """
    folder = Path(str(files("goodeye.showroom"))) / "cutouts"
    try:
        titles = {entry["file"]: entry["title"] for entry in json.loads((folder / "titles.json").read_text("utf-8"))}
    except OSError as error:
        raise BadInput(f"{folder} holds no products. Install Goodeye again: its files are not complete.") from error
    return [(folder / name, title) for name, title in titles.items() if Path(name).suffix in PICTURES]


def _free(out: Path) -> Path:
    folder, number = out, 1
    while RunFolder(folder).holds_a_run():
        number += 1
        folder = out.with_name(f"{out.name}-{number}")
    return folder
