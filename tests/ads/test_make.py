"""The whole job on a tiny random model set: what comes out, what is on record, and what goes wrong plainly."""

import json
import os
import random
import re
import resource
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import Engine, event

from goodeye.ads.make import make
from goodeye.diffusion.batch import attempt_seed
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.judging.protocol import Context, Verdict
from goodeye.ledger.begun import run_of
from goodeye.ledger.check import check
from goodeye.ledger.ledger import Ledger
from goodeye.modelset import Models, resolve

CLASSES = ("available", "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")


class StandIn:
    """An inspector whose word depends on the picture alone: about `rate` of all pass. `never`: of these titles none."""

    def __init__(self, rate: float = 0.5, never: str = "nothing") -> None:
        self.rate, self.never, self.batches = rate, never, []

    def inspect(self, images: torch.Tensor, contexts: list[Context]) -> list[Verdict]:
        self.batches.append(len(images))
        return [self._one(image, context) for image, context in zip(images, contexts, strict=True)]

    def _one(self, image: torch.Tensor, context: Context) -> Verdict:
        draw = float(image.double().sum() * 1000 % 1)
        lucky = draw < self.rate and self.never not in context.title
        available = 0.5 + draw / 2 if lucky else draw / 2.01
        label = "available" if lucky else CLASSES[1 + int(draw * 1000) % 4]
        scores = dict.fromkeys(CLASSES, 0.0) | {label: 1 - available, "available": available}
        return Verdict("stand_in", "1", label, scores, [] if lucky else ["as the test wants it"])


@pytest.fixture(scope="module")
def models(tiny_set) -> Models:
    return Models(resolve(str(tiny_set)))


