"""How long a reviewer waits, with many at once on a large ledger, and whether a killed server loses or doubles a vote.

Makes a ledger, serves it with `goodeye review`, and has reviewers label, and some compare. Each does what the page
does: keeps as many items on the desk, fetches the pictures of each, looks for a time of its own (exponentially
distributed, --think seconds on average; 1 is quicker than a person who looks) and sends the answer, each request over
a connection of its own. They come within the first ten such times, not all in one instant. In the middle the server is
killed and started again; reviewers repeat what was not confirmed.

Prints JSON: median and 99th percentile of "next item", "picture" and "vote stored" in milliseconds, as the reviewer
waits for them. Told apart are those that waited for the killed server to be back, since they tell how long it was
away, and those that were sent in the second after that, when all reviewers ask at once (crowd). Then the server's own
processor time a request and an answer (a desk, its pictures and a vote), and what was lost or doubled, which must be
nothing. The reviewers run on the same machine and share its cores with the server.

    python bench/review_load.py --keep filled --out sqlite.json
    python bench/review_load.py --keep filled --postgres --out postgres.json
    python bench/review_load.py --attempts 2000 --reviewers 4 --answers 10     # a quick test of itself

With --keep the filled ledger is made once and copied for each run.
"""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, new_parser
from PIL import Image
from sqlalchemy import func, insert, select, text

from goodeye.ledger.asks import Ask, Item, Pair
from goodeye.ledger.ledger import DATABASE, Ledger
from goodeye.ledger.schema import Attempt, Brief, Comparison, Run, Verdict, Vote, now
from goodeye.ledger.schema import Image as Picture
from goodeye.ledger.store import encode
from goodeye.review.auth import COOKIE, form_token, sign_in
from goodeye.review.items import catch_up, key_of
from goodeye.review.votes import CHOICES, LABELS

SERVE = "import sys; from goodeye.cli import main; sys.exit(main(sys.argv[1:]))"
PORTION = 5000  # rows inserted at once
RUNS, PICTURES, PER_BRIEF, EARLIER = 20, 64, 20, 40
DESK = {"label": 5, "compare": 4}  # items on it, as in the pages' scripts
CROWD = 1.0  # seconds after a restart in which everybody who waited asks at once
LARGEST_PAUSE = 300.0  # seconds that a reviewer waits for a server that was killed


# The ledger


def fill(ledger: Ledger, attempts: int, votes: int, seed: int) -> None:
    """Rows straight into the tables: runs, briefs, attempts with a verdict each, and votes of earlier people; then what
    the app draws together of them, as its first start does."""
    chance = random.Random(seed)
    labels = list(LABELS)
    files = [encode(Image.new("RGB", (64, 64), (chance.randrange(256), 4 * one, 90))) for one in range(PICTURES)]
    for file in files:
        ledger.store.write(file)
    briefs = max(1, attempts // PER_BRIEF)
    runs = min(RUNS, briefs)
    many: dict[Any, Iterator[dict[str, Any]]] = {
        Picture: (
            {"sha256": one.sha256, "format": one.format, "width": 64, "height": 64, "bytes": len(one.data)}
            for one in {file.sha256: file for file in files}.values()
        ),
        Run: (
            {"id": one, "job": "ads", "command": {}, "seed": one, "version": "", "status": "done", "started": now()}
            for one in range(1, runs + 1)
        ),
        Brief: (
            {"id": one, "run_id": 1 + one % runs, "key": f"brief {one // runs}", "job": "ads",
             "content": {"title": f"product {one}", "prompt": "on a table"}, "product_sha": files[0].sha256}
            for one in range(1, briefs + 1)
        ),
        Attempt: (
            {"id": one, "brief_id": 1 + one % briefs, "slot": one // briefs, "number": 1, "seed": one,
             "image_sha": files[one % PICTURES].sha256, "evals": 20, "seconds": 1.0, "created": now(), "detail": {}}
            for one in range(1, attempts + 1)
        ),
        Verdict: (
            {"id": one, "attempt_id": one, "judge": "rfnet", "version": "1", "label": chance.choice(labels),
             "scores": {"available": chance.random()}, "failures": []}
            for one in range(1, attempts + 1)
        ),
        Vote: (
            {"id": one, "attempt_id": 1 + (one * 5) % attempts, "person": f"earlier {one % EARLIER}",
             "label": chance.choice(labels), "axes": {}, "seconds": 1.0, "created": now()}
            for one in range(1, votes + 1)
        ),
    }  # fmt: skip
    for table, rows in many.items():
        while some := list(islice(rows, PORTION)):
            with ledger.transaction() as connection:
                connection.execute(insert(table), some)
    if ledger.engine.dialect.name == "postgresql":
        with ledger.transaction() as connection:
            for name in ("runs", "briefs", "attempts", "verdicts", "votes"):
                top = f"(SELECT max(id) FROM {name})"
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {top})"))
    catch_up(ledger)
    if ledger.engine.dialect.name == "postgresql":
        with ledger.transaction() as connection:
            connection.execute(text("ANALYZE"))


