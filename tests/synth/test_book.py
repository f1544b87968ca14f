"""Synth on the ledger: what a row of scores says, unknown scores as none, and whose run a folder's is."""

import pytest
from PIL import Image
from tiny_world import two

from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.synth.book import brief_key, opened
from goodeye.synth.describe import Failed
from goodeye.synth.pick import Choice

TOLD = {"concepts": {"cherry": []}, "seed": 3}
WRONG = "leaf-1 looks more like a sky than a leaf"
THINGS = [{"key": "cherry-1", "score": 90.0, "reasons": []}, {"key": "leaf-1", "score": 30.0, "reasons": [WRONG]}]
PAIR = {"subject": "cherry-1", "relation": "left of", "object": "leaf-1", "score": 40.0, "reason": "too near"}


def book_of(folder, ledger=None, told=TOLD):
    return opened(folder, told, ledger, 3, {"clis_i": "eye 1", "clis_l": "real 1"}, 50)


def row(tmp_path, layout, score):
    Image.new("RGB", (64, 48), "red").save(tmp_path / "picture.png")
    image = {"score": score, "whole": 70.0, "things": THINGS}
    about = {"key": f"{layout.key}-2", "group": layout.key, "file": str(tmp_path / "picture.png")}
    return {**about, "layout": layout.to_json(), "clis_i": image, "clis_l": {"score": 40.0, "pairs": [PAIR]}}


def test_a_layout_is_a_brief_its_picture_an_attempt_with_boxes_and_both_verdicts(tmp_path, ledger):
    layout = two("a000007", caption="a cherry left of a leaf")
    with book_of(tmp_path / "run") as book:
        book.drawn(layout, 2, Image.new("RGB", (64, 48), "red"), 1.5)
        scored = row(tmp_path, layout, 65.0)
        for _ in range(2):
            book.scored(scored)
            book.picked([scored], [Choice("a000007-2", True, (0,))])
    with Ledger.open(ledger) as found:
        (brief,), (attempt,) = found.briefs(book.run), found.attempts(book.run)
        (pick,) = found.picks(book.run)
        assert found.run(book.run).status == "done" and found.run(book.run).job == "synth"
    assert brief.content["title"] == "cherry, leaf" and brief.content["prompt"] == "a cherry left of a leaf"
    assert brief.product_sha is None and brief.key.startswith("a000007-")
    assert (attempt.number, attempt.evals, attempt.seconds) == (2, 50, 1.5)
    assert attempt.detail["boxes"][0] == {"name": "cherry", "bbox": [6.4, 14.4, 16.0, 19.2]}  # of 64 x 48
    image, placed = attempt.verdicts
    assert (image.judge, image.version, placed.judge, placed.version) == ("clis_i", "eye 1", "clis_l", "real 1")
    assert image.scores == {"clis_i": 65, "whole": 70, "cherry-1": 90, "leaf-1": 30}
    assert image.failures == [WRONG]
    assert placed.scores == {"clis_l": 40, "cherry-1 left of leaf-1": 40} and placed.failures == ["too near"]
    assert (pick.kept, pick.why) == (True, "1 of 2 things labelled")


def test_an_unknown_score_is_no_number(tmp_path, ledger):
    layout = two("a000007")
    with book_of(tmp_path / "run") as book:
        scored = row(tmp_path, layout, None)
        book.picked([scored], [Choice("a000007-2", False, (), "its score is unknown")])  # what was lost is made good
        (attempt,) = book.ledger.attempts(book.run)
        assert attempt.verdicts[0].scores == {} and attempt.verdicts[0].failures[-1] == "its score is unknown"
        assert attempt.image_sha and book.ledger.picks(book.run)[0].why == "its score is unknown"


def test_a_later_version_of_a_judge_is_heard_where_a_kill_lost_its_verdict(tmp_path, ledger):
    scored, choice = row(tmp_path, two("a000007"), 65.0), Choice("a000007-2", True, (0,))
    with book_of(tmp_path / "run") as book:
        book.scored(scored)
    with opened(tmp_path / "run", TOLD, ledger, 3, {"clis_i": "eye 2", "clis_l": "real 1"}) as again:
        again.picked([scored], [choice])
        said = [(one.judge, one.version) for one in again.ledger.attempts(again.run)[0].verdicts]
    assert said == [("clis_i", "eye 1"), ("clis_l", "real 1"), ("clis_i", "eye 2")]


def test_layouts_that_are_called_alike_are_told_apart():
    assert brief_key(two("a000000")) == brief_key(two("a000000")) != brief_key(two("a000000", "leaf", "cherry"))


def test_what_a_large_model_failed_at_is_a_try_without_a_picture(tmp_path, ledger):
    with book_of(tmp_path / "run") as book:
        for _ in range(2):
            book.failed(Failed("a000001", ("cherry-1", "leaf-1"), "the answer is not JSON", "Sure!"))
        (attempt,) = book.ledger.attempts(book.run)
    assert attempt.image_sha == "" and attempt.detail == {"why": "the answer is not JSON", "said": "Sure!"}


def test_a_folder_goes_on_with_its_own_run_wherever_the_ledger_is(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), book_of(tmp_path / "run", tmp_path / "mine") as book:
        raise KeyboardInterrupt
    with Ledger.open(tmp_path / "mine") as found:
        assert found.run(book.run).status == "stopped"
    with book_of(tmp_path / "run") as again:  # not the one of GOODEYE_LEDGER
        assert again.run == book.run
    with book_of(tmp_path / "another", tmp_path / "other", {**TOLD, "seed": 4}):
        pass
    with pytest.raises(BadInput, match="Name that one with --ledger"), book_of(tmp_path / "run", tmp_path / "other"):
        pass
    with pytest.raises(BadInput, match="holds another set"), book_of(tmp_path / "run", told={"seed": 5}):
        pass
