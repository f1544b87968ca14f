"""The web app: its pages and the few calls that its scripts make. Everything it shows comes from the ledger."""

import asyncio
import io
import logging
import random
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader
from pydantic import BaseModel, ConfigDict, Field
from starlette.staticfiles import StaticFiles

import goodeye
from goodeye.errors import BadInput
from goodeye.images import open_image
from goodeye.ledger.database import DatabaseTrouble
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import now
from goodeye.ledger.sql import storable
from goodeye.ledger.store import SUFFIXES
from goodeye.review import auth, find, items, look, standing, votes
from goodeye.review.items import PORTION, catch_up
from goodeye.review.queue import Kind, Rules, hand_out

LOG = logging.getLogger(__name__)
HERE = Path(__file__).parent
SHA = re.compile(r"[0-9a-f]{64}")
FRESH = 5.0  # seconds between looks at what other programs recorded
MOMENT = 0.2  # seconds that a request waits for such a look
PAUSE = 0.1  # seconds between portions of much, in which others write
THUMB, LARGE = 320, 1600  # pixels of a small and of a large picture's long side
MEDIA = {suffix: f"image/{kind}" for kind, suffix in SUFFIXES.items()}
YEAR = "private, max-age=31536000, immutable"  # a picture's name is its hash, so it never changes


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the app is to be: who may come in, and how work is handed out."""

    password: str = ""
    rules: Rules = field(default_factory=Rules)
    hosts: frozenset[str] = frozenset()
    finder: find.Finder | None = None  # an index, if Look shall search in one
    fresh: float = 60.0  # seconds that a standing is kept, since it reads every vote
    seed: int | None = None  # of what is left to chance; None: another one at each start


@dataclass(frozen=True)
class Seat:
    """Who sends a request."""

    person: str
    token: str

    @property
    def form_token(self) -> str:
        return auth.form_token(self.token)


class SignInFirst(Exception):
    """A page was asked for without a session."""


class Call(BaseModel):
    """What a script may send: these fields and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DeskCall(Call):
    kind: Kind
    count: Annotated[int, Field(ge=1, le=8)] = 1


class AnswerCall(Call):
    ask: Annotated[int, Field(ge=1, lt=2**63)]
    outcome: Literal["answered", "skipped", "flagged"]
    answer: Annotated[str, Field(max_length=40)] = ""
    note: Annotated[str, Field(max_length=votes.LONGEST_NOTE)] = ""
    seconds: Annotated[float, Field(ge=0, strict=False)] = 0.0
    ledger: Annotated[str, Field(max_length=40)]  # whose ask that is: a browser may have kept it of another one


class UndoCall(Call):
    ask: Annotated[int, Field(ge=1, lt=2**63)]
    ledger: Annotated[str, Field(max_length=40)]


class AsideCall(Call):
    person: Annotated[str, Field(max_length=200)]
    aside: bool
    why: Annotated[str, Field(max_length=votes.LONGEST_NOTE)] = ""


@dataclass(frozen=True)
class Reckoned:
    """A standing, when it was reckoned, and after how many decisions on whose votes count."""

    found: standing.Standing
    since: float  # by the monotonic clock
    moment: datetime
    asides: int


