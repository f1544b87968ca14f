"""The proof of search on plain colours: its rows beside the measures that other commands make."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_server import said, serving
from PIL import Image
from tiny_clip import save_picture, small_clip

from goodeye.errors import BadInput
from goodeye.judging.large import Asked, BadAnswer, LargeModel, Server
from goodeye.search import rephrase as rephrasing
from goodeye.search.benchmark import measure_hpir
from goodeye.search.embed import prepare
from goodeye.search.lessons import UNHELD
from goodeye.search.prove import Ground, Prove, prove
from goodeye.search.prove_report import table
from goodeye.search.recall import load_captions, measure
from goodeye.search.towers import Seen, save_clip
from goodeye.showroom.search_world import StandIn

WORDS = ["red cup", "blue cup", "green lamp", "white lamp", "a cup", "soft light", "modern", "new"]
QUERIES = WORDS[:6]
ROWS = {"base", "rerank_2", "rerank_24", "shift", "repeat", "lexicon", "detail", "k_list", "kw_dict", "reorg", "dpo",
        "dpo_shift"}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """24 plain pictures; of two rows of five, people always find one right and the other beautiful."""
    folder, random = tmp_path_factory.mktemp("proof"), np.random.default_rng(0)
    for kind, count in (("gallery", 24), ("taught", 20)):
        for number in range(count):
            path = save_picture(folder / kind / f"{number:02}.png", random.integers(0, 255, 3))
            if kind == "taught":
                path.with_suffix(".txt").write_text(QUERIES[number % 6])
    entries = []
    for query in QUERIES:
        chosen = [f"gallery/{one:02}.png" for one in random.permutation(24)[:10]]
        votes = {"accuracy": {"votes": [25, 5]}, "aesthetic": {"votes": [10, 20]}}
        entries.append({"query": query, "A": chosen[:5], "B": chosen[5:], **votes})
    (folder / "hpir.json").write_text(json.dumps(entries))
    lines = [f"gallery/{number:02}.png,{QUERIES[number]}" for number in range(6)]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *lines, ""]))
    votes = [f"taught/{number:02}.png,{number % 7},{7 - number % 7}" for number in range(20)]
    (folder / "votes.csv").write_text("\n".join(["image,up,down", *votes, ""]))
    return Ground(
        gallery=folder / "gallery", hpir=folder / "hpir.json", captions=folder / "captions.csv",
        taught=folder / "taught", votes=folder / "votes.csv", answers=StandIn(),
        prefer=lambda query, first, second: {"accuracy": "first" if min(first) < min(second) else "second"},
    )  # fmt: skip


def test_every_row_is_measured_as_the_other_commands_measure(ground, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    clip = small_clip(WORDS)
    save_clip(small_clip(WORDS, seed=1), tmp_path / "run" / "clip")
    config = Prove(depths=(2, 24))
    proof = prove(ground, clip=clip, aligned={"dpo": tmp_path / "run"}, config=config, out=tmp_path / "out")
    torch.set_num_threads(threads)
    rows = proof.numbers["rows"]
    assert set(rows) == ROWS and proof.numbers["left_out"].keys() == {"rrhf", "ipo", "rrhf_alone"}
    for row in rows.values():
        assert {"hpir_accuracy", "hpir_aesthetic", "recall_at_1", "ms_per_query"} <= set(row)
        assert all(
            set(row[name]) == {"mean", "low", "high"} for name in row if name not in ("against_base", "failures")
        )
        assert row["failures"] == 0
    hpir = measure_hpir(ground.hpir, clip).agreement.measured
    recall = measure(load_captions(ground.captions), clip).text_to_image[1]
    assert rows["base"]["hpir_accuracy"]["mean"] == pytest.approx(hpir["accuracy"].mean, abs=1e-4)
    assert rows["base"]["hpir_aesthetic"]["mean"] == pytest.approx(hpir["aesthetic"].mean, abs=1e-4)
    assert rows["base"]["recall_at_1"]["mean"] == pytest.approx(recall.mean, abs=1e-4)
    for name in ("hpir_accuracy", "hpir_aesthetic", "recall_at_1"):  # a depth that reaches all is the query shift
        assert rows["rerank_24"][name] == rows["shift"][name]
    assert rows["base"]["against_base"] == {"accuracy": {"win": 0, "similar": 6, "lose": 0}}
    assert proof.numbers["minus_base"]["rerank_24"]["hpir_aesthetic"]["mean"] == pytest.approx(
        rows["shift"]["hpir_aesthetic"]["mean"] - rows["base"]["hpir_aesthetic"]["mean"], abs=1e-3
    )
    assert "holds 20 pictures" in proof.numbers["left_out"]["rrhf_alone"] and proof.numbers["guard"] == {}
    told = table(proof.numbers)
    assert all(name in told for name in ROWS) and "left out: ipo" in told
    page = proof.report.read_text()
    assert "dpo_shift" in page and page.count("data:image/webp") == 3 * 5 * len(ROWS) and "<script" not in page
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == proof.numbers


def test_what_cannot_be_proved_is_said_in_a_line(ground, tmp_path):
    with pytest.raises(BadInput, match="nothing holds no model"):
        prove(ground, clip=small_clip(WORDS), aligned={"dpo": tmp_path / "nothing"}, out=tmp_path / "out")
    with pytest.raises(BadInput, match="depth 1 or more"):
        prove(ground, clip=small_clip(WORDS), config=replace(Prove(), depths=(0,)), out=tmp_path / "out")


def test_the_time_of_a_query_holds_the_servers_though_its_answers_are_kept(ground, tmp_path):
    def reply(request):
        kind = getattr(rephrasing, request["response_format"]["json_schema"]["name"])
        made = StandIn().ask(Asked(request["messages"][-1]["content"]), kind)
        return replace(said(made.model_dump()), slow=0.05)

    with serving(reply) as fake:
        model = LargeModel(Server(url=fake.url, model="m"), tmp_path / "cache")
        for again in ("one", "two"):
            proof = prove(replace(ground, answers=model), clip=small_clip(WORDS), out=tmp_path / again)
            rows = proof.numbers["rows"]
            assert all(rows[name]["ms_per_query"]["low"] >= 50 for name in ("detail", "k_list", "kw_dict", "reorg"))
            kept = sorted((tmp_path / "cache").rglob("*.json"))
    assert len(kept) == 4 * len(QUERIES) and model.requests == len(kept)  # the measures ask once for all


SOUNDS = [f"{first}{second}" for first in "bdfgk" for second in "aeiou"]


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """A ground of noise with captions of made-up words, and a CLIP whose projections bring each of 32 captions to its
    own picture."""
    folder, random = tmp_path_factory.mktemp("unlike"), np.random.default_rng(0)

    def noise(name):
        (folder / name).parent.mkdir(exist_ok=True)
        blocks = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        blocks.resize((64, 64), Image.Resampling.NEAREST).save(folder / name)
        return folder / name

    def words(count):
        return " ".join(random.choice(SOUNDS, count, replace=False))

    captions = {noise(f"scenes/{number:02}.png"): words(4) for number in range(32)}
    lines = [f"scenes/{path.name},{caption}" for path, caption in captions.items()]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *lines, ""]))
    queries, votes = [words(2) for _ in range(6)], []
    for number in range(40):
        noise(f"taught/{number:02}.png").with_suffix(".txt").write_text(queries[number % 6])
        up = int(random.integers(0, 10))
        votes.append(f"taught/{number:02}.png,{up},{9 - up}")
    (folder / "votes.csv").write_text("\n".join(["image,up,down", *votes, ""]))
    rows = [{"query": query, "A": ["scenes/00.png"], "B": ["scenes/01.png"], "accuracy": {"votes": [2, 1]},
             "aesthetic": {"votes": [1, 2]}} for query in queries]  # fmt: skip
    (folder / "hpir.json").write_text(json.dumps(rows))
    clip = small_clip([" ".join(SOUNDS)])
    seen = Seen(clip, lambda path: prepare(Image.open(path), clip))
    goal = torch.randn(32, clip.dimensions, generator=torch.Generator().manual_seed(0)).double()
    both = (clip.model.visual_projection, seen.images(list(captions))), (
        clip.model.text_projection, seen.texts(list(captions.values()))
    )  # fmt: skip
    with torch.no_grad():
        for projection, given in both:  # ridge regression
            given = given.double()
            inverse = torch.linalg.inv(given.T @ given + 0.01 * torch.eye(given.shape[1]))
            projection.weight.copy_((inverse @ given.T @ goal).T)
    return clip, Ground(
        gallery=folder / "scenes", hpir=folder / "hpir.json", captions=folder / "captions.csv",
        taught=folder / "taught", votes=folder / "votes.csv", answers=StandIn(),
        prefer=lambda query, first, second: {"accuracy": "first"},
    )  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_the_recall_guard_shows_how_rrhf_collapses_where_nothing_holds_it(unlike, tmp_path, monkeypatch):
    monkeypatch.setattr("goodeye.search.align.NEEDED", 8)
    clip, ground = unlike
    short = replace(UNHELD, rows=3, columns=3, stride=2, batch=4, steps=40, warmup=1, lr=3e-3, evaluate_every=4)
    proof = prove(ground, clip=clip, config=Prove(depths=(2,), unheld=short), out=tmp_path / "out")
    numbers, seen = proof.numbers, proof.numbers["guard"]["rrhf_alone"]
    assert seen["stopped"] and seen["best"] < seen["steps"][-1] < 40
    assert seen["held_out"][-1] < seen["held_out"][0] / 2 and seen["recall_at_1"][-1] < seen["recall_at_1"][0]
    assert numbers["minus_base"]["rrhf_alone"]["recall_at_1"]["mean"] < -0.2  # not the model that the guard keeps
    for told in (table(numbers), proof.report.read_text()):
        assert f"At step {seen['steps'][-1]} the guard stopped it there: {seen['stopped']}" in told
    monkeypatch.setattr("goodeye.search.lessons.align", lambda *given, **named: pytest.fail("trained again"))
    again = prove(ground, clip=clip, config=Prove(depths=(2,), unheld=short), out=tmp_path / "out")
    assert again.numbers["guard"] == numbers["guard"]


class Failing:
    """A large model that says nothing usable of cups, and rewrites all else."""

    def ask(self, asked, kind):
        if "cup" in asked.text:
            raise BadAnswer("no usable answer", "cup?")
        return StandIn().ask(asked, kind)


def test_a_query_that_is_rewritten_into_nothing_usable_stands_as_it_was_and_is_counted(ground, tmp_path):
    proof = prove(replace(ground, answers=Failing()), clip=small_clip(WORDS), out=tmp_path / "out")
    rows = proof.numbers["rows"]
    cups = sum("cup" in query for query in QUERIES)
    assert rows["detail"]["failures"] == rows["reorg"]["failures"] == 2 * cups  # as queries and as captions
    assert rows["repeat"]["failures"] == rows["lexicon"]["failures"] == 0
    shown, base = proof.strip["detail"], proof.strip["base"]
    assert [one == other for one, other in zip(shown, base, strict=True)][:2] == [True, True]  # both of cups
    assert (
        f"detail: {2 * cups} texts" in table(proof.numbers) and f"detail: {2 * cups} texts" in proof.report.read_text()
    )
