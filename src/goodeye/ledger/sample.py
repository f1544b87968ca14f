"""Which of the pictures that people voted on tell of all that was made, and which were chosen for a judge's doubt.

`goodeye review` asks mostly about what a judge is unsure of. Such pictures teach a judge best, and say nothing fair
about it: a promise that is made of them does not hold. A random share follows one fixed random order of all pictures.
Up to the last picture of a run that was drawn so, all that have votes are a fair sample, however they came to them:
without those that were in doubt, too, it would be none.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from goodeye.ledger.asks import Ask
from goodeye.ledger.opinions import ASIDE
from goodeye.ledger.schema import Attempt, Brief, Vote

RANDOM, UNSURE, REPEAT = "random", "unsure", "repeat"  # why a picture was put before someone


def scattered(number: int) -> int:
    """A fixed random place for an id: its 63 bits mixed by SplitMix64's finaliser (Steele et al. 2014)."""
    mask = (1 << 64) - 1
    mixed = (number * 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) >> 1


def fair_sample(connection: Connection, runs: Iterable[int] = ()) -> set[int]:
    """The attempts with votes that count, up to the last one of their run that was drawn by chance.

    runs: only of these; none: of all. An attempt that was made after the draws has not been passed over by them, so it
    belongs to the sample only where a later draw went beyond it.
    Of votes from elsewhere those belong to it that say so.
    """
    mine = tuple(runs)
    found = _voted(connection, RANDOM, mine)
    draws = _of_runs(select(Brief.run_id, Ask.handed, Ask.attempt_id).join(Attempt, Ask.attempt_id == Attempt.id), mine)
    draws = draws.where(Ask.chosen == RANDOM, Ask.person.not_in(ASIDE))
    voted = _of_runs(select(Brief.run_id, Attempt.created, Attempt.id).join(Vote, Vote.attempt_id == Attempt.id), mine)
    voted = voted.where(Vote.person.not_in(ASIDE)).distinct()
    drawn: dict[int, list[tuple[datetime, int]]] = defaultdict(list)
    for run, handed, attempt in connection.execute(draws):
        drawn[run].append((handed, scattered(attempt)))
    made: dict[int, list[tuple[datetime, int]]] = defaultdict(list)
    for run, created, attempt in connection.execute(voted):
        if run in drawn:
            made[run].append((created, attempt))
    for run, attempts in made.items():
        later, reach = sorted(drawn[run]), -1
        for created, attempt in sorted(attempts, reverse=True):  # the newest first, with the draws that came after it
            while later and later[-1][0] >= created:
                reach = max(reach, later.pop()[1])
            if scattered(attempt) <= reach:
                found.add(attempt)
    return found


def chosen_in_doubt(connection: Connection, runs: Iterable[int] = ()) -> set[int]:
    """The attempts that people voted on since a judge was in doubt of them, and that are not in the fair sample.

    Votes that came another way (by `Ledger.vote`, or a file that does not say) are for those who gave them to answer
    for: what has only such votes is not among these.
    """
    mine = tuple(runs)
    return _voted(connection, UNSURE, mine) - fair_sample(connection, mine)


def _voted(connection: Connection, chosen: str, runs: tuple[int, ...]) -> set[int]:
    query = select(Vote.attempt_id).join(Attempt, Vote.attempt_id == Attempt.id)
    return set(connection.scalars(_of_runs(query, runs).where(Vote.chosen == chosen, Vote.person.not_in(ASIDE))))


def _of_runs(query: Any, runs: tuple[int, ...]) -> Any:
    joined = query.join(Brief, Attempt.brief_id == Brief.id)
    return joined.where(Brief.run_id.in_(runs)) if runs else joined