@pytest.fixture
def run(models, tmp_path, monkeypatch):
    """`make` with the tiny models, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOODEYE_LEDGER", raising=False)

    def call(inputs=(), **options):
        return make(inputs, **({"models": models, "inspector": StandIn()} | options))

    return call


def test_every_wanted_picture_is_there_passed_or_not(run, products):
    (products / "titles.json").write_text(json.dumps([{"file": "ring.png", "title": "cursed ring"}]))
    inspector = StandIn(never="cursed")
    result = run([products], want=3, attempts=4, out="ads", inspector=inspector)
    assert [brief.key for brief in result.briefs] == ["bar", "blob", "ring"]
    assert result.problems == []
    by_key = {brief.key: brief for brief in result.briefs}
    assert by_key["ring"].passed == 0 and by_key["ring"].prompt.startswith("a cursed ring ")
    assert all(len(slot.attempts) == 4 for slot in by_key["ring"].slots)
    for brief in result.briefs:
        for slot in brief.slots:
            assert [one.number for one in slot.attempts] == list(range(1, len(slot.attempts) + 1))
            assert [one.passed for one in slot.attempts[:-1]] == [False] * (len(slot.attempts) - 1)
            assert slot.passed or len(slot.attempts) == 4
            picture = Path("ads") / brief.picture(slot)
            assert picture.parent.name == ("passed" if slot.passed else "not_passed")
            assert picture.read_bytes() == slot.best.image.read_bytes()
            if not slot.passed:
                assert slot.best.available == max(one.available for one in slot.attempts)
    pictures = sorted(Path("ads").glob("*passed/*.png"))
    assert len(pictures) == 9
    assert "1 product without any that passed." in result.summary()


def test_product_pixels_are_exact_in_the_files(run, products, models):
    from goodeye.ads.canvas import place

    settings = models.model_set.settings
    result = run([products], want=1, attempts=1, out="ads")
    for brief in result.briefs:
        canvas = place(open_image(brief.source), settings.size, settings.product_scale)
        kept = np.asarray(open_image(Path("ads") / brief.picture(brief.slots[0]))).astype(int)
        product = (canvas.product * 255).round().numpy().astype(int).transpose(1, 2, 0)
        whole = product[..., 3] == 255
        assert whole.sum() > 30
        assert np.abs(kept - product[..., :3])[whole].max() == 0


def test_everything_is_on_record(run, products):
    result = run([products], want=2, attempts=3, out="ads", seed=5)
    with Ledger.open() as ledger:  # ./goodeye-ledger, the default
        (row,) = ledger.runs("ads")
        assert (row.id, row.status, row.seed) == (result.run, "done", 5)
        assert row.command["want"] == 2
        attempts = ledger.attempts(row.id)
        assert len(attempts) == len(result.attempts)
        for one in attempts:
            assert one.seed == attempt_seed(5, one.brief_key, one.slot, one.number)
            assert one.evals == 2 and one.seconds > 0
            assert [verdict.judge for verdict in one.verdicts] == ["stand_in"]
        briefs = {brief.key: brief for brief in ledger.briefs(row.id)}
        assert set(briefs) == {"bar", "blob", "ring"}
        assert open_image(ledger.image_path(briefs["blob"].product_sha)).mode == "RGBA"
        kept = [pick for pick in ledger.picks(row.id) if pick.kept]
        assert len(kept) == 6 and len(ledger.picks(row.id)) == len(attempts)
        assert check(ledger).clean


def test_the_run_folder_holds_what_a_run_folder_holds(run, products):
    result = run([products], want=2, attempts=2, out="ads", batch=4)
    folder = Path("ads")
    config = json.loads((folder / "config.json").read_text())
    assert config["run"] == result.run and config["command"]["want"] == 2
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["batch"] for line in metrics) == metrics[-1]["attempts"] == len(result.attempts)
    results = json.loads((folder / "results.json").read_text())
    assert results == json.loads(json.dumps(result.as_json()))
    assert results["totals"]["slots_passed"] == result.passed
    for name in ("contact_sheet.png", "report.html", "samples/after-000004-attempts.png"):
        assert (folder / name).stat().st_size > 0


def test_batches_are_full_while_slots_wait(run, products):
    inspector = StandIn()
    result = run([products], want=4, attempts=4, batch=5, out="ads", inspector=inspector)
    assert sum(inspector.batches) == len(result.attempts)
    short = [size for size in inspector.batches if size < 5]
    assert inspector.batches[: len(inspector.batches) - len(short)] == [5] * (len(inspector.batches) - len(short))


def test_equal_seeds_equal_results(run, products):
    options = {"want": 2, "attempts": 3, "ledger": "book"}
    first, again = run([products], out="a", **options), run([products], out="b", **options)
    other = run([products], out="c", seed=1, **options)
    assert untimed(first) == untimed(again) != untimed(other)
    assert untimed(first) == untimed(run(out="a", resume=True))
    assert all(one.image.is_absolute() for one in first.attempts), "results.json is read from anywhere"


def untimed(result) -> list[dict]:
    """The briefs of a result, without how long each attempt took."""
    briefs = result.as_json()["briefs"]
    for one in (one for brief in briefs for slot in brief["slots"] for one in slot["attempts"]):
        one["seconds"] = None
    return briefs


def test_the_batch_size_does_not_change_a_picture(run, products):
    alone, together = (
        run([products], want=2, attempts=1, out=f"by-{batch}", batch=batch, threshold=0.0) for batch in (1, 16)
    )
    for one, other in zip(alone.attempts, together.attempts, strict=True):
        assert one.seed == other.seed
        difference = np.asarray(open_image(one.image)).astype(int) - np.asarray(open_image(other.image))
        assert np.abs(difference).max() <= 1, "equal up to rounding"


def test_the_default_inspector_is_the_model_sets_rfnet(run, products):
    result = run([products / "bar.png"], want=1, attempts=1, out="ads", inspector=None, threshold=0.0)
    (one,) = result.attempts
    assert set(one.scores) == set(CLASSES) and one.passed
    assert sum(one.scores.values()) == pytest.approx(1, abs=1e-4)


def test_the_threshold_decides(run, products):
    strict = run([products], want=1, attempts=2, out="strict", threshold=1.0)
    assert strict.passed == 0 and len(strict.attempts) == 6
    assert run([products], want=1, attempts=2, out="free", threshold=0.0).passed == 3


def test_a_photograph_is_cut_out_first(run, models, tmp_path, monkeypatch):
    photo = Image.effect_noise((80, 60), 20).convert("RGB")
    photo.paste((220, 30, 30), (25, 15, 55, 45))
    photo.save(tmp_path / "photo.jpg", quality=95)

    def saliency(images: torch.Tensor) -> torch.Tensor:
        return (images[:, :1] - images[:, 1:2] > 0.3).float()

    monkeypatch.setitem(models.__dict__, "saliency", saliency)
    result = run(["photo.jpg"], want=1, attempts=1, out="ads")
    product = open_image(result.briefs[0].product)
    assert product.mode == "RGBA" and 26 <= product.width <= 34 and 26 <= product.height <= 34


# Bad input


def save_16_bit(path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    ramp[16:48, 16:48] = 60000
    Image.fromarray(ramp).save(path)


@pytest.fixture
def shop(products) -> Path:
    """One good product among everything that people give."""
    blob = open_image(products / "blob.png")
    whole = (products / "blob.png").read_bytes()
    (products / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (products / "zero.png").write_bytes(b"")
    (products / "words.png").write_text("this is not an image")
    Image.new("RGB", (1, 1), "red").save(products / "pixel.png")
    Image.new("RGBA", (1, 1), "red").save(products / "rgba-pixel.png")
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(products / "clear.png")
    blob.convert("RGB").convert("CMYK").save(products / "cmyk.jpg")
    save_16_bit(products / "deep.png")
    blob.save(products / "moving.webp", save_all=True, append_images=[blob.rotate(90)], lossless=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    blob.save(products / "turned.png", exif=turned)
    (products / "huge.png").write_bytes(huge_png())
    return products


def huge_png() -> bytes:
    """A PNG of 30,000 x 30,000 pixels by its header, in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_bad_pictures_are_one_plain_line_each_and_the_others_run(run, shop, models, monkeypatch):
    def everything(images: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(images[:, :1])
        found[..., found.shape[-2] // 4 : -found.shape[-2] // 4, found.shape[-1] // 4 : -found.shape[-1] // 4] = 1
        return found

    monkeypatch.setitem(models.__dict__, "saliency", everything)
    result = run([shop], want=1, attempts=2, out="ads")
    assert {brief.key for brief in result.briefs} == {
        "bar", "blob", "ring", "cmyk", "deep", "moving", "turned",
    }  # fmt: skip
    problems = {Path(problem.name).name: problem.message for problem in result.problems}
    assert set(problems) == {
        "truncated.png", "zero.png", "words.png", "pixel.png", "rgba-pixel.png", "clear.png", "huge.png",
    }  # fmt: skip
    for name, message in problems.items():
        assert name in message and "\n" not in message and message.endswith("."), message
    assert "fully transparent" in problems["clear.png"]
    assert "megapixels" in problems["huge.png"]
    turned = next(brief for brief in result.briefs if brief.key == "turned")
    assert open_image(turned.product).height > open_image(turned.product).width, "turned as its EXIF says"
    assert len(json.loads(Path("ads/results.json").read_text())["problems"]) == 7


@pytest.mark.parametrize("title", [None, "", "Tasse ☕️ für 2 👩‍👩‍👧 – „schön“", "x" * 5000])
def test_titles_with_emoji_long_ones_or_none(run, products, title):
    result = run([products / "blob.png"], title=title, want=1, attempts=1, out="ads")
    assert result.briefs[0].title == (title or "")
    assert (title or "blob") in result.report.read_text(encoding="utf-8").replace("&#34;", '"')


def test_only_bad_input_leaves_the_folder_free_for_the_next_command(run, products):
    Path("empty.png").write_bytes(b"")
    result = run(["empty.png"], out="ads")
    assert result.briefs == [] and len(result.problems) == 1
    assert run([products], want=1, attempts=1, out="ads").briefs
    nothing = run(["missing.png"], out="never")
    assert nothing.run is None and not Path("never").exists()
    assert nothing.problems[0].message.startswith("missing.png does not exist")


@pytest.mark.parametrize("out", ["/proc/goodeye", "file/below", "/dev/null"])
def test_an_out_folder_that_cannot_be_written_is_said_before_any_work(run, products, out):
    Path("file").write_text("a file, not a folder")
    with pytest.raises(BadInput, match="cannot be written") as error:
        run([products], out=out, inspector=None)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(run, products):
    Path("locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(BadInput, match="cannot be written"):
        run([products], out="locked/ads")


def test_a_disk_that_fills_up_stops_plainly_and_the_run_can_go_on(run, products):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))  # no file may grow beyond this: SQLite's will
    try:
        with pytest.raises(BadInput, match=r"full|written|room|space"):
            run([products], want=4, attempts=3, out="ads")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if (Path("ads") / "config.json").exists():
        run(out="ads", resume=True)
    else:
        run([products], want=4, attempts=3, out="ads")
    with Ledger.open() as ledger:
        assert check(ledger).clean


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"want": 0}, "want is 0"),
        ({"attempts": 0}, "attempts is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"threshold": 2.0}, "threshold is 2.0"),
        ({"remover": "magic"}, "magic is not a background remover"),
        ({"early": "early.json", "retry_models": "showroom"}, "of one generator alone"),
        ({"inputs": ()}, "holds no run to resume"),
        ({"models": "no-such-set.toml", "inspector": None}, "no-such-set"),
    ],
)
def test_options_that_make_no_sense_are_said(run, products, options, says):
    with pytest.raises(BadInput, match=says):
        run(**({"inputs": [products]} | options))
    assert not Path("goodeye-ads/config.json").exists()


