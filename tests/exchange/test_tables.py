"""CSV and preference pairs: out and in again is the same, twice in is once, and a bad row says what is wrong."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from exchange.world import comparisons_of, fill, votes_of
from goodeye.cli import BAD_INPUT, DONE, main
from goodeye.errors import BadInput
from goodeye.exchange.formats import export, import_into
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from ledger.recorder import picture

VOTE = ("person", "label", "axes", "seconds", "created", "chosen")
SAID = ("person", "judge", "version", "axis", "choice", "swapped", "created")


def test_csv_out_and_in_again_is_the_same(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    done = export(ledger, "csv", tmp_path / "out")
    assert done.written == 13 + 9
    found = import_into(other, "csv", tmp_path / "out")
    assert (found.votes, found.comparisons, found.skipped) == (13, 9, [])
    assert votes_of(other, *VOTE) == votes_of(ledger, *VOTE)
    assert comparisons_of(other, *SAID) == comparisons_of(ledger, *SAID)
    assert [(row.brief_key, row.slot, row.number) for row in other.attempts(1)] == [
        ("cup", 0, 1), ("cup", 0, 2), ("shoe ☕", 0, 1), ("shoe ☕", 0, 2)
    ]  # fmt: skip
    assert other.briefs(1)[0].content == ledger.briefs(1)[0].content
    assert other.briefs(1)[0].product_sha == ledger.briefs(1)[0].product_sha and check(other).clean


def test_the_same_file_again_adds_nothing_and_a_longer_one_what_is_new(
    ledger: Ledger, other: Ledger, tmp_path: Path
) -> None:
    fill(ledger)
    export(ledger, "csv", tmp_path / "out")
    import_into(other, "csv", tmp_path / "out")
    before = votes_of(other, *VOTE), comparisons_of(other, *SAID), len(other.runs())
    again = import_into(other, "csv", tmp_path / "out")
    assert (again.attempts, again.votes, again.comparisons, again.known) == (0, 0, 0, 22)
    assert (votes_of(other, *VOTE), comparisons_of(other, *SAID), len(other.runs())) == before
    table = tmp_path / "out" / "votes.csv"
    with table.open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    with table.open("a", newline="") as file:  # the very same vote, a second time
        csv.DictWriter(file, list(last)).writerow(last)
    assert import_into(other, "csv", tmp_path / "out").votes == 1


def test_bad_rows_are_named_and_the_rest_goes_on(other: Ledger, tmp_path: Path) -> None:
    for number in range(2):
        picture(number).save(tmp_path / f"{number}.png")
    rows = [
        "0.png,available,,", "gone.png,available,,", "0.png,,,", ",available,,", "1.png,size_mismatch,soon,",
        "1.png,size_mismatch,,nan", "votes.csv,available,,", "1.png,size_mismatch,2026-01-02T03:04:05,1.5",
    ]  # fmt: skip
    (tmp_path / "votes.csv").write_text("image,label,created,seconds\n" + "\n".join(rows) + "\n")
    found = import_into(other, "csv", tmp_path / "votes.csv", person="ann")
    assert found.votes == 2 and found.attempts == 2
    assert [one.name for one in found.skipped] == [f"votes.csv row {number}" for number in (2, 3, 4, 5, 6, 7)]
    reasons = ("gone.png", "no label", "no image", "no time", "not a number", "not a picture")
    assert all(reason in one.message for one, reason in zip(found.skipped, reasons, strict=True))
    assert [(vote.person, vote.label, vote.seconds) for vote in other.votes()] == [
        ("ann", "available", 0.0), ("ann", "size_mismatch", 1.5)
    ]  # fmt: skip


def test_a_table_without_names_needs_one(other: Ledger, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "votes.csv").write_text("image,label\n0.png,available\n")
    with pytest.raises(BadInput, match="no person"):
        import_into(other, "csv", tmp_path / "votes.csv")
    assert other.runs() == []


def test_preference_pairs_out_and_in_again(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    done = export(ledger, "preferences", tmp_path / "out")
    assert done.written == 8 and "similar" in done.left_out[-1].message
    table = pq.read_table(tmp_path / "out" / "preferences.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["chosen"] == {"_type": "Image"} and set(features) == set(table.column_names)
    row = table.to_pylist()[0]
    with Image.open(io.BytesIO(row["chosen"]["bytes"])) as chosen:
        assert chosen.size == (24, 24) and row["prompt"] == "on a table"
    found = import_into(other, "preferences", tmp_path / "out")
    assert found.comparisons == 8 and found.skipped == []
    decided = {said: n for said, n in comparisons_of(ledger, *SAID).items() if "'similar'" not in said}
    assert comparisons_of(other, *SAID) == decided
    assert import_into(other, "preferences", tmp_path / "out").known == 8


def test_anybodys_preference_pairs_are_taken(other: Ledger, tmp_path: Path) -> None:
    """The three columns alone; a row without a picture, and one with the same twice, are named."""
    import pyarrow as pa

    from exchange.world import jpeg

    rows = [
        {"prompt": "a cup", "chosen": {"bytes": jpeg(1), "path": None}, "rejected": {"bytes": jpeg(2), "path": None}},
        {"prompt": "a cup", "chosen": {"bytes": jpeg(1), "path": None}, "rejected": {"bytes": jpeg(1), "path": None}},
        {"prompt": "a cup", "chosen": {"bytes": jpeg(1), "path": None}, "rejected": {"bytes": None, "path": None}},
        {"prompt": "", "chosen": {"bytes": jpeg(1), "path": None}, "rejected": {"bytes": jpeg(2), "path": None}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "theirs.parquet")
    found = import_into(other, "preferences", tmp_path / "theirs.parquet", person="pickapic")
    assert found.comparisons == 1 and [one.name[-5:] for one in found.skipped] == ["row 2", "row 3", "row 4"]
    (said,) = other.comparisons()
    assert (said.person, said.choice, said.axis) == ("pickapic", "left", "overall")
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "less.parquet")
    with pytest.raises(BadInput, match="no column chosen, rejected"):
        import_into(other, "preferences", tmp_path / "less.parquet")


def test_what_a_table_of_pictures_cannot_hold_is_said(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.start_run("search", {}, 0)
    brief = ledger.add_brief(run, "q", {})
    row, failed, other = (
        ledger.record_attempt(brief, 0, 1, 0, None, shown=[picture(1), picture(2)]),
        ledger.record_attempt(brief, 0, 2, 0, None),
        ledger.record_attempt(brief, 0, 3, 0, picture(3)),
    )
    ledger.vote(failed, "ann", "available")
    ledger.compare(row, other, "ann", "overall", "left")
    ledger.compare(failed, other, "ann", "overall", "left")
    done = export(ledger, "csv", tmp_path / "out")
    assert done.written == 0 and len(done.left_out) == 3
    with pytest.raises(BadInput, match="not an empty folder"):
        export(ledger, "csv", tmp_path / "out")


@pytest.mark.parametrize("format", ["csv", "coco", "label-studio", "argilla"])
def test_votes_on_what_has_no_picture_are_named(ledger: Ledger, tmp_path: Path, format: Any) -> None:
    run = ledger.start_run("ads", {}, 0)
    brief = ledger.add_brief(run, "cup", {})
    for number, image in ((1, picture(1)), (2, None), (3, None)):
        attempt = ledger.record_attempt(brief, 0, number, 0, image)
        if number < 3:
            ledger.vote(attempt, "ann", "available")
    done = export(ledger, format, tmp_path / "out", [run, run])
    assert done.written == 1 and [one.name for one in done.left_out] == ["attempt 2"]


def test_a_mistyped_source_leaves_no_ledger_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "import", str(tmp_path / "votse"), str(tmp_path / "new"), "--format", "csv"]) == 2
    assert "votse does not exist" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_the_commands(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(ledger)
    words = ["ledger", "export", ledger.where, "--format", "csv", "--out", str(tmp_path / "out"), "--run", "1"]
    assert main(words) == DONE
    with (tmp_path / "out" / "votes.csv").open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"1"}
    with (tmp_path / "out" / "votes.csv").open("a") as file:
        file.write("x.png,,1,cup,,,0,9,0,ann,available,,0,\n")
    into = ["ledger", "import", str(tmp_path / "out"), str(tmp_path / "new"), "--format", "csv"]
    assert main([*into, "--json", str(tmp_path / "done.json")]) == BAD_INPUT
    said = capsys.readouterr()
    assert "9 votes" in said.out and "x.png" in said.err
    assert "Not among them: 4 verdicts." in said.out and "4 verdicts have no place in this format" in said.err
    assert json.loads((tmp_path / "done.json").read_text())["votes"] == 9