@dataclass
class Review:
    """What the routes share: the ledger, the settings, and the page templates."""

    ledger: Ledger
    settings: Settings
    chance: random.Random
    tries: auth.Limit = field(default_factory=lambda: auth.Limit(rate=0.2, burst=30))  # wrong passwords
    searches: auth.Limit = field(default_factory=lambda: auth.Limit(rate=1, burst=20))  # of a person
    told: auth.Limit = field(default_factory=lambda: auth.Limit(rate=0.1, burst=3))  # words of a database in trouble
    standings: auth.Limit = field(default_factory=lambda: auth.Limit(rate=0.5, burst=20))  # of a person
    asides: int = 0  # decisions on whose votes count, so far
    kept: Reckoned | None = None
    reckoning: asyncio.Lock = field(default_factory=asyncio.Lock)
    looked: float = -FRESH
    looking: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.pages = Environment(
            loader=PackageLoader("goodeye.review"), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self.key = items.key_of(self.ledger)
        self.finding = find.Finding(self.settings.finder) if self.settings.finder else None
        self.pages.globals.update(labels=votes.LABELS, version=goodeye.__version__, finding=self.finding)
        self.pages.filters.update(words=words, percent=percent, day=day, signed=signed)

    def look_around(self) -> None:
        """Takes in what other programs recorded, unless someone just did, or is at it. What is little is there when
        this returns; of much the rest is taken in beside the requests, portion by portion, so that nobody waits.

        Until it is in, what is asked is chosen of the rest, as in the seconds between two looks; the fixed random
        order then begins with what it has passed over.
        """
        if time.monotonic() - self.looked < FRESH or not self.looking.acquire(blocking=False):
            return
        at_it = threading.Thread(target=self._take_in, daemon=True)
        at_it.start()
        at_it.join(MOMENT)

    def _take_in(self) -> None:
        try:
            catch_up(self.ledger, lambda count: time.sleep(PAUSE if count >= PORTION else 0))
            self.looked = time.monotonic()
        except DatabaseTrouble as error:  # the next look tries again; the requests say so themselves
            LOG.warning("%s", error)
        finally:
            self.looking.release()

    async def how_it_stands(self) -> Reckoned:
        """How the voting stands: reckoned by one request at a time and kept for a while. Who waits holds no thread."""
        async with self.reckoning:
            kept, asides = self.kept, self.asides
            if kept is None or kept.asides != asides or time.monotonic() - kept.since >= self.settings.fresh:
                found = await _in_thread(self._reckon)
                kept = self.kept = Reckoned(found, time.monotonic(), now(), asides)
            return kept

    def _reckon(self) -> standing.Standing:
        self.look_around()
        return standing.standing(self.ledger)

    def page(self, name: str, seat: Seat | None = None, /, **values: Any) -> HTMLResponse:
        """A page from its template; whatever is not markup of ours is escaped."""
        values = {"here": name.partition(".")[0], "seat": seat, "key": self.key} | values
        text = self.pages.get_template(name).render(**values)
        return HTMLResponse(text.encode(errors="backslashreplace"))  # halves of characters may be on record


def create_app(ledger: Ledger, settings: Settings | None = None) -> FastAPI:
    """The app on an open ledger. Serve it with any ASGI server, in one process."""
    settings = settings or Settings()
    review = Review(ledger, settings, random.Random(settings.seed))
    app = FastAPI(title="Goodeye", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.review = review
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for add in (_errors, _sessions, _work, _pictures):
        add(app, review)
    if review.finding:
        _searching(app, review, review.finding)
    _looking(app, review)
    app.add_middleware(auth.Guard, hosts=settings.hosts)
    return app


# Who is there


def seated(request: Request) -> Seat:
    """The session of a page's request; without one, the sign-in page follows."""
    token = request.cookies.get(auth.COOKIE, "")
    review: Review = request.app.state.review
    person = auth.person_of(review.ledger, token, review.settings.password)
    if person is None:
        raise SignInFirst
    return Seat(person, token)


def calling(request: Request) -> Seat:
    """The session of a script's request, which must bring the token of its page along."""
    try:
        seat = seated(request)
    except SignInFirst:
        raise HTTPException(401, "Sign in first.") from None
    if request.method != "GET" and not auth.same(request.headers.get("x-form-token", ""), seat.form_token):
        raise HTTPException(403, "The page is too old. Load it again.")
    return seat


OnPage = Annotated[Seat, Depends(seated)]
OnCall = Annotated[Seat, Depends(calling)]


def _errors(app: FastAPI, review: Review) -> None:
    @app.exception_handler(SignInFirst)
    def sign_in_first(request: Request, _error: SignInFirst) -> Response:
        asked = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/sign-in?to={quote(request.url.path + asked)}", 303)

    @app.exception_handler(auth.TooLong)
    def too_long(_request: Request, _error: auth.TooLong) -> Response:
        return JSONResponse({"detail": "That is more than any form here sends."}, 413)

    @app.exception_handler(votes.NotAsked)
    def not_asked(_request: Request, _error: votes.NotAsked) -> Response:
        return JSONResponse({"detail": "You were not asked that."}, 404)

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Request, _error: RequestValidationError) -> Response:
        return JSONResponse({"detail": "That is not what this call takes."}, 422)  # and no echo of what was sent

    @app.exception_handler(DatabaseTrouble)
    def trouble(request: Request, error: DatabaseTrouble) -> Response:
        if review.told.allows(""):  # every page tries again each second or two
            LOG.warning("%s", error)  # for who runs the server; a browser learns nothing of where the ledger is
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            said: Response = review.page("away.html")
            said.status_code = 503
        else:
            said = JSONResponse({"detail": "The ledger cannot be reached just now. Try again in a moment."}, 503)
        said.headers["retry-after"] = "2"
        return said

    @app.exception_handler(BadInput)
    def bad_input(_request: Request, error: BadInput) -> Response:
        return JSONResponse({"detail": str(error)}, 400)


def _sessions(app: FastAPI, review: Review) -> None:
    @app.get("/sign-in")
    def ask_who(request: Request, to: str = "/") -> Response:
        return _sign_in_page(review, request, to)

    @app.post("/sign-in")
    async def come_in(request: Request) -> Response:
        form = await _form(request)
        return await _in_thread(lambda: _come_in(review, request, form))

    @app.post("/sign-out")
    async def leave(request: Request) -> Response:
        form = await _form(request)
        token = request.cookies.get(auth.COOKIE, "")
        if not token or not auth.same(form.get("form_token", ""), auth.form_token(token)):
            raise HTTPException(403, "The page is too old. Load it again.")
        await _in_thread(lambda: auth.sign_out(review.ledger, token, review.settings.password))
        gone = RedirectResponse("/sign-in", 303)
        gone.delete_cookie(auth.COOKIE)
        return gone


def _sign_in_page(review: Review, request: Request, to: str, problem: str = "", name: str = "") -> Response:
    secret = request.cookies.get(auth.FORM_COOKIE) or secrets.token_urlsafe(32)
    page = review.page(
        "sign_in.html",
        to=_inside(to),
        problem=problem,
        name=name,
        form_token=auth.form_token(secret),
        with_password=bool(review.settings.password),
    )
    page.status_code = 400 if problem else 200
    _set_cookie(page, request, auth.FORM_COOKIE, secret)
    return page


def _come_in(review: Review, request: Request, form: dict[str, str]) -> Response:
    said, to = form.get("name", ""), form.get("to", "/")
    secret = request.cookies.get(auth.FORM_COOKIE, "")
    if not secret or not auth.same(form.get("form_token", ""), auth.form_token(secret)):
        return _sign_in_page(review, request, to, "The page was too old. Please try again.", said)
    address = request.client.host if request.client else ""
    if not review.tries.allows(address):
        raise HTTPException(429, "Too many tries. Wait a minute.")
    if review.settings.password and not auth.same(form.get("password", ""), review.settings.password):
        return _sign_in_page(review, request, to, "That is not the password.", said)
    review.tries.forgive(address)  # an office or a proxy is one address, and who knows the password guesses nothing
    try:
        person = auth.clean_name(said)
    except BadInput as error:
        return _sign_in_page(review, request, to, str(error))
    response = RedirectResponse(_inside(to), 303)
    person = auth.known_as(review.ledger, person)
    token = auth.sign_in(review.ledger, person, review.settings.password)
    _set_cookie(response, request, auth.COOKIE, token)
    response.delete_cookie(auth.FORM_COOKIE)
    return response


def _set_cookie(response: Response, request: Request, name: str, value: str) -> None:
    age = int(auth.SESSION_AGE.total_seconds())
    response.set_cookie(name, value, max_age=age, httponly=True, samesite="lax", secure=_by_tls(request))


def _by_tls(request: Request) -> bool:
    """Whether the browser came by https, here or to a proxy before. Who lies in that header keeps no cookie, that is
    all."""
    before = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (request.url.scheme, before)


def _inside(to: str) -> str:
    """A path of ours, and never another site: //evil and the like lead home."""
    return to if re.fullmatch(r"/[a-z0-9][a-z0-9/-]*(\?[\w.~%&=+-]*)?", to, re.ASCII) else "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a plain form; each once."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Send a form.")
    try:
        text = (await request.body()).decode()
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise HTTPException(400, "That is not a form.") from None
    return {name: values[0] for name, values in fields.items()}


async def _in_thread(work: Callable[[], Any]) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work)