# The server


@dataclass
class Server:
    """`goodeye review` on a port of its own, to be killed and started again."""

    ledger: str
    images: Path
    port: int
    process: "subprocess.Popen[str] | None" = None
    spent: float = 0.0  # processor seconds of those that were stopped, less what their start took
    away: tuple[float, float] = (0.0, 0.0)  # from when to when it was killed and not back, by the monotonic clock
    _begun: float = 0.0

    def start(self) -> float:
        """Starts it and returns the seconds until it answers."""
        began = time.monotonic()
        words = ["review", "--ledger", self.ledger, "--images", str(self.images), "--port", str(self.port)]
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, *words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        if "http://" not in self.process.stdout.readline():
            raise SystemExit("the server did not start")
        answering = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LARGEST_PAUSE)
        answering.request("GET", "/sign-in")
        answering.getresponse().read()
        answering.close()
        self._begun = processor_seconds(self.process.pid)
        return time.monotonic() - began

    def kill_and_start(self) -> float:
        """Kills it and starts it again; returns the seconds until it answers."""
        killed = time.monotonic()
        self.stop(signal.SIGKILL)
        back = self.start()
        self.away = (killed, time.monotonic())
        return back

    def stop(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.spent += processor_seconds(self.process.pid) - self._begun
        self.process.send_signal(how)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def processor_seconds(pid: int) -> float:
    """What a process has had of the processor so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The reviewers


@dataclass
class Reviewer:
    """One person's browser: it asks for the next item, thinks, and sends an answer until it is confirmed."""

    name: str
    kind: str  # label, compare
    token: str
    port: int
    ledger: str  # its key
    think: float
    chance: random.Random
    next_item: list[tuple[float, float]] = field(default_factory=list)  # when it was asked, and seconds until it came
    pictures: list[tuple[float, float]] = field(default_factory=list)
    stored: list[tuple[float, float]] = field(default_factory=list)
    confirmed: dict[int, str] = field(default_factory=dict)  # ask -> what was said of it
    repeated: int = 0  # answers sent again, since nobody had confirmed them
    connection: http.client.HTTPConnection | None = None  # kept open, as browsers do

    def work(self, answers: int) -> None:
        """Answers so many, or until there is nothing left."""
        try:
            self._work(answers)
        finally:
            if self.connection is not None:
                self.connection.close()

    def _work(self, answers: int) -> None:
        seen: set[int] = set()
        time.sleep(self.chance.uniform(0, 10 * self.think))
        while len(self.confirmed) < answers:
            desk = self._call("/api/desk", self.next_item, kind=self.kind, count=DESK[self.kind])
            asks = json.loads(desk)["asks"]
            if not asks:
                return
            for one in asks:
                for sha in () if one["id"] in seen else one["images"]:
                    self._call(f"/image/{sha}", self.pictures)
                seen.add(one["id"])
            time.sleep(self.chance.expovariate(1 / self.think) if self.think else 0)
            said = self.chance.choice(list(LABELS if self.kind == "label" else CHOICES))
            answer = {"ask": asks[0]["id"], "outcome": "answered", "answer": said, "seconds": self.think}
            answer["ledger"] = self.ledger
            self._call("/api/answers", self.stored, **answer)
            self.confirmed[asks[0]["id"]] = said

    def _call(self, path: str, times: list[tuple[float, float]], **body: Any) -> bytes:
        """The answer, timed; asked again while the server is away."""
        deadline = time.monotonic() + LARGEST_PAUSE
        while True:
            began = time.monotonic()
            try:
                found = self._send(path, body)
            except (OSError, http.client.HTTPException):
                self.repeated += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            times.append((began, time.monotonic() - began))
            return found

    def _send(self, path: str, body: dict[str, Any]) -> bytes:
        headers = {"content-type": "application/json", "x-form-token": form_token(self.token)}
        headers["cookie"] = f"{COOKIE}={self.token}"
        while True:
            kept, connection = self.connection is not None, self.connection
            connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
                answer = connection.getresponse()
                said = answer.read()
                self.connection = connection
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self.connection = None
                if not kept:  # one that was idle for long is closed by the server: a browser opens another
                    raise
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {said[:200]!r}")
        return said


def review(ledger: Ledger, server: Server, options: Any) -> tuple[list[Reviewer], float]:
    """All reviewers at once; the server is killed when half of the answers are there. Also: seconds to come back."""
    reviewers = [
        Reviewer(
            name=(name := f"reviewer {one}"),
            kind="compare" if one < options.comparing else "label",
            token=sign_in(ledger, name),
            port=server.port,
            ledger=key_of(ledger),
            think=options.think,
            chance=random.Random(one),
        )
        for one in range(options.reviewers)
    ]
    threads = [threading.Thread(target=one.work, args=(options.answers,), daemon=True) for one in reviewers]
    for thread in threads:
        thread.start()
    half = options.reviewers * options.answers // 2
    while sum(len(one.confirmed) for one in reviewers) < half and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    back = server.kill_and_start()
    for thread in threads:
        thread.join()
    return reviewers, back


def lost_or_doubled(ledger: Ledger, reviewers: list[Reviewer]) -> dict[str, int]:
    """Every confirmed answer is one vote or comparison that says so; nobody has two on a thing; none was never sent."""
    names = [one.name for one in reviewers]
    with ledger.transaction() as connection:
        asks = {row.id: row for row in connection.execute(select(Ask).where(Ask.person.in_(names)))}
        votes = connection.execute(select(Vote).where(Vote.person.in_(names))).all()
        compared = connection.execute(select(Comparison).where(Comparison.person.in_(names))).all()
        pairs = connection.scalar(select(func.count()).select_from(Pair))
    stored = {("label", vote.id): vote.label for vote in votes}
    stored |= {("compare", one.id): one.choice for one in compared}
    confirmed = {ask: said for one in reviewers for ask, said in one.confirmed.items()}
    kept = [asks[ask] for ask in confirmed if asks[ask].repeat_of is None]
    counted = Counter[tuple[Any, ...]]((vote.attempt_id, vote.person) for vote in votes)
    counted.update((one.left_attempt, one.right_attempt, one.axis, one.person) for one in compared)
    return {
        "confirmed": len(confirmed),
        "votes": len(votes),
        "comparisons": len(compared),
        "pairs": pairs or 0,
        "lost": sum(stored.get((ask.kind, ask.vote_id or ask.comparison_id)) != meant(ask, confirmed) for ask in kept),
        "doubled": sum(count - 1 for count in counted.values()),
        "not_sent": len(votes) + len(compared) - len(kept),
    }


def meant(ask: Any, confirmed: dict[int, str]) -> str:
    """What was said of an ask, as it must stand on record: of the attempts, wherever on the screen they were."""
    said = confirmed[ask.id]
    return {"left": "right", "right": "left"}.get(said, said) if ask.swapped else said


def milliseconds(times: list[tuple[float, float]], away: tuple[float, float]) -> dict[str, float]:
    """Median and 99th percentile of requests while the server was there, without the crowd behind its restart; the
    longest of that crowd; how many the server was away for, and the longest of those."""
    over = [took for began, took in times if began <= away[1] and began + took >= away[0]]
    crowd = [took for began, took in times if away[1] < began <= away[1] + CROWD]
    here = [took for began, took in times if began > away[1] + CROWD or began + took < away[0]]
    found = np.percentile(np.array(here) * 1000, [50, 99])
    said = {"median": round(float(found[0]), 1), "p99": round(float(found[1]), 1), "count": len(here)}
    for name, some in (("crowd", crowd), ("over_restart", over)):
        said |= {name: len(some), f"longest_{name}": round(1000 * max(some, default=0.0), 1)}
    return said


# Where it lies


def filled(ledger: Ledger, options: Any) -> float:
    """Fills an empty ledger and returns the seconds that it took; 0 where that was done before."""
    with ledger.transaction() as connection:
        there = [connection.scalar(select(func.count()).select_from(table)) for table in (Attempt, Vote, Item)]
    if there == [options.attempts, options.votes, options.attempts]:
        return 0.0
    if any(there):
        raise SystemExit(
            f"{ledger.where} holds {there} attempts, votes and items: not what was asked for, or half made"
        )
    began = time.monotonic()
    fill(ledger, options.attempts, options.votes, options.seed)
    return time.monotonic() - began


@contextmanager
def on_sqlite(kept: Path, scratch: Path, options: Any) -> Iterator[tuple[str, float]]:
    """A fresh copy of the filled ledger, and the seconds that filling took."""
    with Ledger.open(kept / "sqlite", kept / "images") as ledger:
        seconds = filled(ledger, options)
    (scratch / "run").mkdir()
    shutil.copyfile(kept / "sqlite" / DATABASE, scratch / "run" / DATABASE)  # closed, so all of it is in the one file
    yield str(scratch / "run"), seconds


@contextmanager
def on_postgres(kept: Path, _scratch: Path, options: Any) -> Iterator[tuple[str, float]]:
    """The same in a PostgreSQL server on loopback, with its usual settings. Debian's package suffices."""
    import psycopg

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        raise SystemExit("there is no PostgreSQL here (Debian: apt-get install postgresql)")
    root, folder = os.geteuid() == 0, kept.resolve() / "pg"
    if not folder.exists():
        folder.mkdir()
        if root:
            kept.chmod(0o755)
            shutil.chown(folder, "postgres")
    port, data = free_port(), str(folder / "data")

    def run(program: str, *words: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if root else []
        command = [*prefix, str(programs[-1].with_name(program)), "-D", data, *words]
        done = subprocess.run(command, capture_output=True, cwd="/tmp")
        if done.returncode:
            raise SystemExit(f"{program}: {done.stderr.decode()[-300:]}")

    if not (folder / "data").exists():
        run("initdb", "-U", "goodeye", "-A", "trust", "-E", "UTF8")
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
    run("pg_ctl", "-w", "-t", "300", "-l", str(folder / "log"), "-o", settings, "start")
    url = f"postgresql://goodeye@127.0.0.1:{port}"
    try:
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'filled'").fetchone() is None:
                connection.execute("CREATE DATABASE filled")
            with Ledger.open(f"{url}/filled", kept / "images") as ledger:
                seconds = filled(ledger, options)
            connection.execute("DROP DATABASE IF EXISTS run")
            connection.execute("CREATE DATABASE run TEMPLATE filled")
        yield f"{url}/run", seconds
    finally:
        run("pg_ctl", "-w", "-t", "300", "-m", "fast", "stop")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(place: str, images: Path, options: Any) -> dict[str, Any]:
    """Serves the filled ledger and has it reviewed."""
    with Ledger.open(place, images) as ledger:
        server = Server(place, images, free_port())
        first = server.start()
        try:
            reviewers, back = review(ledger, server, options)
        finally:
            server.stop(signal.SIGTERM)
        names = ("next_item", "pictures", "stored")
        times = {name: [one for who in reviewers for one in getattr(who, name)] for name in names}
        with ledger.transaction() as connection:
            rows = {
                table.__tablename__: connection.scalar(select(func.count()).select_from(table))
                for table in (Attempt, Vote, Comparison)
            }
        return {
            "database": ledger.engine.dialect.name,
            "rows": rows,
            "next_item_ms": milliseconds(times["next_item"], server.away),
            "picture_ms": milliseconds(times["pictures"], server.away),
            "vote_stored_ms": milliseconds(times["stored"], server.away),
            "server_processor_ms_a_request": round(1000 * server.spent / sum(map(len, times.values())), 2),
            "server_processor_ms_an_answer": round(1000 * server.spent / len(times["stored"]), 2),
            "sent_again": sum(one.repeated for one in reviewers),
            **lost_or_doubled(ledger, reviewers),
            "seconds": {"first_start": round(first, 1), "start_after_kill": round(back, 1)},
        }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = new_parser(__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--votes", type=int, help="there before; a fifth of the attempts if not given")
    parser.add_argument("--reviewers", type=int, default=32)
    parser.add_argument("--comparing", type=int, help="of them; a quarter if not given")
    parser.add_argument("--answers", type=int, default=60, help="of each reviewer")
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds that a person looks at a picture")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server started for this, not SQLite")
    parser.add_argument("--keep", type=Path, help="folder for the filled ledger, of either database, for the next time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.votes = options.attempts // 5 if options.votes is None else options.votes
    options.comparing = options.reviewers // 4 if options.comparing is None else options.comparing
    with tempfile.TemporaryDirectory(prefix="goodeye-review-") as folder:
        scratch = Path(folder)
        kept = options.keep or scratch
        kept.mkdir(parents=True, exist_ok=True)
        with (on_postgres if options.postgres else on_sqlite)(kept, scratch, options) as (place, seconds):
            result = measure(place, kept / "images", options)
    result["seconds"]["to_fill"] = round(seconds, 1)
    result = finish(result, options)
    if result["lost"] or result["doubled"] or result["not_sent"]:
        raise SystemExit("votes were lost, doubled or invented")
    return result


if __name__ == "__main__":
    main()
