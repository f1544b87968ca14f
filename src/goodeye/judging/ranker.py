"""A large model as judge of rows of pictures: ranker, scorer and cp-scorer.

"Aligning Vision Models with Human Aesthetics in Retrieval", section 4.2: two systems' answers to a query, five pictures
each, are shown as one picture of two rows, system 1 above. The judge is asked twice, with the rows swapped, and only
answers that agree count (`goodeye.judging.wins`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont, ImageOps
from pydantic import Field

from goodeye.judging.large import Answer, Asked, BadAnswer, LargeModel
from goodeye.judging.protocol import fingerprint
from goodeye.judging.wins import Choice, Outcome, Wins, count_wins, outcome

AXES = ("accuracy", "aesthetics", "diversity")
BRIEF_AXES = ("accuracy", "aesthetics")
CELL = 224

Method = Literal["ranker", "scorer", "cp-scorer"]
Images = Sequence[Image.Image]

SYSTEM = "You are a careful judge of image search. You see only what is in the pictures, and answer in JSON."
_AXES = (
    "accuracy (how well the pictures show what the query asks for), aesthetics (how beautiful they are: light, colour, "
    "composition, sharpness) and diversity (how much they differ from one another)"
)
RANKER = (
    "The query is: {query}\nThe picture shows the answers of two image search systems, system 1 in the upper row and "
    f"system 2 in the lower row. Compare them first in a short analysis. Then choose the better system, 1 or 2, for "
    f"each of {_AXES}."
)
BRIEF_RANKER = (
    "What was asked for: {query}\nThe picture shows what two systems made of it, system 1 in the upper row and system "
    "2 in the lower row. Compare them first in a short analysis. Then choose the better system, 1 or 2, for each of "
    "accuracy (how well the picture shows what was asked for) and aesthetics (how beautiful it is: light, colour, "
    "composition, sharpness, and nothing in it that is malformed)."
)
SCORER = (
    "The query is: {query}\nThe picture shows the answer of an image search system, one row of pictures. Look at it "
    f"first in a short analysis. Then give 1 (very bad) to 5 (very good) for each of {_AXES}."
)
CP_SCORER = (
    "The query is: {query}\nThe picture shows the answers of two image search systems, system 1 in the upper row and "
    "system 2 in the lower row. Compare them first in a short analysis. Then give each system 1 (very bad) to 5 (very "
    f"good) for each of {_AXES}."
)


class Ranking(Answer):
    """The ranker's answer: the better system on each axis."""

    analysis: str
    accuracy: Literal[1, 2]
    aesthetics: Literal[1, 2]
    diversity: Literal[1, 2]


class BriefRanking(Answer):
    """The better of two single pictures on each axis."""

    analysis: str
    accuracy: Literal[1, 2]
    aesthetics: Literal[1, 2]


class Scores(Answer):
    """A row's marks, 1 to 5."""

    accuracy: int = Field(ge=1, le=5)
    aesthetics: int = Field(ge=1, le=5)
    diversity: int = Field(ge=1, le=5)


class Scoring(Answer):
    """The scorer's answer."""

    analysis: str
    scores: Scores


class PairScoring(Answer):
    """The cp-scorer's answer: both rows in view of one another."""

    analysis: str
    system_1: Scores
    system_2: Scores


def ranked(model: LargeModel, query: str, first: Images, second: Images) -> dict[str, Choice]:
    """The ranker's choice on each axis; `first` is shown above. Raises as `LargeModel.ask` does."""
    answer = model.ask(Asked(RANKER.format(query=query), [rows_of(first, second)], SYSTEM), Ranking)
    return {axis: "first" if getattr(answer, axis) == 1 else "second" for axis in AXES}


def brief_ranked(model: LargeModel, brief: str, first: Images, second: Images) -> dict[str, Choice]:
    """As `ranked`, of one picture each that was made of a brief (the words are ours)."""
    answer = model.ask(Asked(BRIEF_RANKER.format(query=brief), [rows_of(first, second)], SYSTEM), BriefRanking)
    return {axis: "first" if getattr(answer, axis) == 1 else "second" for axis in BRIEF_AXES}


def prompts_version(rows: bool) -> str:
    """Changes whenever a ranker is asked in other words, of rows or of single pictures."""
    return fingerprint(SYSTEM, RANKER if rows else BRIEF_RANKER)


