"""The scheduler by properties: whatever the judge says and wherever a run was killed, each slot gets what it is due."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from goodeye.diffusion.batch import attempt_seed
from goodeye.scheduler import Outcome, Try, full_batches, open_slots, send

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