# Label and compare


def _work(app: FastAPI, review: Review) -> None:
    def meant_here(call: AnswerCall | UndoCall) -> None:
        if call.ledger != review.key:
            raise HTTPException(409, "That was asked by another ledger.")

    @app.get("/")
    def home(_seat: OnPage) -> Response:
        return RedirectResponse("/label", 303)

    @app.get("/label")
    def label_page(seat: OnPage) -> Response:
        return review.page("label.html", seat)

    @app.get("/compare")
    def compare_page(seat: OnPage) -> Response:
        return review.page("compare.html", seat)

    @app.post("/api/desk")
    def desk(seat: OnCall, call: DeskCall) -> dict[str, Any]:
        review.look_around()
        asks = hand_out(review.ledger, seat.person, call.kind, call.count, review.settings.rules, review.chance)
        return votes.desk_of(review.ledger, seat.person, call.kind, asks)

    @app.post("/api/answers")
    def answers(seat: OnCall, call: AnswerCall) -> dict[str, str]:
        meant_here(call)
        stored = votes.answer(review.ledger, seat.person, call.ask, call.outcome, call.answer, call.note, call.seconds)
        return {"outcome": stored}

    @app.post("/api/undo")
    def undo(seat: OnCall, call: UndoCall) -> dict[str, Any]:
        meant_here(call)
        ask = votes.undo(review.ledger, seat.person, call.ask)
        return {"ask": votes.shown(review.ledger, seat.person, [ask])[0]}


