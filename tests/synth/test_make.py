"""From concepts to a set in one go: killed at any stage and taken up again it is the same set; what is kept is enough,
and every rejected picture is on record."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_world import ColourClip, drawn

from goodeye.errors import BadInput
from goodeye.judging.large import BadAnswer
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.synth.clis_i import RegionScorer
from goodeye.synth.make import FAILED, Make, Means, make
from goodeye.synth.masks import box_around
from goodeye.synth.pick import Picking
from goodeye.synth.priors import Gather
from goodeye.synth.score import read_picks, read_scores, read_set, score_set

CONCEPTS = {"cherry": (), "leaf": (), "sky": ()}
PICKING = Picking(duplicates=None)


def small_priors():
    import numpy as np

    gather, random = Gather(), np.random.default_rng(0)
    for number in range(240):
        names = random.permutation(list(CONCEPTS))[:2]
        x, y = random.uniform(0.02, 0.1, 2)
        pair = np.array([[(x, y + 0.2, 0.3, 0.4), (x + 0.45, y + 0.2, 0.3, 0.4)]])
        gather.add("test", number, [(names[0], "left of", names[1])], pair)
    return gather.priors()


class Drawer:
    """Paints plain colours; every second picture by its seed shows the wrong ones. Dies after so many, if told to."""

    def __init__(self, after=None, bad=2):
        self.after, self.bad, self.made = after, bad, 0

    def __call__(self, layouts, seeds):
        import torch

        found = []
        for one, seed in zip(layouts, seeds, strict=True):
            if self.after is not None and self.made >= self.after:
                raise KeyboardInterrupt
            self.made += 1
            found.append(drawn(one, ["dark"] * len(one.things) if seed % self.bad == 0 else None))
        return torch.stack(found)


class Scoring:
    """CLIS-I by the colours; dies after so many, if told to."""

    def __init__(self, after=None):
        self.region, self.after, self.seen = RegionScorer(ColourClip(), tuple(CONCEPTS), scale=20.0), after, 0

    def __call__(self, pictures, layouts, rivals):
        self.seen += len(pictures)
        if self.after is not None and self.seen > self.after:
            raise KeyboardInterrupt
        return self.region.of_pictures(pictures, layouts, rivals)


def means(draw=None, scorer=None, **more):
    about = {"draws": "colours"}
    return Means(
        priors=small_priors(), draw=draw or Drawer(), scorer=scorer or Scoring(), clis_l=None, about=about, **more
    )


def config(**more):
    return Make(**{"images": 9, "tries": 2, "rounds": 4, "batch": 4, "picking": PICKING, "formats": ("coco",), **more})


def files(folder):
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def test_as_many_as_were_asked_for_are_kept_and_all_of_them_are_right(tmp_path):
    made = make(CONCEPTS, tmp_path / "set", means(), config())
    rows = {row["key"]: row for row in read_scores(tmp_path / "set/run")}
    assert made.counts["images"] == 9 and len(rows) == made.drawn > 18 - 1
    assert {key[0] for key in rows} > {"a"}  # the first round lost some to its wrong pictures
    coco = json.loads((tmp_path / "set/coco.json").read_text())
    assert len(coco["images"]) == 9 and {one["name"] for one in coco["categories"]} <= set(CONCEPTS)
    assert len({one["id"] for one in coco["annotations"]}) == len(coco["annotations"]) >= 9
    for one in coco["annotations"]:
        x, y, w, h = one["bbox"]
        assert min(x, y) >= 0 and x + w <= 64 + 1e-6 and y + h <= 48 + 1e-6 and min(w, h) >= 1
    choices = read_picks(tmp_path / "set/run")["choices"]
    assert all(one["kept"] or one["why"] for one in choices) and len(choices) == made.drawn
    card = (tmp_path / "set/README.md").read_text()
    assert "| draws | colours |" in card and "| tries | 2 |" in card and "thing 60" in card


def test_scored_again_by_themselves_its_pictures_get_the_same_scores(tmp_path):
    """Several rounds, of fewer captions than compete, in batches of other sizes."""
    run = tmp_path / "set/run"
    make(CONCEPTS, tmp_path / "set", means(), config(images=5, rounds=3))
    score_set(read_set(run / "layouts.jsonl", run / "drawn"), tmp_path / "again", None, Scoring(), {}, batch=3)
    known, again = ({row["key"]: row["clis_i"] for row in read_scores(one)} for one in (run, tmp_path / "again"))
    assert known == again and {key[0] for key in known} > {"a"}


@pytest.mark.parametrize("stage", ["draw", "score", "plan"])
def test_a_set_that_was_stopped_goes_on_and_is_the_same(tmp_path, stage, monkeypatch):
    make(CONCEPTS, tmp_path / "whole", means(), config())
    broken = {"draw": means(draw=Drawer(after=7)), "score": means(scorer=Scoring(after=9)), "plan": means()}[stage]
    if stage == "plan":
        monkeypatch.setattr("goodeye.synth.make.draw_all", _stop)
    with pytest.raises(KeyboardInterrupt):
        make(CONCEPTS, tmp_path / "set", broken, config())
    monkeypatch.undo()
    again = means()
    made = make(CONCEPTS, tmp_path / "set", again, config())
    whole, found = files(tmp_path / "whole"), files(tmp_path / "set")
    assert found.keys() == whole.keys()
    same = [name for name in whole if not name.startswith("run/scores") and not name.startswith("run/picks")]
    assert all(found[name] == whole[name] for name in same if name.endswith((".png", "coco.json", "layouts.jsonl")))
    assert made.drawn > again.draw.made or stage == "plan"
    drawn_again = Drawer()
    make(CONCEPTS, tmp_path / "set", means(draw=drawn_again), config(batch=2))  # the batch is no other set
    assert drawn_again.made == 0 and files(tmp_path / "set")["coco.json"] == whole["coco.json"]


def _stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_set_that_was_moved_goes_on_where_it_is_now(tmp_path, ledger):
    """Nothing is taken from where it was, not even where something stands there again."""
    make(CONCEPTS, tmp_path / "set", means(), config(images=4), ledger=ledger)
    before = files(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / "moved")
    (tmp_path / "set").mkdir()
    again = Drawer()
    made = make(CONCEPTS, tmp_path / "moved", means(draw=again), config(images=4), ledger=ledger)
    assert made.counts["images"] == 4 and again.made == 0
    assert {name: data for name, data in files(tmp_path / "moved").items() if not name.startswith("run/picks")} == {
        name: data for name, data in before.items() if not name.startswith("run/picks")
    }
    assert all(row["file"].startswith(str(tmp_path / "moved")) for row in read_scores(tmp_path / "moved/run"))


def test_a_set_is_made_by_one_process_at_a_time(tmp_path, ledger):
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
from test_make import CONCEPTS, Drawer, config, make, means

class Waiting(Drawer):
    def __call__(self, layouts, seeds):
        print("drawing", flush=True)
        sys.stdin.readline()
        return super().__call__(layouts, seeds)

make(CONCEPTS, sys.argv[1], means(draw=Waiting()), config(images=2, batch=99))
"""
    first = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "set")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "drawing\n"
    with pytest.raises(BadInput, match=r"set/run is being written by another process"):
        make(CONCEPTS, tmp_path / "set", means(), config(images=2))
    first.communicate("\n" * 9, timeout=300)
    assert first.returncode == 0
    made = make(CONCEPTS, tmp_path / "set", means(draw=Drawer(after=0)), config(images=2))
    assert made.counts["images"] == 2
    with Ledger.open(ledger) as book:
        assert [one.status for one in book.runs("synth")] == ["done"]


