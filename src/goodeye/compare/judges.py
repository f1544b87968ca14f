"""The seam through which any judge compares: one question in one order, one word on each axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from goodeye.compare.sides import Answer, Side
from goodeye.errors import BadInput
from goodeye.images import open_image, shrunk, to_tensor
from goodeye.judging.files import make_judges
from goodeye.judging.large import BadAnswer, LargeModel, Server, cache_folder, server_from
from goodeye.judging.pixels import on_white
from goodeye.judging.protocol import Context, Judge, check_scores, needs_of
from goodeye.judging.ranker import AXES, BRIEF_AXES, brief_ranked, prompts_version, ranked
from goodeye.modelset import Models

JudgeName = Literal["clip", "aesthetic", "rfnet", "large"]
Preferred = Literal["first", "second", "similar"]
Placed = Callable[[Path, int], Tensor]  # a cut-out's file and the picture's side: [4, S, S], where it stands in it
LONG_SIDE = 1024  # larger pictures are made smaller first


@dataclass(frozen=True)
class Question:
    """Two answers to one brief, in the order in which they are shown. Both are judged against one title and one prompt,
    in either order: that of who has a prompt (a folder of pictures has none); the title alone where two prompts differ,
    since neither picture was made for the other's."""

    first: Answer
    second: Answer

    @property
    def title(self) -> str:
        """What both show, in words."""
        return min((self.first, self.second), key=lambda one: (not one.prompt, one.attempt)).title

    @property
    def prompt(self) -> str:
        """What was asked of both; "" where they were asked different things, or nothing."""
        asked = {one.prompt for one in (self.first, self.second) if one.prompt}
        return asked.pop() if len(asked) == 1 else ""

    @property
    def wanted(self) -> str:
        """What was asked for, in words."""
        return self.prompt or self.title


class PairJudge(Protocol):
    """Says which of two answers is better. `ordered`: what it sees first may sway it, so it is asked both ways."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def ordered(self) -> bool: ...

    def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
        """By axis what is better in each question; None where there is no usable answer."""


@dataclass(eq=False)
class ByScore:
    """A judge of single pictures as a judge of pairs: the higher mean over a row is better on the judge's main axis.

    Each picture is scored alone, once for each text that it is asked about, so no order can sway it. placed: puts a
    product on the canvas, for judges that look at it; without it they need scores on record.
    """

    judge: Judge
    placed: Placed | None = None
    ordered: bool = field(default=False, init=False)
    known: dict[tuple[int, str, str], float] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return self.judge.name

    @property
    def version(self) -> str:
        return self.judge.version

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.judge.axes[0].name,)

    def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
        """Raises BadInput for a picture that cannot be read, and for a brief that lacks what the judge needs."""
        said: list[dict[str, Preferred | None]] = []
        for one in questions:
            ahead = self._score(one.first, one) - self._score(one.second, one)
            if not self.judge.axes[0].higher_is_better:
                ahead = -ahead
            said.append({self.axes[0]: "first" if ahead > 0 else "second" if ahead < 0 else "similar"})
        return said

    def _score(self, answer: Answer, asked: Question) -> float:
        key = answer.attempt, asked.title, asked.prompt
        if key not in self.known:
            prompt_counts = "text" in needs_of(self.judge)
            same = answer.title == asked.title and (answer.prompt == asked.prompt or not prompt_counts)
            recorded = answer.scores.get((self.name, self.version), {}).get(self.axes[0]) if same else None
            self.known[key] = self._look(answer, asked) if recorded is None else recorded
        return self.known[key]

    @torch.no_grad()
    def _look(self, answer: Answer, asked: Question) -> float:
        scores = []
        for file in answer.pictures:
            pixels = to_tensor(shrunk(open_image(file), LONG_SIDE))
            pixels = on_white(pixels[None])[0] if len(pixels) == 4 else pixels
            context = Context(self._product(answer, pixels), asked.title, asked.prompt)
            found = check_scores(self.judge, self.judge.score(pixels[None], [context]), 1)
            scores.append(float(found[self.axes[0]][0]))
        return sum(scores) / len(scores)

    def _product(self, answer: Answer, pixels: Tensor) -> Tensor | None:
        if self.placed is None:
            return None
        if answer.product is None:
            raise BadInput(f"{self.name} looks at the product, and {answer.title!r} has none. Use another judge.")
        return self.placed(answer.product, pixels.shape[-1])


@dataclass(eq=False)
class ByLargeModel:
    """A large model as a judge of pairs: it sees both rows in one picture and answers on every axis at once.

    rows: of several pictures, as in search, where diversity is asked for, too. failures: what could not be used, why.
    """

    model: LargeModel
    rows: bool = False
    ordered: bool = field(default=True, init=False)
    failures: list[str] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        return self.model.server.model

    @property
    def version(self) -> str:
        """Of the words in which it is asked; another model has another name."""
        return prompts_version(self.rows)

    @property
    def axes(self) -> tuple[str, ...]:
        return AXES if self.rows else BRIEF_AXES

    def prefer(self, questions: Sequence[Question]) -> list[dict[str, Preferred | None]]:
        """Raises BadInput where the server fails; an answer that cannot be used is None."""
        ask = ranked if self.rows else brief_ranked
        said: list[dict[str, Preferred | None]] = []
        for one in questions:
            both = [[open_image(file) for file in side.pictures] for side in (one.first, one.second)]
            try:
                said.append({**ask(self.model, one.wanted, both[0], both[1])})
            except BadAnswer as error:
                self.failures.append(f"{one.wanted}: {error}")
                said.append(dict.fromkeys(self.axes))
        return said


def judge_named(
    name: JudgeName,
    sides: Sequence[Side],
    models: Models,
    *,
    head: str | Path | None = None,
    server: Server | None = None,
    placed: Placed | None = None,
) -> PairJudge:
    """The judge of that name for what is compared: a large model's questions differ for rows of pictures.

    models: clip, aesthetic and rfnet are of this set. head: of aesthetic. server: of large; the environment's if not
    given. placed: for rfnet, which looks at the product. Raises BadInput for what is lacking.
    """
    if name == "large":
        rows = any(len(answer.pictures) > 1 for side in sides for answer in side.answers.values())
        return ByLargeModel(LargeModel(server or server_from(), cache_folder()), rows)
    (made,) = make_judges([name], models, head)
    return ByScore(made, placed if name == "rfnet" else None)