def test_a_second_run_does_not_overwrite_the_first(run, products):
    run([products], want=1, attempts=1, out="ads")
    with pytest.raises(BadInput, match="already holds a run"):
        run([products], want=1, attempts=1, out="ads")


def test_two_products_of_one_name_both_keep_their_pictures(run, products):
    other = products / "more"
    other.mkdir()
    (other / "blob.png").write_bytes((products / "bar.png").read_bytes())
    result = run([products / "blob.png", other / "blob.png"], want=2, attempts=1, out="ads")
    names = {path.name for path in Path("ads").glob("*passed/*.png")}
    assert names == {"blob-1.png", "blob-2.png", "blob-2-1.png", "blob-2-2.png"}
    assert len({one.seed for one in result.attempts}) == 4


# Resuming


def test_a_resumed_run_keeps_its_command(run, products):
    run([products], want=1, attempts=2, out="ads", title="thing")
    again = run([products], out="ads", resume=True, batch=2)
    assert len(again.slots) == 3 and again.command["batch"] == 2
    with pytest.raises(BadInput, match="was started with want 1"):
        run(out="ads", resume=True, want=2)
    with pytest.raises(BadInput, match="was started with inputs"):
        run(["other.png"], out="ads", resume=True)


def test_a_run_goes_on_in_its_own_ledger_alone(run, products):
    run([products], want=1, attempts=1, out="ads", ledger="book")
    run([products], want=1, attempts=1, out="other", ledger="other-book", seed=9)  # run 1 there, too
    config = json.loads(Path("ads/config.json").read_text())
    with Ledger.open("book") as book:
        assert run_of(book, Path("ads"), config).id == 1  # as other commands find the run of a folder
    with pytest.raises(BadInput, match="ads is on the ledger .*book, and not on other-book. Name that one"):
        run(out="ads", resume=True, ledger="other-book")
    with pytest.raises(BadInput, match="no ledger in nowhere"):
        run(out="ads", resume=True, ledger="nowhere")
    assert not Path("nowhere").exists() and run(out="ads", resume=True).run == 1


