"""Three rewards of an edit: was the instruction followed, was the rest preserved, is the quality good."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goodeye.errors import BadInput

AXES = ("following", "preserving", "quality")
LOW, HIGH = 0.0, 5.0
NO_FAILURE = "none"  # in the place of a failure text where nothing failed, in training as in editing
BEST = (HIGH, HIGH, HIGH)


@dataclass(frozen=True)
class Rewards:
    """Scores 0 to 5 and failure texts, in the order of AXES. None: not known; "": nothing failed."""

    scores: tuple[float | None, float | None, float | None]
    failures: tuple[str, str, str] = ("", "", "")

    @property
    def complete(self) -> bool:
        """Whether all three scores are known."""
        return all(score is not None for score in self.scores)

    def to_json(self) -> list[dict[str, Any]]:
        """As RewardEdit has them: three objects with "Score" and "Negative Prompt"; a missing score is null."""
        pairs = zip(self.scores, self.failures, strict=True)
        return [{"Score": score, "Negative Prompt": failure} for score, failure in pairs]


def from_json(given: Any) -> Rewards:
    """What RewardEdit's JSON says of one triplet. Raises BadInput where that is not three rewards.

    A score that is null, "" or not there is missing.
    """
    rows = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(rows, list) or len(rows) != 3 or not all(isinstance(row, dict) for row in rows):
        raise BadInput('it has not three rewards. Give following, preserving, quality: {"Score", "Negative Prompt"}.')
    first, second, third = (_score(row.get("Score"), axis) for axis, row in zip(AXES, rows, strict=True))
    one, two, three = (str(row.get("Negative Prompt") or "").strip() for row in rows)
    return Rewards((first, second, third), (one, two, three))


def _score(given: Any, axis: str) -> float | None:
    if given is None or given == "":
        return None
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not LOW <= value <= HIGH:
        raise BadInput(f"the score of {axis} is {given!r}. Scores are numbers from 0 to 5.")
    return value


def parse_rewards(words: str) -> tuple[float, float, float]:
    """The rewards of a command line, as "5,5,5" in the order of AXES. Raises BadInput unless three are 0 to 5."""
    try:
        first, second, third = (float(word) for word in words.split(","))
    except ValueError as error:
        raise BadInput(f"the rewards are {words}. Give three numbers, as 5,5,5 for {', '.join(AXES)}.") from error
    return check_rewards((first, second, third))


def check_rewards(scores: Sequence[float]) -> tuple[float, float, float]:
    """The three scores. Raises BadInput unless each is a number from 0 to 5."""
    if len(scores) != 3 or not all(LOW <= score <= HIGH for score in scores):
        given = ", ".join(f"{score:g}" for score in scores)
        raise BadInput(f"the rewards are {given}. Give three numbers from 0 to 5, for {', '.join(AXES)}.")
    return scores[0], scores[1], scores[2]


def feedback_text(failures: Sequence[str] = ("", "", "")) -> str:
    """The three failure texts as the text encoder reads them; NO_FAILURE where there is none."""
    return "; ".join(text.strip() or NO_FAILURE for text in failures)
