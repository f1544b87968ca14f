"""What is fair to measure on: what chance drew with all that lies before it, and what nobody chose for a doubt."""

from datetime import timedelta

from sqlalchemy import insert, update

from goodeye.ledger import schema
from goodeye.ledger.asks import Ask, Person
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.opinions import store_vote
from goodeye.ledger.sample import chosen_in_doubt, fair_sample, scattered
from goodeye.ledger.schema import Attempt
from ledger.recorder import picture


def made(ledger: Ledger, count: int) -> list[int]:
    """A run of so many pictures, in the fixed random order."""
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
    return sorted((ledger.record_attempt(brief, 0, n, 0, picture(n)) for n in range(count)), key=scattered)


def vote(ledger: Ledger, attempt: int, chosen: str, person: str = "ann", ago: timedelta = timedelta(0)) -> None:
    """As the web app stores it: the ask, and what came of it."""
    with ledger.transaction() as connection:
        stored = store_vote(connection, attempt, person, "available", chosen=chosen)
        ask = {"kind": "label", "person": person, "attempt_id": attempt, "chosen": chosen, "swapped": False,
               "handed": schema.now() - ago, "outcome": "answered", "answer": "available", "note": "", "seconds": 1.0,
               "vote_id": stored}  # fmt: skip
        connection.execute(insert(Ask).values(**ask))


def found(ledger: Ledger, *runs: int) -> tuple[set[int], set[int]]:
    with ledger.reading() as connection:
        return fair_sample(connection, runs), chosen_in_doubt(connection, runs)


def test_what_chance_drew_and_what_lies_before_it_is_fair(ledger: Ledger) -> None:
    order = made(ledger, 6)
    for place, chosen in ((0, "random"), (1, "unsure"), (2, "random"), (4, "unsure")):
        vote(ledger, order[place], chosen)
    assert found(ledger) == (set(order[:3]), {order[4]})
    ledger.vote(order[5], "bo", "available")  # not asked by the queue: for who gave it to answer for
    assert found(ledger) == (set(order[:3]), {order[4]})
    assert [one.chosen for one in ledger.votes()] == ["random", "unsure", "random", "unsure", ""]


def test_a_draw_in_one_run_says_nothing_of_another(ledger: Ledger) -> None:
    """As with `goodeye review --run 1`: the order of run 2 was not walked."""
    one, two = made(ledger, 4), made(ledger, 4)
    vote(ledger, one[-1], "random")
    for attempt in (one[0], two[0]):
        vote(ledger, attempt, "unsure")
    assert found(ledger) == ({one[0], one[-1]}, {two[0]})
    assert found(ledger, 2) == (set(), {two[0]}) and found(ledger, 1) == ({one[0], one[-1]}, set())


def test_a_picture_made_after_the_draws_was_not_passed_over_by_them(ledger: Ledger) -> None:
    order = made(ledger, 4)
    vote(ledger, order[2], "random", ago=timedelta(hours=1))
    for place in (0, 1):
        vote(ledger, order[place], "unsure")
    with ledger.transaction() as connection:
        connection.execute(update(Attempt).values(created=schema.now() - timedelta(hours=2)))
        connection.execute(update(Attempt).where(Attempt.id == order[1]).values(created=schema.now()))
    assert found(ledger) == ({order[0], order[2]}, {order[1]})
    vote(ledger, order[3], "random")  # a later draw went beyond it
    assert found(ledger) == (set(order), set())


def test_draws_of_who_is_set_aside_do_not_count(ledger: Ledger) -> None:
    order = made(ledger, 3)
    vote(ledger, order[2], "random", "eve")
    vote(ledger, order[1], "unsure")
    aside = {"name": "eve", "aside": True, "why": "", "decided_by": "ann", "decided": schema.now()}
    assert found(ledger) == ({order[1], order[2]}, set())
    with ledger.transaction() as connection:
        connection.execute(insert(Person).values(**aside))
    assert found(ledger) == (set(), {order[1]})


def test_the_random_order_is_fixed_and_spread_out() -> None:
    """SplitMix64's published first output for seed 0 is the mix of its first increment."""
    assert scattered(1) == 0xE220A8397B1DCDAF >> 1
    places = [scattered(number) for number in range(1, 2001)]
    assert len(set(places)) == 2000 and 0.47 < sum(place < 2**62 for place in places) / 2000 < 0.53