# Pictures


def _pictures(app: FastAPI, review: Review) -> None:
    @app.get("/image/{sha}")
    def image(_seat: OnCall, sha: str) -> Response:
        file = _file(review, sha)
        return FileResponse(file, media_type=MEDIA[file.suffix], headers={"cache-control": YEAR})

    @app.get("/thumb/{sha}")
    def thumb(_seat: OnCall, sha: str) -> Response:
        try:
            small = _small(_file(review, sha))
        except BadInput as error:
            raise HTTPException(404, "That picture is damaged.") from error
        return Response(small, media_type="image/webp", headers={"cache-control": YEAR})


def _file(review: Review, sha: str) -> Path:
    """The file of that hash. Nothing else that a request says has any part in a path."""
    path = review.ledger.image_path(sha) if SHA.fullmatch(sha) else None
    if path is None or not path.is_file():
        raise HTTPException(404, "There is no such picture.")
    return path


@lru_cache(maxsize=2000)
def _small(path: Path) -> bytes:
    picture = open_image(path)
    picture.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=86)
    return buffer.getvalue()


# Search


def _searching(app: FastAPI, review: Review, finding: find.Finding) -> None:
    def allow(seat: Seat) -> None:
        if not review.searches.allows(seat.person):
            raise HTTPException(429, "Too many questions. Wait a moment.")

    @app.get("/look/search")
    def search_page(seat: OnPage, request: Request) -> Response:
        allow(seat)
        question, rows, problem = find.read(request.query_params), [], ""
        try:
            rows = finding.ask(review.ledger, seat.person, question) if question.asked else []
        except DatabaseTrouble:
            raise
        except BadInput as error:
            problem = str(error)
        page = review.page("search.html", seat, here="look", question=question, rows=rows, problem=problem)
        page.status_code = 400 if problem else 200
        return page

    @app.get("/look/found/{key}")
    def found_page(seat: OnPage, key: str) -> Response:
        title = finding.title(key)
        if not title:
            raise look.NotThere("There is no such picture.")
        return review.page("found.html", seat, here="look", key=key, title=title)

    @app.post("/api/picture")
    async def picture(seat: OnCall, request: Request) -> dict[str, str]:
        allow(seat)
        data = await request.body()
        return {"like": await _in_thread(lambda: finding.take(seat.person, data))}

    @app.get("/sent/{key}")
    def sent(seat: OnCall, key: str) -> Response:
        return _webp(lambda: finding.picture(seat.person, key))

    @app.get("/found/{key}")
    def found(_seat: OnCall, key: str) -> Response:
        return _webp(lambda: finding.open(key, THUMB))

    @app.get("/found/{key}/large")
    def large(_seat: OnCall, key: str) -> Response:
        return _webp(lambda: finding.open(key, LARGE))


