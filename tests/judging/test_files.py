"""Scoring files: real photographs, bad files among good ones, and going on after a stop."""

import csv
import io
import json
import types

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from tiny_judges import grey, rfnet_config, tiny_clip

from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.judging import files
from goodeye.judging.files import judge_files, score_table
from goodeye.judging.protocol import Axis, Context, Verdict
from goodeye.judging.rfnet import RFNet, RFNetJudge
from goodeye.judging.titles import title_tokenizer


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    rfnet = RFNetJudge(RFNet(rfnet_config()), title_tokenizer(["a red mug"]), grey, grey)
    return types.SimpleNamespace(clip=tiny_clip(["a photograph of a mug"]), rfnet=rfnet)


@pytest.fixture
def photographs(shared_data):
    return sorted((shared_data / "coco128" / "images").glob("*.jpg"))[:9]


@pytest.fixture
def head(tmp_path):
    save_file({"weight": torch.randn(1, 24), "bias": torch.tensor([5.0])}, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def test_scores_do_not_depend_on_the_batch_and_keep_the_order(models, photographs, head):
    paths = photographs[::-1]
    sizes = {open_image(path).size for path in paths}
    assert len(sizes) > 2  # so batches of one size mix the order
    jobs = [
        judge_files(paths, ["clip", "aesthetic"], models, batch_size=b, prompt="a mug", aesthetic_head=head)
        for b in (1, 4)
    ]
    for job in jobs:
        assert [row["image"] for row in job.rows] == [str(path) for path in paths] and not job.skipped
    for one, four in zip(jobs[0].rows, jobs[1].rows, strict=True):
        assert one["clip.similarity"] == pytest.approx(four["clip.similarity"], abs=1e-5)
        assert one["aesthetic.beauty"] == pytest.approx(four["aesthetic.beauty"], abs=1e-4)
    image = to_tensor(open_image(paths[0]))[None]
    text = models.clip.embed_texts(["a mug"])
    by_hand = float((models.clip.embed_images(image) * text).sum())
    assert jobs[0].rows[0]["clip.similarity"] == pytest.approx(by_hand, abs=1e-5)


def test_judges_with_one_clip_model_embed_each_picture_once(models, photographs, head, monkeypatch):
    encode, seen = models.clip.model.get_image_features, []

    def counted(pixel_values):
        seen.append(len(pixel_values))
        return encode(pixel_values=pixel_values)

    monkeypatch.setattr(models.clip.model, "get_image_features", counted)
    given = {"batch_size": 4, "prompt": "a mug", "aesthetic_head": head}
    both = judge_files(photographs, ["aesthetic", "clip"], models, **given)
    assert sum(seen) == len(photographs) == len(both.rows)
    alone = [judge_files(photographs, [name], models, **given).rows for name in ("aesthetic", "clip")]
    assert both.rows == [first | second for first, second in zip(*alone, strict=True)]
    assert sum(seen) == 3 * len(photographs)


def test_bad_files_are_reported_and_never_scored(models, photographs, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(photographs[0].read_bytes()[:900])
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (1, 1)).save(tmp_path / "one_pixel.png")
    Image.new("RGBA", (300, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    job = judge_files([tmp_path, tmp_path / "none.png", photographs[0]], ["clip"], models, title="a mug")
    assert [row["image"] for row in job.rows] == [
        str(tmp_path / "clear.png"), str(tmp_path / "one_pixel.png"), str(photographs[0])
    ]  # fmt: skip
    assert sorted(s.name.rsplit("/")[-1] for s in job.skipped) == ["cut.jpg", "empty.jpg", "none.png", "text.png"]
    assert all(s.name in s.message and "\n" not in s.message for s in job.skipped)


def test_a_table_gives_each_picture_its_own_product_title_and_prompt(models, tmp_path, shared_data):
    cutout = sorted((shared_data / "products").glob("*.webp"))[0]
    Image.new("RGB", (256, 256), (90, 120, 200)).save(tmp_path / "ad.png")
    Image.new("RGB", (256, 256), (90, 120, 200)).save(tmp_path / "other.png")
    Image.new("RGB", (100, 256)).save(tmp_path / "narrow.png")
    with (tmp_path / "ads.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "product", "title"])
        rows.writerows([["ad.png", cutout, "a red mug"], ["other.png", "", "x"], ["narrow.png", cutout, ""]])
    job = judge_files([tmp_path / "ads.csv"], ["rfnet"], models)
    assert [row["image"] for row in job.rows] == [str(tmp_path / "ad.png")]
    assert "no product" in job.skipped[0].message and "another shape" in job.skipped[1].message
    context = Context(to_tensor(open_image(cutout)), "a red mug")
    (verdict,) = models.rfnet.inspect(to_tensor(open_image(tmp_path / "ad.png"))[None], [context])
    row = job.rows[0]
    assert row["rfnet.label"] == verdict.label and row["rfnet.failures"] == "; ".join(verdict.failures)
    assert row["rfnet.available"] == pytest.approx(verdict.scores["available"], abs=1e-5)
    job = judge_files([tmp_path / "other.png"], ["rfnet"], models, product=cutout)
    assert len(job.rows) == 1
    Image.new("RGB", (256, 256)).save(tmp_path / "solid.png")
    job = judge_files([tmp_path / "other.png"], ["rfnet"], models, product=tmp_path / "solid.png")
    assert not job.rows and "no transparency" in job.skipped[0].message


def test_a_picture_named_again_with_other_words_is_judged_once_and_said(models, tmp_path):
    Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / "mug.png")
    (tmp_path / "two.csv").write_text("image,prompt\nmug.png,a photograph of a mug\nmug.png,a mug of a photograph\n")
    (tmp_path / "same.csv").write_text("image,prompt\nmug.png,a mug\nmug.png,a mug\n")
    job = judge_files([tmp_path / "two.csv"], ["clip"], models)
    assert len(job.rows) == 1 and "named again" in job.skipped[0].message
    first = judge_files([tmp_path / "mug.png"], ["clip"], models, prompt="a photograph of a mug")
    assert job.rows == first.rows and not first.skipped
    assert not judge_files([tmp_path / "same.csv"], ["clip"], models).skipped


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"paths": []}, "no picture is named"),
        ({"batch_size": 0}, "batch is 0"),
        ({"resume": True}, "no file to go on with"),
        ({"out": "/proc/scores.parquet"}, "cannot be written"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(given, says):
    with pytest.raises(BadInput, match=says):
        judge_files(**({"paths": ["a.png"], "names": ["clip"], "models": None} | given))


class Unsure:
    """Inspects, needs the text, and cannot read its main axis of dark pictures."""

    name, version, differentiable, licence, needs = "unsure", "1", False, "MIT", {"text"}
    axes = (Axis("fine", 0.0, 1.0), Axis("dark", 0.0, 1.0))

    def inspect(self, images, contexts):
        assert all(context.prompt for context in contexts)
        dark = [float(1 - image.mean()) for image in images]
        known = [{"dark": one} if one > 0.5 else {"dark": one, "fine": 1 - one} for one in dark]
        return [Verdict(self.name, self.version, "seen", scores, []) for scores in known]


def test_what_an_inspector_could_not_read_is_missing_not_a_number(tmp_path):
    for name, shade in (("a", 40), ("b", 240)):
        Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / f"{name}.png")
    models, out = types.SimpleNamespace(rfnet=Unsure()), tmp_path / "scores.parquet"
    job = judge_files([tmp_path], ["rfnet"], models, prompt="a mug", out=out)
    assert [row["unsure.fine"] for row in job.rows] == [None, pytest.approx(240 / 255)]
    assert pq.read_table(out).to_pylist() == job.rows and score_table(job).row_count == 2
    without = judge_files([tmp_path], ["rfnet"], models)
    assert not without.rows and "unsure compares with a text" in without.skipped[0].message


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["clipp"], "no judge named clipp. Did you mean clip?"),
        (["RFNet"], "Did you mean rfnet?"),
        (["depth"], "named depth. Name one or more of clip, aesthetic, rfnet"),
        ([], "no judge is named"),
        (["aesthetic"], "needs a head"),
    ],
)
def test_judges_that_there_are_not(models, names, words):
    with pytest.raises(BadInput, match=words):
        judge_files(["x.png"], names, models)