def test_a_folder_that_cannot_be_written_begins_no_run(tmp_path, ledger):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="cannot be written"):
        make(CONCEPTS, tmp_path / "file", means(), config())
    with Ledger.open(ledger, create=True) as book:
        assert book.runs("synth") == []


def test_a_set_that_falls_short_says_so(tmp_path):
    """At most 3 things of each of 3 categories, so that 9 pictures cannot be had."""
    made = make(CONCEPTS, tmp_path / "set", means(), config(picking=Picking(duplicates=None, quota=3), rounds=2))
    assert made.to_json()["asked"] == 9 > made.counts["images"]
    card = (tmp_path / "set/README.md").read_text()
    assert (
        "| asked for | 9 pictures |" in card and f"| drawn | {made.counts['images']} of {made.drawn} pictures" in card
    )
    assert "quota full" in card


def test_another_set_is_refused_and_what_is_unknown_is_named(tmp_path):
    make(CONCEPTS, tmp_path / "set", means(), config())
    with pytest.raises(BadInput, match="holds another set, or one by other models: its seed is not as it was"):
        make(CONCEPTS, tmp_path / "set", means(), config(seed=1))
    with pytest.raises(BadInput, match="cherri is not in the priors. The nearest that are: cherry"):
        make({"cherri": ()}, tmp_path / "other", means(), config())
    with pytest.raises(BadInput, match="leaf is no category of the set to join"):
        make({"leaf": ()}, tmp_path / "other", means(categories={"cherry": 3}), config())
    assert not (tmp_path / "other").exists()
    with pytest.raises(BadInput, match="1 image or more"):
        config(images=0)
    with pytest.raises(BadInput, match="seed is -1"):
        config(seed=-1)


