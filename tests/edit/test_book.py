"""Edits on the ledger: a verdict says what RewardEdit's files say; a run elsewhere is told."""

import pytest
from PIL import Image

from goodeye.edit.book import opened
from goodeye.edit.rewards import Rewards
from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.runfolder import RunFolder

CONFIG = {"job": "edit make", "seed": 3}


def test_a_verdict_says_what_rewardedit_says_and_is_there_once(tmp_path, ledger):
    said = Rewards((4.5, 2, None), ("", "the wall, too", ""))
    with opened(RunFolder(tmp_path / "out"), CONFIG, None, 3, ("large", "m")) as book:
        brief = book.brief("a", "make it night", Image.new("RGB", (8, 8)))
        for _ in range(2):  # as a call that goes on records again what is there
            book.attempt(brief, 1, 7, Image.new("RGB", (8, 8), "red"), said, 20, 1.5)
    with Ledger.open(ledger) as open_ledger:
        (attempt,) = open_ledger.attempts(book.run)
        (verdict,) = attempt.verdicts
        assert open_ledger.run(book.run).status == "done"
    assert verdict.scores == {"following": 4.5, "preserving": 2} and verdict.failures == ["preserving: the wall, too"]


def test_a_run_on_another_ledger_or_begun_otherwise_is_told(tmp_path):
    folder = RunFolder(tmp_path / "out")
    with opened(folder, CONFIG, None, 3):
        pass
    with pytest.raises(BadInput, match="There is no ledger in .*other"), opened(folder, CONFIG, tmp_path / "other", 3):
        pass
    with (
        pytest.raises(BadInput, match=r"begun otherwise \(changed: seed\)"),
        opened(folder, {**CONFIG, "seed": 4}, None, 3),
    ):
        pass
