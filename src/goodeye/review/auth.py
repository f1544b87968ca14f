"""Who is there and what a browser may send: sessions, forms that cannot be forged, limits, and the page policy."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie
from typing import Any

from sqlalchemy import delete, insert, select
from starlette.responses import PlainTextResponse

from goodeye.errors import BadInput
from goodeye.ledger.asks import Ask, Person, Session
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Comparison, Vote, now
from goodeye.ledger.sql import named
from goodeye.review.find import LARGEST
from goodeye.review.items import reading, writing

COOKIE = "goodeye_session"
WHOSE = select(Session.person).where(Session.token_sha == named("token"), Session.created >= named("since"))
FORM_COOKIE = "goodeye_form"  # before there is a session
SESSION_AGE = timedelta(days=30)
SHORTEST_PASSWORD = 8
LARGEST_BODY = 16 * 1024  # bytes: no form of ours is longer
LARGEST_BODIES = {"/api/picture": LARGEST}  # but a picture to search by
NAME = re.compile(r"\w[\w .@+'-]{0,39}")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "DENY",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def check_exposure(host: str, password: str) -> None:
    """Raises BadInput where others could reach the app without a password, and for a password that is too short."""
    if password and len(password) < SHORTEST_PASSWORD:
        raise BadInput(f"The password is shorter than {SHORTEST_PASSWORD} characters. Choose a longer one.")
    if not password and not is_loopback(host):
        raise BadInput(
            f"{host} can be reached by others. Set a password in GOODEYE_REVIEW_PASSWORD, or leave --host away to "
            "serve this machine alone."
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# Sessions


def sign_in(ledger: Ledger, person: str, password: str = "") -> str:
    """Opens a session and returns its token, which only the browser keeps. Old sessions go.

    password: what lets people in at present; a session lasts no longer than it.
    """
    token = secrets.token_urlsafe(32)
    with writing(ledger) as connection:
        connection.execute(delete(Session).where(Session.created < now() - SESSION_AGE))
        connection.execute(
            insert(Session).values(token_sha=_session_sha(token, password), person=person, created=now())
        )
    return token


def sign_out(ledger: Ledger, token: str, password: str = "") -> None:
    """Ends the session."""
    with writing(ledger) as connection:
        connection.execute(delete(Session).where(Session.token_sha == _session_sha(token, password)))


def person_of(ledger: Ledger, token: str, password: str = "") -> str | None:
    """Whose session that is; None if it is nobody's, too old, or from the time of another password."""
    if not token:
        return None
    with reading(ledger) as connection:
        return connection.scalar(WHOSE, {"token": _session_sha(token, password), "since": now() - SESSION_AGE})


def form_token(secret: str) -> str:
    """What a form must bring along, made from the cookie that goes with it: another site knows neither."""
    return hmac.new(secret.encode(), b"goodeye form", hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(_sha(given), _sha(expected))


def clean_name(said: str) -> str:
    """The name as it goes on record. Raises BadInput for one that is none."""
    name = " ".join(unicodedata.normalize("NFC", said).split())
    if not NAME.fullmatch(name):
        raise BadInput(
            "Give a name of 1 to 40 letters, digits, spaces or . @ + ' - that begins with a letter or digit."
        )
    return name


def known_as(ledger: Ledger, name: str) -> str:
    """The name as it is on record already where only its capitals differ, so that Ada and ada are one person."""
    columns = (Session.person, Ask.person, Person.name, Vote.person, Comparison.person)
    with reading(ledger) as connection:
        names = {one for column in columns for one in connection.scalars(select(column).distinct()) if one}
    alike = sorted(one for one in names if one.casefold() == name.casefold())
    return name if name in alike or not alike else alike[0]


def _session_sha(token: str, password: str) -> str:
    """What is kept of a session. The token alone keeps it secret; the password in it ends the session with itself."""
    return hmac.new(_sha(password).encode(), token.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _sha(words: str) -> str:
    return hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()


# What every request meets first


@dataclass
class Limit:
    """At most `burst` at once and `rate` a second for each key, by a leaking bucket."""

    rate: float
    burst: float
    keys: int = 10_000  # remembered at most
    filled: dict[str, tuple[float, float]] = field(default_factory=dict)  # key -> (fill, when)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def allows(self, key: str, moment: float | None = None) -> bool:
        """Counts one more; False if that is too many."""
        moment = time.monotonic() if moment is None else moment
        with self.lock:
            fill, before = self.filled.pop(key, (0.0, moment))
            fill = max(0.0, fill - (moment - before) * self.rate)
            allowed = fill + 1 <= self.burst
            self.filled[key] = (fill + 1 if allowed else fill, moment)
            while len(self.filled) > self.keys:
                self.filled.pop(next(iter(self.filled)))  # the longest unheard of
        return allowed

    def forgive(self, key: str) -> None:
        """Takes one back that was counted."""
        with self.lock:
            if key in self.filled:
                fill, before = self.filled[key]
                self.filled[key] = max(0.0, fill - 1), before


@dataclass
class Guard:
    """Refuses what no page of ours sends, before the app sees it, and puts the page policy on every answer.

    hosts: the names by which the app may be called (so that no other site's name can be pointed at it); empty: any.
    """

    app: App
    hosts: frozenset[str] = frozenset()
    reads: Limit = field(default_factory=lambda: Limit(rate=100, burst=400))
    writes: Limit = field(default_factory=lambda: Limit(rate=30, burst=90))
    address: Limit = field(default_factory=lambda: Limit(rate=1000, burst=4000))  # of all behind one, whatever cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        secured = _secured(send)
        refused = self._refuses(scope, headers)
        if refused:
            status, words = refused
            await PlainTextResponse(words, status)(scope, receive, secured)
            return
        await self.app(scope, _bounded(receive, _largest(scope)), secured)

    def _refuses(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts and _without_port(host) not in self.hosts:
            return 400, "This app does not go by that name."
        reads = scope["method"] in ("GET", "HEAD")
        limit, address = self.reads if reads else self.writes, scope["client"][0] if scope.get("client") else ""
        if not self.address.allows(address) or not limit.allows(f"{address} {_session(headers)}"):
            return 429, "Too many requests. Wait a moment."
        if reads:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Sent from another site."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Sent from another site."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _largest(scope):
            return 413, "That is more than any form here sends."
        return None


class TooLong(Exception):
    """A body that grew past what was announced."""


def _largest(scope: Scope) -> int:
    return LARGEST_BODIES.get(scope["path"], LARGEST_BODY)


def _bounded(receive: Receive, largest: int) -> Receive:
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > largest:
            raise TooLong
        return message

    return counted


def _secured(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            if b"cache-control" not in given:
                more.append((b"cache-control", b"no-store"))
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return with_headers


def _without_port(host: str) -> str:
    return re.sub(r":\d*$", "", host).strip("[]").lower()


def _session(headers: dict[str, str]) -> str:
    """The browser's session, so that many people behind one address do not stand in each other's way."""
    try:
        session = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return session.value[:64] if session else ""
