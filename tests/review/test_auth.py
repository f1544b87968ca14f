"""Who may be reached from where, limits, and sessions that end."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from goodeye.errors import BadInput
from goodeye.ledger.asks import Session
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import now
from goodeye.review import auth
from goodeye.review.items import reading, writing


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    auth.check_exposure(host, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "review.example", "127.0.0.1.evil.example", ""])
def test_others_are_let_in_by_password_only(host: str) -> None:
    with pytest.raises(BadInput, match="GOODEYE_REVIEW_PASSWORD"):
        auth.check_exposure(host, "")
    auth.check_exposure(host, "long enough")


def test_a_short_password_is_refused() -> None:
    with pytest.raises(BadInput, match="shorter than 8"):
        auth.check_exposure("127.0.0.1", "short")


def test_a_session_is_kept_as_a_hash_and_ends(ledger: Ledger) -> None:
    token = auth.sign_in(ledger, "Ada")
    assert auth.person_of(ledger, token) == "Ada" and auth.person_of(ledger, token + "x") is None
    with reading(ledger) as connection:
        assert token not in str(connection.execute(select(Session)).all())
    with writing(ledger) as connection:
        connection.execute(update(Session).values(created=now() - auth.SESSION_AGE - timedelta(seconds=1)))
    assert auth.person_of(ledger, token) is None
    auth.sign_in(ledger, "Bo")
    with reading(ledger) as connection:
        assert list(connection.scalars(select(Session.person))) == ["Bo"]


def test_a_session_ends_with_its_password(ledger: Ledger) -> None:
    open_to_all, token = auth.sign_in(ledger, "Eve"), auth.sign_in(ledger, "Ada", "the first one")
    assert auth.person_of(ledger, token, "the first one") == "Ada"
    for password in ("another one", ""):
        assert auth.person_of(ledger, token, password) is None
    assert auth.person_of(ledger, open_to_all, "the first one") is None
    auth.sign_out(ledger, token, "the first one")
    assert auth.person_of(ledger, token, "the first one") is None


def test_a_limit_lets_a_burst_through_and_then_its_rate() -> None:
    limit = auth.Limit(rate=2, burst=3)
    assert [limit.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.allows("b", 0.0), "another key is counted apart"
    assert [limit.allows("a", 0.5), limit.allows("a", 0.5)] == [True, False]
    assert [limit.allows("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_a_limit_forgets_the_longest_unheard_of() -> None:
    limit = auth.Limit(rate=1, burst=1, keys=2)
    for key in "abc":
        limit.allows(key, 0.0)
    assert set(limit.filled) == {"b", "c"}


def test_names_are_tidied() -> None:
    assert auth.clean_name("  Zoe\u0308   Ångström ") == "Zoë Ångström"
