"""The scheduler by properties: whatever the judge says and wherever a run was killed, each slot gets what it is due."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodeye.ads.recurrent import (
    Leg,
    Outcome,
    Plan,
    Restart,
    Try,
    attempt_seed,
    full_batches,
    grouped_batches,
    open_slots,
    send,
)
from goodeye.errors import BadInput

COUNTS = st.integers(1, 6)


def says(one: Try, luck: int) -> bool:
    """A judge that depends on the attempt alone, passing about half."""
    return attempt_seed(luck, *one) % 2 == 0


def play(keys: list[str], want: int, attempts: int, size: int, luck: int, made: list[Outcome] | None = None):
    """Runs everything; returns the batches and all outcomes, those already made first."""
    outcomes = list(made or [])
    slots = open_slots(keys, want=want, attempts=attempts, made=tuple(outcomes))
    batches = full_batches(slots, attempts=attempts, size=size)
    batch, seen = next(batches, None), []
    while batch:
        seen.append(batch)
        answers = [says(one, luck) for one in batch]
        outcomes += [Outcome(*one, ok) for one, ok in zip(batch, answers, strict=True)]
        batch = send(batches, answers)
    return seen, outcomes


def due(keys: list[str], want: int, attempts: int, luck: int) -> set[Outcome]:
    """What a plain loop, slot by slot, would do: the definition that the scheduler must equal."""
    wanted = set()
    for key in keys:
        for slot in range(1, want + 1):
            for number in range(1, attempts + 1):
                ok = says(Try(key, slot, number), luck)
                wanted.add(Outcome(key, slot, number, ok))
                if ok:
                    break
    return wanted


@given(briefs=st.integers(0, 9), want=COUNTS, attempts=COUNTS, size=st.integers(1, 20), luck=st.integers(0, 99))
def test_does_exactly_what_a_loop_slot_by_slot_does(briefs, want, attempts, size, luck):
    keys = [f"b{i}" for i in range(briefs)]
    _, outcomes = play(keys, want, attempts, size, luck)
    assert len(outcomes) == len(set(outcomes))
    assert set(outcomes) == due(keys, want, attempts, luck)


@given(briefs=st.integers(1, 9), want=COUNTS, attempts=COUNTS, size=st.integers(1, 20), luck=st.integers(0, 99))
def test_a_batch_is_short_only_when_no_slot_waits(briefs, want, attempts, size, luck):
    keys = [f"b{i}" for i in range(briefs)]
    batches, _ = play(keys, want, attempts, size, luck)
    started: set[tuple[str, int]] = set()
    for batch in batches:
        places = [(one.brief, one.slot) for one in batch]
        assert len(places) == len(set(places)), "a slot makes one attempt at a time"
        started.update(places)
        assert len(batch) == size or len(started) == briefs * want
    # and order within a slot is 1, 2, 3, …
    numbers = defaultdict(list)
    for batch in batches:
        for one in batch:
            numbers[(one.brief, one.slot)].append(one.number)
    assert all(tries == list(range(1, len(tries) + 1)) for tries in numbers.values())


@settings(deadline=None)
@given(
    briefs=st.integers(1, 6),
    want=COUNTS,
    attempts=COUNTS,
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    luck=st.integers(0, 99),
    data=st.data(),
)
def test_a_restart_from_any_state_makes_exactly_what_is_left(briefs, want, attempts, sizes, luck, data):
    keys = [f"b{i}" for i in range(briefs)]
    _, whole = play(keys, want, attempts, sizes[0], luck)
    batches, _ = play(keys, want, attempts, sizes[0], luck)
    kill = data.draw(st.integers(0, len(whole)), label="attempts written when it was killed")
    before = whole[:kill]  # within a batch too: attempts are written one by one
    _, after = play(keys, want, attempts, sizes[1], luck, made=before)
    assert Counter(after) == Counter(whole)


def test_the_order_is_the_same_each_time():
    assert play(["a", "b", "c"], 4, 5, 5, luck=1) == play(["a", "b", "c"], 4, 5, 5, luck=1)


def test_briefs_are_taken_only_when_a_place_is_free():
    taken = []

    def keys():
        for key in "abcdef":
            taken.append(key)
            yield key

    batches = full_batches(open_slots(keys(), want=2, attempts=1), attempts=1, size=4)
    assert next(batches) == [Try("a", 1, 1), Try("a", 2, 1), Try("b", 1, 1), Try("b", 2, 1)]
    assert taken == ["a", "b"]


@given(st.text(), st.integers(0, 50), st.integers(1, 9), st.integers(1, 9))
def test_seeds_are_63_bits_and_differ_by_place(brief, run, slot, number):
    seed = attempt_seed(run, brief, slot, number)
    assert 0 <= seed < 2**63
    assert seed == attempt_seed(run, brief, slot, number)
    assert len({seed, attempt_seed(run, brief, slot + 1, number), attempt_seed(run, brief, slot, number + 1)}) == 3


# In legs


def stopped(one: Try, step: int, luck: int) -> bool:
    """A check that depends on attempt and step alone, and stops a quarter."""
    return attempt_seed(luck, f"{step}/{one.brief}", one.slot, one.number) % 4 == 0


def run_leg(leg: Leg, plan: Plan, luck: int, start: int) -> Leg | Outcome:
    """What comes of a leg of an attempt that began at `start`."""
    one = leg.attempt
    if leg.stop == plan.steps:
        return Outcome(*one, says(one, luck), plan.steps - start)
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
    steps=st.just(10),
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
    plan = Plan(steps=10, checks=(3,))
    batches = grouped_batches((plan.first(Try(key, 1, 1)) for key in "abcdefgh"), size=4)
    first = next(batches)
    assert [leg.attempt.brief for leg in first] == list("abcd") and first[0][1:] == (0, 3)
    second = send(batches, [plan.onward(leg) if leg.attempt.brief in "ab" else None for leg in first])
    assert [leg.attempt.brief for leg in second] == list("efgh")
    third = send(batches, [plan.onward(leg) if leg.attempt.brief in "gh" else None for leg in second])
    assert [leg.attempt.brief for leg in third] == list("abgh") and third[0][1:] == (3, 10)
    assert send(batches, [None] * 4) is None


def test_a_restart_leaves_out_the_first_steps_and_only_so_many_come_in_a_row():
    def costs(plan: Plan, attempts: int = 7) -> list[int]:
        before: list[Outcome] = []
        for number in range(1, attempts + 1):
            one = Try("a", 1, number)
            before.append(Outcome(*one, False, plan.steps - plan.first(one, before).start))
        return [one.evals for one in before]

    assert costs(Plan(steps=20)) == [20] * 7
    assert costs(Plan(steps=20, restart=Restart(strength=0.4))) == [20, 8, 20, 8, 20, 8, 20]
    assert costs(Plan(steps=20, restart=Restart(strength=0.4, times=2))) == [20, 8, 8, 20, 8, 8, 20]
    assert costs(Plan(steps=20, restart=Restart(strength=0.001))) == [20, 1, 20, 1, 20, 1, 20]


def test_from_a_stopped_attempt_it_goes_back_at_least_to_the_noise_of_its_prediction():
    before = [Outcome("a", 1, 1, False, 6, True)]
    for strength, start in ((0.5, 6), (0.9, 2)):
        restart = Restart(strength=strength, stopped=True)
        assert Plan(steps=20, checks=(6,), restart=restart).first(Try("a", 1, 2), before) == (Try("a", 1, 2), start, 20)
    new = Plan(steps=20, checks=(6,), restart=Restart(strength=0.5)).first(Try("a", 1, 2), before)
    assert new == (Try("a", 1, 2), 0, 6), "new noise, and checked"


@pytest.mark.parametrize("restart", [Restart(strength=0.0), Restart(strength=1.0), Restart(strength=0.5, times=0)])
def test_restarts_that_make_no_sense_are_said(restart):
    with pytest.raises(BadInput, match="Give"):
        restart.check()