def test_a_run_is_not_gone_on_with_by_another_generator(run, products, tiny_set):
    """One brief would get attempts of two generators, and config.json would tell of the first alone."""
    run([products], out="ads")
    named = StandIn()
    named.name = "another"
    with pytest.raises(BadInput, match="was begun with the judge none, and it is another now. Put that back to go on"):
        run(out="ads", resume=True, inspector=named)
    guided = tiny_set.with_name("guided.toml")
    guided.write_text(tiny_set.read_text().replace("[settings]", "[settings]\ncontrol_scale = 0.5"))
    with pytest.raises(BadInput, match="begun with the setting control_scale = 1.0, and it is 0.5 now"):
        run(out="ads", resume=True, models=Models(resolve(str(guided))))
    other = Models(resolve(str(tiny_set)))
    with torch.no_grad():
        next(other.vae.parameters()).mul_(1.5)
    with pytest.raises(BadInput, match="begun with the generator's version"):
        run(out="ads", resume=True, models=other)
    assert run(out="ads", resume=True).summary()


def test_retries_can_be_made_by_another_model_set(run, products, tiny_set, models):
    """Each first attempt is the one set's, all others are the other's, picture by picture; a stop changes nothing."""
    other = Models(resolve(str(tiny_set)))
    with torch.no_grad():
        for parameter in other.unet.parameters():
            parameter.mul_(1.2)
    none = {"inspector": StandIn(rate=0), "attempts": 3, "want": 2, "batch": 1}

    run([products], out="plain", **none)
    run([products], out="others", **{**none, "models": other})
    run([products], out="both", retry_models=other, **none)
    with Ledger.open() as ledger:
        plain, others, both = (
            {(one.brief_key, one.slot, one.number): one.image_sha for one in ledger.attempts(number)}
            for number in (1, 2, 3)
        )
    assert both == {place: (plain if place[2] == 1 else others)[place] for place in plain}
    assert all(plain[place] != others[place] for place in plain)
    with pytest.raises(BadInput, match="was begun with retries by"):
        run(out="both", resume=True, retry_models=models)
    assert run(out="both", resume=True, retry_models=other).summary()