def test_pictures_without_words_are_not_for_clip(models, photographs):
    job = judge_files(photographs[:2], ["clip"], models)
    assert not job.rows and len(job.skipped) == 2 and "no prompt and no title" in job.skipped[0].message


def test_stopped_and_resumed(models, photographs, tmp_path, monkeypatch):
    out, judge_batch, calls = tmp_path / "scores.parquet", files._judge_batch, []

    def stops(batch, judges):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge_batch(batch, judges)

    monkeypatch.setattr(files, "_judge_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        judge_files(photographs, ["clip"], models, batch_size=1, title="a mug", out=out)
    assert pq.read_table(out).num_rows == 2
    monkeypatch.setattr(files, "_judge_batch", judge_batch)
    job = judge_files(photographs, ["clip"], models, batch_size=2, title="a mug", out=out, resume=True)
    whole = judge_files(photographs, ["clip"], models, batch_size=2, title="a mug")
    read = pq.read_table(out).to_pylist()
    assert read == job.rows and {r["image"] for r in read} == {r["image"] for r in whole.rows} and len(read) == 9
    with pytest.raises(BadInput, match="other judges"):
        judge_files(photographs, ["clip", "rfnet"], models, out=out, resume=True, title="a mug")


def test_what_is_asked_with_other_words_is_judged_anew(models, tmp_path, monkeypatch):
    for number in range(3):
        Image.new("RGB", (64, 64), (200, 40 * number, 40)).save(tmp_path / f"{number}.png")
    out, table = tmp_path / "scores.parquet", tmp_path / "ads.csv"
    table.write_text("image,prompt\n0.png,a mug\n1.png,a photograph\n2.png,a mug\n")
    judge_files([table], ["clip"], models, out=out)
    table.write_text("image,prompt\n0.png,a mug\n1.png,a mug\n2.png,a mug\n")
    judge_batch, seen = files._judge_batch, []

    def counts(batch, judges):
        seen.extend(loaded.picture.name for loaded in batch)
        return judge_batch(batch, judges)

    monkeypatch.setattr(files, "_judge_batch", counts)
    resumed = judge_files([table], ["clip"], models, out=out, resume=True)
    assert seen == [str(tmp_path / "1.png")]
    fresh = {row["image"]: row["clip.similarity"] for row in judge_files([table], ["clip"], models).rows}
    assert {row["image"]: row["clip.similarity"] for row in resumed.rows} == pytest.approx(fresh, abs=1e-6)
    seen.clear()
    judge_files([tmp_path / "0.png"], ["clip"], models, out=out, resume=True, prompt="a mug")
    assert not seen and pq.read_table(out).num_rows == 3  # what is not asked for this time stays
    judge_files([tmp_path / "0.png"], ["clip"], models, out=out, resume=True, prompt="a mug", title="a red mug")
    judge_files(
        [tmp_path / "0.png"], ["clip"], models, out=out, resume=True, prompt="a mug", product=tmp_path / "1.png"
    )
    assert seen == [str(tmp_path / "0.png")] * 2


def test_a_file_that_does_not_say_what_was_asked_is_not_gone_on_with(models, tmp_path):
    Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / "mug.png")
    out, given = tmp_path / "scores.parquet", {"prompt": "a mug", "resume": True}
    job = judge_files([tmp_path / "mug.png"], ["clip"], models, out=out, **given)
    about = json.dumps({"versions": job.versions}).encode()
    pq.write_table(pq.read_table(out).replace_schema_metadata({b"goodeye": about}), out)
    with pytest.raises(BadInput, match="does not say by which title, prompt and product"):
        judge_files([tmp_path / "mug.png"], ["clip"], models, out=out, **given)


def test_the_table_for_a_terminal(models, photographs):
    job = judge_files(photographs[:3], ["clip"], models, title="a mug")
    console = Console(file=io.StringIO(), width=200)
    console.print(score_table(job))
    text = console.file.getvalue()
    assert "clip.similarity" in text and f"{job.rows[1]['clip.similarity']:.3f}" in text
    assert score_table(job, limit=2).row_count == 2