def _webp(made: Callable[[], bytes]) -> Response:
    try:
        return Response(made(), media_type="image/webp", headers={"cache-control": "private, max-age=3600"})
    except BadInput as error:
        raise HTTPException(404, str(error)) from error


# Look and standing


def _looking(app: FastAPI, review: Review) -> None:
    @app.get("/look")
    def look_page(seat: OnPage, request: Request) -> Response:
        review.look_around()
        asked = look.read(request.query_params)
        found = look.page(review.ledger, asked)
        return review.page("look.html", seat, asked=asked, found=found, known=look.known(review.ledger))

    @app.get("/look/{attempt}")
    def attempt_page(seat: OnPage, attempt: str) -> Response:
        return review.page("attempt.html", seat, one=look.attempt(review.ledger, _number(attempt)))

    @app.get("/runs")
    def runs_page(seat: OnPage) -> Response:
        review.look_around()
        return review.page("runs.html", seat, runs=look.runs(review.ledger))

    @app.get("/runs/{run}")
    def run_page(seat: OnPage, run: str) -> Response:
        review.look_around()
        return review.page("run.html", seat, run=look.run(review.ledger, _number(run)))

    @app.get("/standing")
    async def standing_page(seat: OnPage) -> Response:
        if not review.standings.allows(seat.person):
            raise HTTPException(429, "You have loaded this page too often. Wait a moment.")
        kept = await review.how_it_stands()
        page: Response = await _in_thread(
            lambda: review.page("standing.html", seat, found=kept.found, moment=kept.moment)
        )
        return page

    @app.post("/api/aside")
    def aside(seat: OnCall, call: AsideCall) -> dict[str, bool]:
        if not call.aside and storable(call.person).casefold() == seat.person.casefold():
            raise HTTPException(403, "Whether your own votes count again is for someone else to say.")
        votes.set_aside(review.ledger, call.person, call.aside, call.why, decided_by=seat.person)
        review.asides += 1  # what is kept says otherwise
        return {"aside": call.aside}

    @app.exception_handler(look.NotThere)
    def not_there(request: Request, error: look.NotThere) -> Response:
        page = review.page("gone.html", seated(request), here="look", words=str(error))
        page.status_code = 404
        return page


def _number(words: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,17}", words):
        raise look.NotThere("There is nothing of that number.")
    return int(words)


# How things are written


def words(name: str) -> str:
    """A class's name as a person reads it."""
    return votes.LABELS.get(name, name.replace("_", " "))


def percent(share: float | None) -> str:
    """`97 %`; a dash where there is nothing to measure."""
    return "–" if share is None or share != share else f"{100 * share:.0f} %"


def signed(value: float) -> str:
    """`+0.50` or `−0.50`, with a minus as wide as the plus."""
    return f"{value:+.2f}".replace("-", "−")


def day(moment: Any) -> str:
    """A date and time as a person reads it (UTC)."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
