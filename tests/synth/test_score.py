"""Sets scored as a run that goes on after a kill, picked from anew, looked at, and exported; the commands around it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_world import ColourClip, drawn, two

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.images import open_image, save_png, to_pil, to_tensor
from goodeye.ledger.ledger import Ledger
from goodeye.synth import score as S
from goodeye.synth.clis_i import ImageScore, RegionScorer, ThingScore
from goodeye.synth.clis_l import ClisL
from goodeye.synth.draw import draw_all
from goodeye.synth.export import export
from goodeye.synth.layout import read_layouts, write_layouts
from goodeye.synth.look import write_page
from goodeye.synth.pick import Picking
from goodeye.synth.plan import plan


class Counting:
    """The colour CLIP as a scorer that counts, and that dies after some pictures if told to."""

    def __init__(self, after=None):
        self.region = RegionScorer(ColourClip(), ("cherry", "leaf", "sky"), scale=20.0)
        self.seen, self.after = 0, after

    def __call__(self, pictures, layouts, rivals):
        self.seen += len(pictures)
        if self.after is not None and self.seen > self.after:
            raise KeyboardInterrupt
        return self.region.of_pictures(pictures, layouts, rivals)


@pytest.fixture
def world(tmp_path):
    """Twelve layouts with two tries each: the first as wanted, the second with its things swapped."""
    layouts = [two(f"{n:02d}", "cherry", "leaf" if n % 2 else "sky") for n in range(12)]
    write_layouts(tmp_path / "l.jsonl", layouts)
    for one in layouts:
        colours = ["red", "green" if one.things[1].category == "leaf" else "blue"]
        save_png(to_pil(drawn(one, colours)), tmp_path / "images" / f"{one.key}-1.png")
        save_png(to_pil(drawn(one, colours[::-1])), tmp_path / "images" / f"{one.key}-2.png")
    return tmp_path


def scored(world, scorer=None, judge=None):
    items = S.read_set(world / "l.jsonl", world / "images")
    return S.score_set(items, world / "run", judge, scorer or Counting(), {"seed": 1}, batch=4)


def test_the_tries_of_a_layout_compete_and_the_right_one_is_kept(world):
    assert scored(world) == []
    choices = S.pick_run(world / "run", Picking(duplicates=None))
    assert [one.key for one in choices if one.kept] == [f"{n:02d}-1" for n in range(12)]
    assert {one.why for one in choices if not one.kept} == {"every thing is below 60"}
    assert "cherry-1 looks more like" in choices[1].notes[0]


def test_a_killed_run_goes_on_and_scores_nothing_twice(world):
    with pytest.raises(KeyboardInterrupt):
        scored(world, Counting(after=10))
    done = len(S.read_scores(world / "run"))
    assert 0 < done < 24
    with (world / "run" / S.SCORES).open("a") as file:
        file.write('{"key": "half a li')
    again = Counting()
    scored(world, again)
    rows = S.read_scores(world / "run")
    assert again.seen == 24 - done and sorted(row["key"] for row in rows) == sorted(
        f"{n:02d}-{i}" for n in range(12) for i in (1, 2)
    )
    scored(world, again)
    assert again.seen == 24 - done


def test_the_batch_and_a_kill_change_no_score(world):
    layouts = [two(f"{n:02d}", "cherry", "leaf" if n % 2 else "sky", caption=f"red and {n}") for n in range(12)]
    write_layouts(world / "l.jsonl", layouts)
    items = S.read_set(world / "l.jsonl", world / "images")
    S.score_set(items, world / "whole", None, Counting(), {}, batch=24)
    with pytest.raises(KeyboardInterrupt):
        S.score_set(items, world / "run", None, Counting(after=10), {}, batch=5)
    S.score_set(items, world / "run", None, Counting(), {}, batch=7)
    assert S.read_scores(world / "run") == S.read_scores(world / "whole")


def test_another_set_does_not_go_into_the_same_run(world):
    scored(world)
    with pytest.raises(BadInput, match="holds another set, or one by other models"):
        S.score_set(S.read_set(world / "l.jsonl", world / "images"), world / "run", None, Counting(), {"seed": 2})


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_scored(world):
    (world / "images" / "03-1.png").write_bytes(b"no")
    (one,) = scored(world)
    assert "03-1.png is not a picture" in one.message and len(S.read_scores(world / "run")) == 23


def test_layouts_alone_are_picked_by_clis_l(world, real_priors):
    layouts = plan(real_priors, {"person": (), "chair": ()}, 20)
    write_layouts(world / "l.jsonl", layouts)
    S.score_set(S.read_set(world / "l.jsonl"), world / "run", ClisL.fit(real_priors), None, {})
    choices = S.pick_run(world / "run", Picking(layout=40, duplicates=None))
    scores = {row["key"]: row["clis_l"]["score"] for row in S.read_scores(world / "run")}
    assert {one.key for one in choices if one.kept} == {key for key, score in scores.items() if score and score >= 40}
    with pytest.raises(BadInput, match="layouts without pictures"):
        S.examples(world / "run")


def test_near_duplicates_are_found_by_their_pictures(world):
    scored(world)
    kept = [one.key for one in S.pick_run(world / "run", Picking(), ColourClip()) if one.kept]
    assert len(kept) == 2  # one with a leaf, one with the sky: all others look the same


def test_what_was_kept_is_exported(world):
    scored(world)
    S.pick_run(world / "run", Picking(duplicates=None))
    counts = export(S.examples(world / "run"), world / "set")
    assert counts == {"images": 12, "annotations": 24, "categories": {"cherry": 12, "leaf": 6, "sky": 6}}


def test_the_page_shows_kept_and_rejected_with_reasons(world):
    scored(world)
    S.pick_run(world / "run", Picking(duplicates=None))
    page = write_page(world / "run", most=5).read_text()
    assert "Kept (12, 5 shown)" in page and "Rejected (12, 5 shown)" in page
    assert page.count("data:image/webp") == 10 and "every thing is below 60" in page
    assert page.count("What the scores are made of") == 10
    assert len(re.findall(r"<li>(cherry|leaf|sky)-1 \d+: category [\d.e-]+", page)) == 20
    assert "http" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_boxes_are_drawn_where_the_things_are(world):
    from goodeye.synth.look import SIDE, with_boxes

    scored(world)
    img = np.asarray(with_boxes(S.read_scores(world / "run")[0], {0}))
    assert img.shape == (SIDE * 48 // 64, SIDE, 3)
    assert tuple(img[120, 32]) == (0x1A, 0x7F, 0x4B) and tuple(img[120, 192]) == (0xC2, 0x41, 0x0C)


def test_names_of_boxes_stand_beside_each_other():
    from goodeye.synth.look import LINE, with_boxes

    boxes = [(0.5, 0.5, 0.3, 0.3), (0.51, 0.5, 0.2, 0.3), (0.97, 0.5, 0.03, 0.3)]
    things = [{"key": f"watering can-{at}", "box": box} for at, box in enumerate(boxes)]
    img = np.asarray(with_boxes({"file": None, "layout": {"things": things}}, {0, 2}))
    at = 160 - LINE, 160, 160 + LINE  # the first name's rows, and the second's, below it
    green, red = ((img[:, 170:230] == colour).all(-1) for colour in ((0x1A, 0x7F, 0x4B), (0xC2, 0x41, 0x0C)))
    assert green[at[0] : at[1]].mean() > 0.3 and red[at[1] + 2 : at[2]].mean() > 0.3, "one name hides the other"


def test_no_pictures_at_all_is_no_page(world):
    scored(world)
    S.pick_run(world / "run", Picking(duplicates=None))
    with pytest.raises(BadInput, match="at least 1 picture"):
        write_page(world / "run", most=-1)


def test_real_labelled_pictures_are_read_with_their_boxes(coco128):
    items = S.read_set(coco128)
    assert len(items) > 100 and all(one.file.is_file() for one in items)
    assert len({one.key for one in items}) == len(items)


def labelled(folder, boxes):
    """A COCO file of pictures and the boxes of their dogs, in pixels of 640 x 480."""
    images, annotations = [], []
    for number, (name, some) in enumerate(boxes.items(), start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480), (number, 90, 90)).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 640, "height": 480})
        annotations += [{"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box} for box in some]
    data = {"images": images, "categories": [{"id": 1, "name": "dog"}], "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(data))
    return folder / "coco.json"


def all_dogs(pictures, layouts, rivals):
    found = [tuple(ThingScore(thing.key, thing.category, 90.0) for thing in one.things) for one in layouts]
    return [ImageScore(90.0, None, things) for things in found]


def test_the_card_of_a_labelled_set_names_its_licences(tmp_path):
    source = labelled(tmp_path, {"a.png": [[10, 10, 300, 300], [320, 10, 300, 300]]})
    data = json.loads(source.read_text())
    data["categories"].append({"id": 2, "name": "cat"})
    data["annotations"][1]["category_id"] = 2
    data["licenses"] = [{"id": 1, "name": "CC BY 2.0"}, {"id": 2, "name": "CC BY 2.0"}, {"id": 3}, "x"]
    source.write_text(json.dumps(data))
    run, out = str(tmp_path / "run"), tmp_path / "set"
    assert main(["synth", "score", str(source), "--out", run, "--thing", "0"]) == 0
    assert main(["synth", "export", run, "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "| licences | CC BY 2.0 |" in card and str(tmp_path) not in card


def test_specks_and_crowded_pictures_are_left_out_and_named_and_the_others_exported(tmp_path):
    good = [10, 10, 100, 100]
    source = labelled(tmp_path, {"a.png": [good, [10, 10, 1, 30]], "b.png": [good], "c.png": [good] * 101})
    skipped = []
    S.score_set(S.read_set(source, skipped=skipped), tmp_path / "run", None, all_dogs, {})
    assert ["a.png: the box of dog-2" in skipped[0].message, "c.png has 101 boxes" in skipped[1].message] == [
        True,
        True,
    ]
    S.pick_run(tmp_path / "run", Picking(duplicates=None))
    counts = export(S.examples(tmp_path / "run"), tmp_path / "set")
    assert counts == {"images": 2, "annotations": 2, "categories": {"dog": 2}}


def test_a_scored_set_with_a_speck_is_exported_without_that_picture(tmp_path):
    """As scored before specks were left out."""
    source = labelled(tmp_path, {"a.png": [[10, 10, 100, 100]], "b.png": [[10, 10, 100, 100]]})
    S.score_set(S.read_set(source), tmp_path / "run", None, all_dogs, {})
    S.pick_run(tmp_path / "run", Picking(duplicates=None))
    first, second = (tmp_path / "run" / S.SCORES).read_text().splitlines()
    row = json.loads(first)
    row["layout"]["things"][0]["box"][2] = 0.001
    (tmp_path / "run" / S.SCORES).write_text(f"{json.dumps(row)}\n{second}\n")
    skipped = []
    assert [one.layout.key for one in S.examples(tmp_path / "run", skipped=skipped)] == ["b"]
    assert "below 0.002" in skipped[0].message


def test_a_try_is_of_the_layout_that_has_its_whole_name(tmp_path):
    """a-1.png is the layout a-1's only picture, and a's other one is a-2.png."""
    write_layouts(tmp_path / "l.jsonl", [two("a"), two("a-1")])
    for name in ("a-1", "a-2", "a-1-1"):
        save_png(to_pil(drawn(two())), tmp_path / "images" / f"{name}.png")
    found = {one.key: one.group for one in S.read_set(tmp_path / "l.jsonl", tmp_path / "images")}
    assert found == {"a-2": "a", "a-1": "a-1", "a-1-1": "a-1"}


@pytest.mark.parametrize("line", ["{", '{"key": "00-1"}', "[1]"])
def test_a_damaged_run_says_so_and_is_not_added_to(world, line):
    scored(world)
    file = world / "run" / S.SCORES
    rows = file.read_text().splitlines()
    file.write_text("\n".join([line, *rows[1:]]) + "\n")
    before = file.read_bytes()
    for call in (
        lambda: scored(world),
        lambda: S.pick_run(world / "run", Picking()),
        lambda: S.examples(world / "run"),
    ):
        with pytest.raises(BadInput, match=r"scores\.jsonl is damaged"):
            call()
    assert file.read_bytes() == before


def test_damaged_picks_say_so(world):
    scored(world)
    (world / "run" / S.PICKS).write_text("{}")
    for call in (S.examples, write_page):
        with pytest.raises(BadInput, match=r"picks\.json is damaged"):
            call(world / "run")


def test_a_picture_that_is_gone_is_said_on_the_page_and_by_what_needs_it(world):
    scored(world)
    S.pick_run(world / "run", Picking(duplicates=None))
    assert "is gone" not in write_page(world / "run").read_text()
    (world / "images" / "00-1.png").unlink()
    assert write_page(world / "run").read_text().count("Its picture is gone.") == 1
    with pytest.raises(BadInput, match=r"00-1\.png was scored and cannot be read any more"):
        S.pick_run(world / "run", Picking(), ColourClip())


def test_masks_that_are_not_there_are_no_boxes(world):
    scored(world)
    S.pick_run(world / "run", Picking(duplicates=None))
    with pytest.raises(BadInput, match="holds no masks"):
        S.examples(world / "run", "mask")


def test_pictures_of_one_name_in_two_folders_are_two(tmp_path):
    source = labelled(tmp_path, {"x/0.png": [[10, 10, 100, 100]], "y/0.png": [[10, 10, 100, 100]]})
    S.score_set(S.read_set(source), tmp_path / "run", None, all_dogs, {})
    assert [one.kept for one in S.pick_run(tmp_path / "run", Picking(duplicates=None))] == [True, True]
    with pytest.raises(BadInput, match="would be called 0"):
        S.read_set(labelled(tmp_path / "twice", {"0.png": [[10, 10, 100, 100]], "0.webp": [[10, 10, 100, 100]]}))


def test_a_picture_is_embedded_once_and_in_whatever_batch(world):
    """Twelve of one size and one of another, which cannot be in one batch."""
    scored(world)
    save_png(Image.new("RGB", (30, 90), "red"), world / "images" / "00-1.png")
    rows = [json.loads(line) for line in (world / "run" / S.SCORES).read_text().splitlines()]
    rows[0]["size"] = [30, 90]
    (world / "run" / S.SCORES).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seen = []

    class Seeing(ColourClip):
        def embed_images(self, images):
            seen.append(len(images))
            return super().embed_images(images)

    known = {}
    first = S.pick_run(world / "run", Picking(), Seeing(), known)
    assert sum(seen) == 24 and len(seen) < 24
    assert S.pick_run(world / "run", Picking(), Seeing(), known) == first and sum(seen) == 24
    for row in rows[:3]:
        alone = ColourClip().embed_images(to_tensor(open_image(row["file"]))[None])[0].numpy()
        assert np.allclose(known[row["key"]], alone, atol=1e-5)


@pytest.mark.parametrize("call", ["draw", "score", "pick"])
def test_no_batch_and_no_best_are_told(world, call):
    with pytest.raises(BadInput, match="(batch|best).* 0"):
        if call == "draw":
            draw_all(lambda layouts, seeds: None, read_layouts(world / "l.jsonl"), world / "drawn", batch=0)
        elif call == "score":
            S.score_set(S.read_set(world / "l.jsonl", world / "images"), world / "run", None, Counting(), {}, batch=0)
        else:
            Picking(best=0)
    assert not (world / "run").exists()


def test_layouts_without_pictures_are_told(world):
    (world / "images" / "05-1.png").unlink()
    (world / "images" / "05-2.png").unlink()
    with pytest.raises(BadInput, match="no picture for 1 of 12 layouts, 05 among them"):
        S.read_set(world / "l.jsonl", world / "images")
    with pytest.raises(BadInput, match="holds no scores"):
        S.read_scores(world / "none")
    scored_none = world / "run"
    scored_none.mkdir()
    with pytest.raises(BadInput, match="holds no picks"):
        S.read_picks(scored_none)


def test_from_the_showroom_to_a_set_by_commands(tmp_path, capsys, ledger):
    folder, store, run, out = (str(tmp_path / name) for name in ("world", "p.parquet", "run", "set"))
    assert main(["synth", "render", folder, "--count", "6", "--size", "64", "--seed", "3"]) == 0
    assert main(["synth", "priors", "--showroom", "400", "--out", store]) == 0
    line = ["synth", "score", f"{folder}/layouts.jsonl", "--images", f"{folder}/images", "--priors", store]
    assert main([*line, "--out", run, "--thing", "0", "--json", f"{tmp_path}/r.json"]) == 0
    kept = json.loads((tmp_path / "r.json").read_text())["kept"]
    assert kept and main(["synth", "look", run]) == 0 and Path(run, "look.html").exists()
    assert main(["synth", "export", run, "--out", out, "--join", f"{folder}/instances.json"]) == 0
    assert len(json.loads(Path(out, "coco.json").read_text())["images"]) == len(kept)
    (tmp_path / "c.txt").write_text("mug: red\ncouch\nlmap\n")
    assert main(["synth", "plan", str(tmp_path / "c.txt"), "--priors", store, "--out", f"{tmp_path}/l.jsonl"]) == 2
    assert "lmap is not in the priors. The nearest that are: lamp" in capsys.readouterr().err
    (tmp_path / "c.txt").write_text("mug: red\ncouch\nlamp\n")
    line = ["synth", "plan", str(tmp_path / "c.txt"), "--priors", store, "--out", f"{tmp_path}/l.jsonl", "-n", "5"]
    assert main(line) == 0 and len((tmp_path / "l.jsonl").read_text().splitlines()) == 5
    assert main(["synth", "score", f"{tmp_path}/l.jsonl", "--out", f"{tmp_path}/alone"]) == 2
    drawn = ["synth", "draw", f"{tmp_path}/l.jsonl", "--out", f"{tmp_path}/drawn", "--draw", "renderer", "--tries", "2"]
    judged = ["synth", "score", f"{tmp_path}/l.jsonl", "--images", f"{tmp_path}/drawn", "--out", f"{tmp_path}/judged"]
    assert main(drawn) == main(drawn) == main([*judged, "--thing", "0"]) == 0
    planned = (tmp_path / "l.jsonl").read_text()
    assert main([*line, "--seed", "1"]) == 0  # other layouts under the same keys at the same place
    assert main(drawn) == 2 and "drawn holds another set" in capsys.readouterr().err
    assert main([*judged, "--thing", "0"]) == 2 and "judged holds another set" in capsys.readouterr().err
    (tmp_path / "l.jsonl").write_text(planned)
    assert main(drawn) == 0
    with Ledger.open(ledger) as book:  # nothing of what `render` made, and of each picture drawn all that was said
        assert [(run.id, run.status) for run in book.runs()] == [(1, "done")]
        assert len({(one.brief_id, one.number) for one in book.attempts(1)}) == len(book.attempts(1)) == 10
        assert all([said.judge for said in one.verdicts] == ["clis_i"] for one in book.attempts(1))
        assert {pick.kept for pick in book.picks(1)} == {True, False} and len(book.picks(1)) == 10
        assert main([*judged, "--image", "100"]) == 0 and not any(pick.kept for pick in book.picks(1))
    line = ["synth", "make", str(tmp_path / "c.txt"), "--priors", store, "--out", f"{tmp_path}/made", "--thing", "0"]
    line += ["--images", "2", "--tries", "1", "--draw", "renderer", "--masks", "--json", f"{tmp_path}/m.json"]
    assert main(line) == main(line) == 0 and json.loads((tmp_path / "m.json").read_text())["images"] == 2
    (made, shown) = (json.loads((tmp_path / "made" / f"{name}.json").read_text()) for name in ("coco", "lvis"))
    assert {one["name"] for one in made["categories"]} <= {"mug", "couch", "lamp"} and len(shown["images"]) == 2
    assert all(one["segmentation"]["size"] == [128, 128] for one in made["annotations"])
    assert main([*line, "--seed", "1"]) == 2 and "holds another set" in capsys.readouterr().err


def test_a_set_of_whose_pictures_none_can_be_read_says_so(tmp_path):
    source = labelled(tmp_path, {"a.png": [[10, 10, 100, 100]], "b.png": [[10, 10, 100, 100]]})
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=r"none of the 2 pictures can be read\. The first: .*a\.png does not exist"):
        S.score_set(S.read_set(source), tmp_path / "run", None, all_dogs, {})


def test_a_picture_of_another_size_than_its_labels_are_of_is_left_out_and_named(tmp_path):
    """Turned, cut, or another one: the boxes would lie elsewhere, and masks do not fit."""
    source = labelled(tmp_path, {"a.png": [[10, 10, 100, 100]], "b.png": [[10, 10, 100, 100]]})
    Image.new("RGB", (480, 640)).save(tmp_path / "b.png")
    (one,) = S.score_set(S.read_set(source), tmp_path / "run", None, all_dogs, {})
    assert "b.png has 480x640 pixels, and its labels are of 640x480" in one.message
    assert [row["key"] for row in S.read_scores(tmp_path / "run")] == ["a"]


def test_no_pictures_at_once_are_refused_before_a_run_is_begun(world, tmp_path, capsys):
    line = ["synth", "draw", str(world / "l.jsonl"), "--out", str(tmp_path / "o"), "--draw", "renderer", "--batch", "0"]
    assert main([*line, "--ledger", str(tmp_path / "ledger")]) == 2
    assert "batch 0" in capsys.readouterr().err
    assert not (tmp_path / "o").exists() and not (tmp_path / "ledger").exists()