def test_where_nothing_passes_it_is_said_and_no_set_is_written(tmp_path):
    with pytest.raises(BadInput, match="none of 12 pictures was kept"):
        make(CONCEPTS, tmp_path / "set", means(draw=Drawer(bad=1)), config(images=3, rounds=2))
    assert not (tmp_path / "set/coco.json").exists() and len(read_scores(tmp_path / "set/run")) == 12


def test_masks_are_found_for_what_is_kept_and_boxes_can_be_theirs(tmp_path):
    looked = []

    def masker(images, layouts, keys):
        looked.extend(keys)
        return [[_left_half(image, thing) for thing in one.things] for image, one in zip(images, layouts, strict=True)]

    made = make(CONCEPTS, tmp_path / "set", means(masker=masker), config(boxes="mask"))
    assert sorted(looked) == sorted(one.key for one in made.choices if one.kept)
    coco = json.loads((tmp_path / "set/coco.json").read_text())
    for one in coco["annotations"]:
        assert one["segmentation"]["size"] == [48, 64] and one["area"] == sum(one["segmentation"]["counts"][1::2])
        assert one["bbox"][2] <= 0.2 * 64  # the things are .3 wide
    looked.clear()
    make(CONCEPTS, tmp_path / "set", means(masker=masker), config(boxes="mask"))
    assert not looked


def _left_half(image, thing):
    import numpy as np

    mask = np.zeros((image.height, image.width), dtype=bool)
    x, y, w, h = thing.box
    mask[int(y * image.height) : int((y + h) * image.height), int(x * image.width) : int((x + w / 2) * image.width)] = 1
    assert box_around(mask)[2] <= w
    return mask


class Prose:
    """A large model that answers with prose, always."""

    def ask(self, asked, kind):
        raise BadAnswer("the answer is not JSON", "Sure! Here is a layout for you")


def test_a_large_model_that_cannot_lay_out_is_on_record_and_nothing_is_made_up(tmp_path):
    for _ in range(2):
        with pytest.raises(BadInput, match="no layout was planned"):
            make(CONCEPTS, tmp_path / "set", means(planner=Prose()), config(images=2, rounds=1))
    rows = [json.loads(line) for line in (tmp_path / "set/run" / FAILED).read_text().splitlines()]
    assert [row["key"] for row in rows] == ["a000000", "a000001"]  # once, though it was asked for twice
    assert all(row["said"].startswith("Sure!") and row["message"] for row in rows)


def test_what_a_large_model_could_not_lay_out_is_on_record_though_it_was_stopped(tmp_path):
    class Stopped(Prose):
        asked = 0

        def ask(self, asked, kind):
            Stopped.asked += 1
            if Stopped.asked > 2:
                raise KeyboardInterrupt
            return super().ask(asked, kind)

    with pytest.raises(KeyboardInterrupt):
        make(CONCEPTS, tmp_path / "set", means(planner=Stopped()), config(images=9, rounds=1))
    rows = [json.loads(line) for line in (tmp_path / "set/run" / FAILED).read_text().splitlines()]
    assert [row["key"] for row in rows] == ["a000000", "a000001"]


