"""Pictures are taken from beside or below the file, or from a folder that is named; from nowhere else."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exchange.world import jpeg
from goodeye.cli import DONE, main
from goodeye.errors import BadInput
from goodeye.exchange.formats import Name, import_into
from goodeye.ledger.ledger import Ledger


def votes(folder: Path, one: str, other: str) -> None:
    rows = [("image", "product", "label", "person"), (one, other, "available", "ann")]
    with (folder / "votes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def comparisons(folder: Path, one: str, other: str) -> None:
    rows = [("left_image", "right_image", "brief", "axis", "choice", "person"),
            (one, other, "cup", "overall", "left", "ann")]  # fmt: skip
    with (folder / "comparisons.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def coco(folder: Path, one: str, other: str) -> None:
    images = [{"id": place, "file_name": name} for place, name in enumerate((one, other))]
    data = {"images": images, "annotations": [], "categories": []}
    (folder / "instances.json").write_text(json.dumps(data))


def hpir(folder: Path, one: str, other: str) -> None:
    votes = {axis: {"votes": [2, 1]} for axis in ("accuracy", "aesthetic")}
    (folder / "hpir.json").write_text(json.dumps([{"id": 1, "query": "q", "A": [one], "B": [other], **votes}]))


def preferences(folder: Path, one: str, other: str) -> None:
    row = {"prompt": "a cup", "chosen": one, "rejected": other, "person": "ann"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "preferences.parquet")


def rewardedit(folder: Path, one: str, other: str) -> None:
    """Its rows name the folder of the pictures."""
    (folder / "rewards.json").write_text(json.dumps({str(Path(one).parent): [{"Score": 1}] * 3}))


def label_studio(folder: Path, one: str, other: str) -> None:
    tasks = [{"data": {"image": name}, "annotations": []} for name in (one, other)]
    (folder / "tasks.json").write_text(json.dumps(tasks))


FILES: list[tuple[Name, Callable[[Path, str, str], None]]] = [
    ("csv", votes), ("csv", comparisons), ("coco", coco), ("hpir", hpir), ("preferences", preferences),
    ("rewardedit", rewardedit), ("label-studio", label_studio),
]  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A stranger's folder beside one with two private pictures, named as an edit's two are."""
    for name in ("home", "given"):
        (tmp_path / name).mkdir()
    for place in (0, 1):
        (tmp_path / "home" / f"5_{place}.jpg").write_bytes(jpeg(place))
    (tmp_path / "given" / "link").symlink_to(tmp_path / "home")
    return tmp_path / "given"


@pytest.mark.parametrize(("format", "write"), FILES)
@pytest.mark.parametrize("way", ["../home", "below/../../home", "{home}", "link"])
def test_no_path_leads_out_of_the_folder(
    other: Ledger, given: Path, format: Name, write: Callable[[Path, str, str], None], way: str
) -> None:
    """Where one does, the row is named; whoever trusts it names the folder."""
    home = given.parent / "home"
    (given / "below").mkdir()
    write(given, *(f"{way.format(home=home)}/5_{place}.jpg" for place in (0, 1)))
    with pytest.raises(BadInput, match=r"(home|link).* is not below .*given.* --pictures"):
        import_into(other, format, given, person="ann")
    assert other.runs() == [] and list(other.store.folder.rglob("*.jpg")) == []
    found = import_into(other, format, given, person="ann", pictures=home)
    assert found.skipped == [] and all(row.image_sha for row in other.attempts(found.runs[0]))


@pytest.mark.parametrize(("format", "write"), FILES)
def test_pictures_below_the_file_or_in_the_folder_that_is_named_are_taken(
    other: Ledger, given: Path, format: Name, write: Callable[[Path, str, str], None]
) -> None:
    """Paths are read from either folder."""
    (given / "mine").mkdir()
    for place in (0, 1):
        (given / "mine" / f"5_{place}.jpg").write_bytes(jpeg(place))
    write(given, "mine/5_0.jpg", "mine/5_1.jpg")
    one = import_into(other, format, given, person="ann")
    write(given, "home/5_0.jpg", "home/5_1.jpg")
    more = import_into(other, format, given, person="ann", pictures=given.parent)
    assert one.skipped == more.skipped == []
    assert all(row.image_sha for row in other.attempts(one.runs[0]))


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 300 + ".jpg", "circle.jpg"])
def test_what_is_no_path_is_a_bad_row(other: Ledger, given: Path, name: str) -> None:
    (given / "circle.jpg").symlink_to(given / "circle.jpg")
    (given / "good.jpg").write_bytes(jpeg(1))
    coco(given, name, "good.jpg")
    found = import_into(other, "coco", given)
    assert found.attempts == 1 and [one.name for one in found.skipped] == ["instances.json image 0"]


def test_the_command_takes_a_folder_of_pictures(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco(given, "5_0.jpg", "5_1.jpg")
    words = ["ledger", "import", str(given), str(tmp_path / "new"), "--format", "coco", "--pictures"]
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "home")]) == DONE
    assert "2 attempts" in capsys.readouterr().out