def scored(model: LargeModel, query: str, row: Images) -> Scores:
    """The scorer's marks of one row."""
    return model.ask(Asked(SCORER.format(query=query), [rows_of(row)], SYSTEM), Scoring).scores


def pair_scored(model: LargeModel, query: str, first: Images, second: Images) -> tuple[Scores, Scores]:
    """The cp-scorer's marks of both rows; `first` is shown above."""
    answer = model.ask(Asked(CP_SCORER.format(query=query), [rows_of(first, second)], SYSTEM), PairScoring)
    return answer.system_1, answer.system_2


@dataclass(frozen=True)
class Compared:
    """One query's outcome for the first system on each axis; None, with the reason, where an answer is missing.

    agreed: on each axis, whether both orders gave the same answer; empty where an answer is missing and for the scorer,
    who sees no order.
    """

    query: str
    outcomes: dict[str, Outcome | None]
    failure: str = ""
    said: dict[str, Any] = field(default_factory=dict)
    agreed: dict[str, bool] = field(default_factory=dict)


def compare(model: LargeModel, query: str, ours: Images, theirs: Images, method: Method = "ranker") -> Compared:
    """Asks in both orders, and records an answer that cannot be used as missing.

    The scorer sees one row at a time, so there is no order: the higher mark wins, equal ones are similar. The
    cp-scorer's marks become choices, equal ones a choice of neither, on which both orders may agree, too. Raises
    BadInput where the server fails.
    """
    try:
        if method == "scorer":
            both = scored(model, query, ours), scored(model, query, theirs)
            marks = [one.model_dump() for one in both]
            return Compared(query, {axis: _higher(*both, axis) for axis in AXES}, said={"scores": marks})
        if method == "cp-scorer":  # `above` when ours were shown first, `below` when second
            above, below = pair_scored(model, query, ours, theirs), pair_scored(model, query, theirs, ours)
            said = {"above": [s.model_dump() for s in above], "below": [s.model_dump() for s in below]}
            orders = {axis: (_higher(above[0], above[1], axis), _higher(below[1], below[0], axis)) for axis in AXES}
            told: dict[str, Outcome | None] = {
                axis: one if one == two else "similar" for axis, (one, two) in orders.items()
            }
            return Compared(query, told, said=said, agreed={axis: one == two for axis, (one, two) in orders.items()})
        plain, swapped = ranked(model, query, ours, theirs), ranked(model, query, theirs, ours)
    except BadAnswer as error:
        return Compared(query, dict.fromkeys(AXES), str(error), {"last": error.said[:2000]})
    outcomes: dict[str, Outcome | None] = {axis: outcome(plain[axis], swapped[axis]) for axis in AXES}
    agreed = {axis: plain[axis] != swapped[axis] for axis in AXES}  # the same system, which stood in the other row
    return Compared(query, outcomes, said={"above": plain, "below": swapped}, agreed=agreed)


def _higher(ours: Scores, theirs: Scores, axis: str) -> Outcome:
    a, b = getattr(ours, axis), getattr(theirs, axis)
    return "win" if a > b else "lose" if a < b else "similar"


def summary(compared: Sequence[Compared], seed: int = 0) -> dict[str, Wins]:
    """Win rates, order consistency and what is missing, on each axis."""
    return {
        axis: count_wins(
            [one.outcomes[axis] for one in compared], seed, agreed=[one.agreed.get(axis) for one in compared]
        )
        for axis in AXES
    }


def rows_of(*rows: Images) -> Image.Image:
    """One picture: a row of pictures a system, numbered at the left where there are two."""
    if not rows or not all(rows):
        raise ValueError("a row to judge needs at least one picture")
    margin, gap, wide = 40 if len(rows) > 1 else 0, 8, max(map(len, rows))
    size = margin + wide * (CELL + gap) + gap, len(rows) * (CELL + gap) + gap
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = gap + number * (CELL + gap)
        if margin:
            draw.text((12, top + CELL // 2 - 14), str(number + 1), "black", ImageFont.load_default(28))
        for place, img in enumerate(row):
            fitted = ImageOps.contain(img.convert("RGB"), (CELL, CELL))
            left = margin + gap + place * (CELL + gap)
            sheet.paste(fitted, (left + (CELL - fitted.width) // 2, top + (CELL - fitted.height) // 2))
    return sheet
