"""The seam of pair judges: scores become choices, and a large model is asked what fits the material."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from goodeye.compare.judges import ByLargeModel, ByScore, Question
from goodeye.compare.sides import Answer
from goodeye.errors import BadInput
from goodeye.judging.large import LargeModel, Server
from goodeye.judging.protocol import Axis, BadScores, Context, Images, Scores
from judging.fake_server import Reply, said, serving


@dataclass(eq=False)
class Level:
    """The mean of a picture's channel; `products` notes what it was shown beside."""

    channel: int = 0
    better: bool = True
    name: str = "level"
    version: str = "1"
    differentiable: bool = False
    licence: str = "ours"
    seen: list[Any] = field(default_factory=list)

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (Axis("level", 0.0, 1.0, self.better),)

    def score(self, images: Images, contexts: list[Context]) -> Scores:
        self.seen += [(context.product, context.prompt) for context in contexts]
        return {"level": images[:, self.channel].mean((1, 2))}


def answer(
    folder: Path, number: int, *reds: int, scores: Any = None, product: Path | None = None, prompt: str = "a cup"
) -> Answer:
    files = []
    for place, red in enumerate(reds):
        files.append(folder / f"{number}-{place}.png")
        Image.new("RGB", (6, 4), (red, 0, 0)).save(files[-1])
    return Answer(
        attempt=number, pictures=tuple(files), title="cup", prompt=prompt, product=product, scores=scores or {}
    )


def test_the_higher_mean_of_a_row_wins_and_each_picture_is_looked_at_once(tmp_path: Path) -> None:
    level = Level()
    judge = ByScore(level)
    dark, bright, same = answer(tmp_path, 1, 10, 20), answer(tmp_path, 2, 0, 60), answer(tmp_path, 3, 30, 30)
    asked = [Question(dark, bright), Question(bright, dark), Question(bright, same)]
    assert [one["level"] for one in judge.prefer(asked)] == ["second", "first", "similar"]
    assert len(level.seen) == 6 and judge.axes == ("level",) and not judge.ordered
    assert [one["level"] for one in ByScore(Level(better=False)).prefer(asked)] == ["first", "second", "similar"]


def test_scores_on_record_by_this_version_are_taken(tmp_path: Path) -> None:
    level = Level()
    recorded = answer(tmp_path, 1, 0, scores={("level", "1"): {"level": 0.9}, ("level", "2"): {"level": 0.0}})
    other = answer(tmp_path, 2, 100, scores={("level", "2"): {"level": 1.0}})
    assert ByScore(level).prefer([Question(recorded, other)]) == [{"level": "first"}] and len(level.seen) == 1


def test_both_sides_are_judged_against_one_text_in_either_order(tmp_path: Path) -> None:
    """A run's prompt holds for a folder's picture, too; of two prompts neither does, but the title that both have."""
    told, untold = answer(tmp_path, 1, 10, prompt="a cup at dawn"), answer(tmp_path, 2, 20, prompt="")
    otherwise = answer(tmp_path, 3, 30, prompt="a cup in snow")
    for one, other, text in ((told, untold, "a cup at dawn"), (told, otherwise, ""), (untold, untold, "")):
        for asked in (Question(one, other), Question(other, one)):
            level = Level()
            ByScore(level).prefer([asked])
            assert {prompt for _product, prompt in level.seen} == {text} and asked.wanted == (text or "cup")
    with serving([said({"analysis": "", "accuracy": 1, "aesthetics": 1})]) as fake:
        large(fake.url, tmp_path).prefer([Question(told, untold), Question(untold, told)])
        assert all("a cup at dawn" in json.dumps(request) for request in fake.requests) and len(fake.requests) == 2


def test_a_score_on_record_was_given_for_its_own_text(tmp_path: Path) -> None:
    """A judge that reads the prompt looks anew under another one; one that does not need words does not."""
    recorded = answer(tmp_path, 1, 0, scores={("level", "1"): {"level": 0.9}}, prompt="")
    other = answer(tmp_path, 2, 100)
    level, reader = Level(), Level()
    reader.needs = frozenset({"text"})  # type: ignore[attr-defined]
    assert ByScore(level).prefer([Question(recorded, other)]) == [{"level": "first"}] and len(level.seen) == 1
    assert ByScore(reader).prefer([Question(recorded, other)]) == [{"level": "second"}] and len(reader.seen) == 2


def test_a_judge_of_products_sees_it_where_it_stands(tmp_path: Path) -> None:
    level, placed = Level(), []

    def place(file: Path, side: int) -> torch.Tensor:
        placed.append((file, side))
        return torch.zeros(4, side, side)

    product = tmp_path / "product.png"
    ByScore(level, place).prefer(
        [Question(answer(tmp_path, 1, 1, product=product), answer(tmp_path, 2, 2, product=product))]
    )
    assert placed == [(product, 6)] * 2 and level.seen[0][0].shape == (4, 6, 6)
    with pytest.raises(BadInput, match="looks at the product"):
        ByScore(level, place).prefer([Question(answer(tmp_path, 3, 1), answer(tmp_path, 4, 2))])


def test_what_is_no_score_is_no_choice(tmp_path: Path) -> None:
    judge = ByScore(Level())
    judge.judge.score = lambda images, contexts: {"level": torch.tensor([float("nan")])}  # type: ignore[method-assign]
    with pytest.raises(BadScores):
        judge.prefer([Question(answer(tmp_path, 1, 1), answer(tmp_path, 2, 2))])


def large(url: str, tmp_path: Path, rows: bool = False) -> ByLargeModel:
    server = Server(url=url, model="eye-7b", asks=1)
    return ByLargeModel(LargeModel(server, tmp_path / "cache", sleep=lambda seconds: None), rows)


def test_a_large_model_answers_on_both_axes_of_single_pictures(tmp_path: Path) -> None:
    asked = [Question(answer(tmp_path, 1, 10), answer(tmp_path, 2, 200))]
    with serving([said({"analysis": "…", "accuracy": 2, "aesthetics": 1})]) as fake:
        judge = large(fake.url, tmp_path)
        assert judge.prefer(asked) == [{"accuracy": "second", "aesthetics": "first"}]
        judge.prefer(asked)
        assert len(fake.requests) == 1  # the second answer came from the cache
        words = json.dumps(fake.requests[0])
    assert "a cup" in words and "diversity" not in words and (judge.name, judge.ordered) == ("eye-7b", True)


def test_rows_are_asked_about_diversity_too_and_nonsense_is_missing(tmp_path: Path) -> None:
    asked = [Question(answer(tmp_path, number, 10, 20), answer(tmp_path, number + 1, 200, 30)) for number in (1, 3)]
    answers = [said({"analysis": "", "accuracy": 1, "aesthetics": 1, "diversity": 2}), Reply("I like both.")]
    with serving(answers) as fake:
        judge = large(fake.url, tmp_path, rows=True)
        first, second = judge.prefer([asked[0], Question(asked[1].second, asked[1].first)])
    assert first == {"accuracy": "first", "aesthetics": "first", "diversity": "second"}
    assert second == dict.fromkeys(("accuracy", "aesthetics", "diversity")) and len(judge.failures) == 1
    assert judge.version != large("http://x", tmp_path).version
