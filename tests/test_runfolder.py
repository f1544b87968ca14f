"""A run's folder, whatever the job: it is taken, goes on and is given back, and says plainly what is wrong with it."""

from dataclasses import dataclass

import pytest

from goodeye.atomic import read_rows
from goodeye.errors import BadInput
from goodeye.runfolder import RunFolder, going_on, mark_of


@dataclass(frozen=True, kw_only=True)
class Command:
    names: tuple[str, ...] = ()
    steps: int = 5
    batch: int = 16
    device: str = "cpu"


def test_a_folder_is_taken_once_and_holds_what_was_written(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.require_free()
    folder.require_free()  # nothing has begun yet
    folder.write_json("plan.json", {"é": [1, None]})
    folder.begin({"steps": 5})
    assert (
        folder.holds_a_run() and folder.config() == {"steps": 5} and folder.read_json("plan.json") == {"é": [1, None]}
    )
    with pytest.raises(BadInput, match=r"already holds a run.*--resume"):
        folder.require_free()
    folder.forget("plan.json")
    assert not list(folder.path.iterdir()) and not folder.holds_a_run()


def test_a_metric_after_a_kill_is_on_its_own_line(tmp_path):
    folder = RunFolder(tmp_path)
    folder.require_free()
    folder.metric(made=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 3, "ma')
    folder.mend_metrics()
    folder.metric(made=2)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["made"] for row in rows] == [1, 2] and rows[0]["time"] <= rows[1]["time"]


def test_damaged_files_are_said_in_one_line(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin({"steps": 5})
    (tmp_path / "config.json").write_text('{"steps": ')
    with pytest.raises(BadInput, match=r"^\S+ cannot be resumed: its config\.json is damaged\. Start .*\.$"):
        folder.config()
    assert "a.json or b.json" in str(folder.damaged("a.json", "b.json"))


def test_a_file_is_marked_by_what_is_in_it(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert mark_of(tmp_path / "a") == {"file": str(tmp_path / "a"), "sha256": "ba7816bf8f01"}  # FIPS 180-2, B.1
    with pytest.raises(BadInput, match="b cannot be read"):
        mark_of(tmp_path / "b")


def test_a_resumed_command_may_leave_all_away_but_change_nothing_that_matters():
    before = Command(names=("a", "b", "c", "d"), steps=7)
    assert going_on(before, Command()) == before == going_on(before, before)
    assert going_on(before, Command(steps=7, batch=2, device="cuda")) == Command(
        names=before.names, steps=7, batch=2, device="cuda"
    )
    with pytest.raises(BadInput, match="was started with steps 7, and a resumed run keeps it"):
        going_on(before, Command(steps=8))
    with pytest.raises(BadInput, match="was started with names a b c …"):
        going_on(before, Command(names=("a",)))
    with pytest.raises(BadInput, match="started with batch 16"):
        going_on(before, Command(batch=2), free=())
