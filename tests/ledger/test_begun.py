"""A run's folder and its run on the ledger."""

import pytest

from goodeye.errors import BadInput
from goodeye.ledger.begun import begun, told_of
from goodeye.ledger.ledger import Ledger
from goodeye.runfolder import RunFolder

TOLD = {"editor": "one", "n": 2}


def test_a_folder_goes_on_with_its_own_run_wherever_the_next_call_stands(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "out")
    assert told_of(folder) == {}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt), begun(folder, "edit", TOLD, "book", 3) as (_, first):
        raise KeyboardInterrupt
    with Ledger.open(tmp_path / "book") as book:
        assert [(one.id, one.status) for one in book.runs()] == [(first, "stopped")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with begun(folder, "edit", TOLD, None, 3) as (book, again):
        assert again == first and told_of(folder) == TOLD
    with Ledger.open(tmp_path / "book") as book:
        assert [(one.id, one.seed, one.status) for one in book.runs()] == [(first, 3, "done")]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_where_the_password_is_not_written_down_the_ledger_is_asked_for_and_none_is_made(tmp_path, monkeypatch):
    monkeypatch.delenv("GOODEYE_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "out")
    folder.begin({**TOLD, "ledger": "postgresql://me:***@host/book", "run": 1})
    with (
        pytest.raises(BadInput, match=r"on the ledger postgresql://.* with --ledger"),
        begun(folder, "e", TOLD, None, 3),
    ):
        pass
    with pytest.raises(BadInput, match="There is no ledger in .*other"), begun(folder, "e", TOLD, "other", 3):
        pass
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_run_of_the_same_number_in_another_ledger_is_not_taken_for_it(tmp_path):
    folder = RunFolder(tmp_path / "out")
    with begun(folder, "edit", TOLD, tmp_path / "book", 0) as (_, run):
        pass
    with Ledger.open(tmp_path / "other") as other:
        assert other.start_run("edit", {**TOLD, "n": 3}, 0) == run
    with pytest.raises(BadInput, match="book, and not on .*other"), begun(folder, "edit", TOLD, tmp_path / "other", 0):
        pass