def on_record(ledger, number):
    """What a run has on the ledger, but for its ids and times."""
    attempts = {one.id: one for one in ledger.attempts(number)}
    said = {pick.attempt_id: (pick.kept, pick.why) for pick in ledger.picks(number)}
    places = [(one.brief_key, one.number) for one in attempts.values()]
    assert len(set(places)) == len(places) and said.keys() <= attempts.keys()
    return {
        place: (one.seed, one.image_sha, one.detail, one.verdicts, said.get(one.id))
        for place, one in zip(places, attempts.values(), strict=True)
    }


def test_a_process_that_is_killed_goes_on_and_the_ledger_has_all_of_it_once(tmp_path, ledger):
    """kill -9 while it draws, while it scores, and while it picks; tiny, but the real thing."""
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
import time
from test_make import CONCEPTS, Drawer, Scoring, config, make, means

class Slow(Drawer):
    def __call__(self, layouts, seeds):
        time.sleep(0.05)
        return super().__call__(layouts, seeds)

class SlowScoring(Scoring):
    def __call__(self, pictures, layouts, rivals):
        time.sleep(0.1)
        return super().__call__(pictures, layouts, rivals)

make(CONCEPTS, sys.argv[1], means(draw=Slow(), scorer=SlowScoring()), config(images=24))
"""
    out, book = tmp_path / "set", Ledger.open(ledger)
    with book:
        for drawn_, scored, picked in ((4, 0, 0), (0, 6, 0), (0, 0, 3)):
            process = subprocess.Popen([sys.executable, "-c", script, str(out)])
            deadline = time.monotonic() + 600
            while True:
                rows = book.attempts(1)
                judged = sum(bool(one.verdicts) for one in rows)
                if len(rows) >= drawn_ and judged >= scored and len(book.picks(1)) >= picked and rows:
                    break
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert check(book).clean
        made = make(CONCEPTS, out, means(), config(images=24))
        make(CONCEPTS, tmp_path / "whole", means(), config(images=24))
        assert files(out)["coco.json"] == files(tmp_path / "whole")["coco.json"]
        found = check(book)
        assert found.clean and [one.status for one in book.runs("synth")] == ["done", "done"]
        killed, whole = on_record(book, 1), on_record(book, 2)
        assert killed == whole and len(whole) == made.drawn
        assert all(one.seconds > 0 for one in book.attempts(2))
        kept = {place: said for place, (*_, said) in whole.items() if said[0]}
        assert len(kept) == 24 and all(why for _, why in kept.values())


def test_the_large_model_that_plans_is_on_record_by_its_name(tmp_path, monkeypatch, ledger):
    """However it was named; a set goes on with the same one alone."""
    from goodeye.cli import main
    from goodeye.judging.large import LargeModel

    monkeypatch.setattr(LargeModel, "ask", Prose.ask)
    monkeypatch.setenv("GOODEYE_SERVER", "http://localhost:1/v1")
    small_priors().save(tmp_path / "p.parquet")
    (tmp_path / "c.txt").write_text("cherry\nleaf\n")
    line = ["synth", "make", str(tmp_path / "c.txt"), "--priors", str(tmp_path / "p.parquet"), "--images", "1"]
    line += ["--out", str(tmp_path / "set"), "--draw", "renderer", "--by-model"]
    monkeypatch.setenv("GOODEYE_MODEL", "planner-7b")
    assert main(line) == 2
    assert json.loads((tmp_path / "set/run/config.json").read_text())["planner"] == "planner-7b"
    monkeypatch.setenv("GOODEYE_MODEL", "another")
    assert main(line) == 2 and main([*line, "--model", "planner-7b"]) == 2
    assert json.loads((tmp_path / "set/run/config.json").read_text())["planner"] == "planner-7b"
