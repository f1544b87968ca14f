"""Attempts in legs by properties: whatever checks and restarts there are, each slot gets what a plain loop gives it."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodeye.ads.recurrent import Plan, Restart
from goodeye.diffusion.batch import attempt_seed
from goodeye.errors import BadInput
from goodeye.scheduler import Leg, Outcome, Try, grouped_batches, open_slots, send

COUNTS = st.integers(1, 6)


def says(one: Try, luck: int) -> bool:
    """A judge that depends on the attempt alone, passing about half."""
    return attempt_seed(luck, *one) % 2 == 0


def stopped(one: Try, step: int, luck: int) -> bool:
    """A check that depends on attempt and step alone, and stops a quarter."""
    return attempt_seed(luck, f"{step}/{one.brief}", one.slot, one.number) % 4 == 0


def run_leg(leg: Leg, plan: Plan, luck: int, start: int) -> Leg | Outcome:
    """What comes of a leg of an attempt that began at `start`."""
    one = leg.attempt
    if leg.stop == plan.evaluations:
        return Outcome(*one, says(one, luck), plan.evaluations - start)
    if stopped(one, leg.stop, luck):
        return Outcome(*one, False, leg.stop - start, True)
    return plan.onward(leg)


def due_in_legs(keys: list[str], want: int, attempts: int, luck: int, plan: Plan) -> set[Outcome]:
    """What a plain loop, slot by slot and attempt by attempt, would do."""
    wanted = set()
    for key in keys:
        for slot in range(1, want + 1):
            before: list[Outcome] = []
            while len(before) < attempts and not any(one.passed for one in before):
                leg = plan.first(Try(key, slot, len(before) + 1), before)
                start, found = leg.start, run_leg(leg, plan, luck, leg.start)
                while isinstance(found, Leg):
                    assert found.start == leg.stop
                    leg, found = found, run_leg(found, plan, luck, start)
                before.append(found)
            wanted.update(before)
    return wanted


PLANS = st.builds(
    Plan,
    starts=st.sampled_from([tuple(range(10)), (0, 3, *range(6, 14))]),  # of 10 steps, or 14 of which some are longer
    checks=st.sets(st.integers(1, 9), max_size=3).map(lambda found: tuple(sorted(found))),
    restart=st.none() | st.builds(Restart, strength=st.floats(0.05, 0.95), times=COUNTS, stopped=st.booleans()),
)


@settings(deadline=None)
@given(
    briefs=st.integers(0, 6), want=COUNTS, attempts=COUNTS, size=st.integers(1, 12), luck=st.integers(0, 99), plan=PLANS
)
def test_in_legs_each_attempt_gets_what_a_loop_gives_it(briefs, want, attempts, size, luck, plan):
    keys = [f"b{i}" for i in range(briefs)]
    past: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
    began: dict[Try, int] = {}
    waiting = [plan.first(one) for one in open_slots(keys, want=want, attempts=attempts)]
    taken = iter(waiting)
    batches = grouped_batches(taken, size=size)
    batch = next(batches, None)
    while batch:
        assert len({leg[1:] for leg in batch}) == 1 and len(batch) <= size
        answers = []
        for leg in batch:
            one = leg.attempt
            found = run_leg(leg, plan, luck, began.setdefault(one, leg.start))
            if isinstance(found, Outcome):
                past[(one.brief, one.slot)].append(found)
                ended = found.passed or one.number == attempts
                found = None if ended else plan.first(one.again(), past[(one.brief, one.slot)])
            answers.append(found)
        assert len(batch) == size or next(taken, None) is None, "short only when no slot waits"
        batch = send(batches, answers)
    assert {one for made in past.values() for one in made} == due_in_legs(keys, want, attempts, luck, plan)


def test_survivors_of_several_batches_share_the_next_leg():
    plan = Plan(starts=tuple(range(10)), checks=(3,))
    batches = grouped_batches((plan.first(Try(key, 1, 1)) for key in "abcdefgh"), size=4)
    first = next(batches)
    assert [leg.attempt.brief for leg in first] == list("abcd") and first[0][1:3] == (0, 3)
    second = send(batches, [plan.onward(leg) if leg.attempt.brief in "ab" else None for leg in first])
    assert [leg.attempt.brief for leg in second] == list("efgh")
    third = send(batches, [plan.onward(leg) if leg.attempt.brief in "gh" else None for leg in second])
    assert [leg.attempt.brief for leg in third] == list("abgh") and third[0][1:3] == (3, 10)
    assert send(batches, [None] * 4) is None


TWENTY = tuple(range(20))


def test_a_restart_leaves_out_the_first_steps_and_only_so_many_come_in_a_row():
    def costs(plan: Plan, attempts: int = 7) -> list[int]:
        before: list[Outcome] = []
        for number in range(1, attempts + 1):
            one = Try("a", 1, number)
            before.append(Outcome(*one, False, plan.evaluations - plan.first(one, before).start))
        return [one.evals for one in before]

    assert costs(Plan(starts=TWENTY)) == [20] * 7
    assert costs(Plan(starts=TWENTY, restart=Restart(strength=0.4))) == [20, 8, 20, 8, 20, 8, 20]
    assert costs(Plan(starts=TWENTY, restart=Restart(strength=0.4, times=2))) == [20, 8, 8, 20, 8, 8, 20]
    assert costs(Plan(starts=TWENTY, restart=Restart(strength=0.001))) == [20, 1, 20, 1, 20, 1, 20]


def test_with_longer_first_steps_it_goes_back_to_the_same_noise_or_more():
    plan = Plan(starts=(0, 3, 6, 9, *range(12, 20)), restart=Restart(strength=0.5))  # of 20 steps, 12 evaluations
    assert plan.evaluations == 12
    failed = [Outcome("a", 1, 1, False, 12)]
    assert plan.first(Try("a", 1, 2), failed) == Leg(Try("a", 1, 2), 3, 12)  # at step 9, since none begins at step 10
    again = [*failed, Outcome("a", 1, 2, False, 9)]
    assert plan.first(Try("a", 1, 3), again) == Leg(Try("a", 1, 3), 0, 12), "new noise after one restart"


def test_from_a_stopped_attempt_it_goes_back_at_least_to_the_noise_of_its_prediction():
    before = [Outcome("a", 1, 1, False, 6, True)]
    for strength, start in ((0.5, 6), (0.9, 2)):
        restart = Restart(strength=strength, stopped=True)
        plan = Plan(starts=TWENTY, checks=(6,), restart=restart)
        assert plan.first(Try("a", 1, 2), before) == Leg(Try("a", 1, 2), start, 20)
    new = Plan(starts=TWENTY, checks=(6,), restart=Restart(strength=0.5)).first(Try("a", 1, 2), before)
    assert new == Leg(Try("a", 1, 2), 0, 6), "new noise, and checked"


@pytest.mark.parametrize("restart", [Restart(strength=0.0), Restart(strength=1.0), Restart(strength=0.5, times=0)])
def test_restarts_that_make_no_sense_are_said(restart):
    with pytest.raises(BadInput, match="Give"):
        restart.check()