def test_retries_of_another_size_are_refused(run, products, tiny_set):
    larger = tiny_set.with_name("larger.toml")
    larger.write_text(re.sub(r"size = \d+", "size = 64", tiny_set.read_text()))
    with pytest.raises(BadInput, match="which is to make the retries, of 64"):
        run([products], retry_models=str(larger))


def test_resume_without_a_run_begins_one(run, products):
    assert len(run([products], want=1, attempts=1, out="ads", resume=True).slots) == 3


def test_a_damaged_config_is_said(run, products):
    run([products], want=1, attempts=1, out="ads")
    Path("ads/config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be resumed"):
        run(out="ads", resume=True)


def test_ctrl_c_leaves_it_resumable(run, products):
    class Stops(StandIn):
        def inspect(self, images, contexts):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().inspect(images, contexts)

    options = {"want": 4, "attempts": 4, "batch": 4}
    with pytest.raises(KeyboardInterrupt):
        run([products], out="ads", ledger="book", inspector=Stops(), **options)
    with Ledger.open("book") as ledger:
        assert ledger.runs()[0].status == "stopped"
        assert len(ledger.attempts(1)) == 8
    # a half-written last line, as a kill can leave it
    with Path("ads/metrics.jsonl").open("a") as file:
        file.write('{"time": 17')
    resumed = run(out="ads", resume=True, inspector=StandIn())
    assert_each_slot_got_its_due(resumed.as_json(), slots=12, attempts=4)
    assert all(json.loads(line) for line in Path("ads/metrics.jsonl").read_text().splitlines())
    with Ledger.open("book") as ledger:
        assert ledger.runs()[0].status == "done" and check(ledger).clean


def test_ctrl_c_within_a_transaction_leaves_it_stopped_and_whole(run, products):
    """A real interrupt right after BEGIN: at a brief, at an attempt, and at a pick."""
    left = [0]

    def interrupt(connection):
        if connection.get_execution_options().get("begin"):  # a transaction that writes
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    event.listen(Engine, "begin", interrupt)
    try:
        for left[0] in (3, 5, 4):
            with pytest.raises(KeyboardInterrupt):
                run([products], want=2, attempts=1, out="ads", ledger="book", batch=2, resume=True)
            with Ledger.open("book") as ledger:
                assert [one.status for one in ledger.runs()] == ["stopped"] and check(ledger).clean
    finally:
        event.remove(Engine, "begin", interrupt)
        signal.signal(signal.SIGINT, before)
    result = run(out="ads", resume=True)
    assert_each_slot_got_its_due(result.as_json(), slots=6, attempts=1)


NURSERY = """
# Imports once, then forks a child for each line on stdin and says how it ended: quick starts, real kills.
import os, sys
sys.path.insert(0, {tests!r})
from test_make import StandIn
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextModel, GLPNForDepthEstimation, SegformerForSemanticSegmentation
from goodeye.ads.make import make
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        make({inputs!r}, models={models!r}, want=4, attempts=5, out="ads", ledger="book", batch=4, resume=True,
             inspector=StandIn(0.3))
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()  # not before: a child that is not waited for keeps its number, so that no kill goes astray
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_killed_at_any_moment_it_loses_and_repeats_nothing(run, products, tiny_set, tmp_path):
    """Real SIGKILLs at random times, then a run to the end: it makes what an undisturbed run makes."""
    code = NURSERY.format(tests=str(Path(__file__).parent), inputs=[str(products)], models=str(tiny_set))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    rng = random.Random(os.environ.get("GOODEYE_TEST_SEED", "0"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    kills, status = 0, -1
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, **pipes) as nursery:
        for turn in range(6):
            before = attempts_on_record(tmp_path)
            print("go", file=nursery.stdin, flush=True)
            child = int(nursery.stdout.readline())
            if turn < 5:
                deadline = time.monotonic() + 30
                while attempts_on_record(tmp_path) <= before and time.monotonic() < deadline:
                    time.sleep(0.01)  # until it is at work, so that the kill comes in the middle of it
                time.sleep(rng.random() * 0.1)
                os.kill(child, signal.SIGKILL)
            print("wait", file=nursery.stdin, flush=True)
            status = int(nursery.stdout.readline())
            kills += status == signal.SIGKILL
            if status == 0:
                break
        nursery.stdin.close()
    assert kills >= 2 and status == 0
    results = json.loads((tmp_path / "ads" / "results.json").read_text())
    assert_each_slot_got_its_due(results, slots=12, attempts=5)
    assert all((tmp_path / "ads" / slot["picture"]).exists() for b in results["briefs"] for slot in b["slots"])
    with Ledger.open(tmp_path / "book") as ledger:
        assert len(ledger.runs()) == 1
        assert len(ledger.attempts(1)) == results["totals"]["attempts"]
        ledger.sweep(older_than=0)
        assert check(ledger).clean


def assert_each_slot_got_its_due(results: dict, slots: int, attempts: int) -> None:
    """Attempts 1, 2, … of each slot, each once and with its own seed, until one passed or they ran out."""
    found = [(brief["key"], slot) for brief in results["briefs"] for slot in brief["slots"]]
    assert len(found) == slots
    for key, slot in found:
        tries = slot["attempts"]
        assert [one["number"] for one in tries] == list(range(1, len(tries) + 1))
        assert [one["passed"] for one in tries[:-1]] == [False] * (len(tries) - 1)
        assert tries[-1]["passed"] or len(tries) == attempts
        assert [one["seed"] for one in tries] == [attempt_seed(0, key, slot["slot"], one["number"]) for one in tries]


def attempts_on_record(folder: Path) -> int:
    if not (folder / "book" / "ledger.db").exists():
        return 0
    connection = sqlite3.connect(f"file:{folder / 'book' / 'ledger.db'}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("select count(*) from attempts").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


# Real pictures


def test_the_real_cut_outs_go_through(run, shared_data):
    result = run([shared_data / "products"], want=1, attempts=2, out="ads")
    assert len(result.briefs) == 24 and result.problems == []
    assert {brief.title for brief in result.briefs} >= {"teapot", "alarm clock"}
