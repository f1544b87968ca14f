"""The ledger: every image, brief, attempt, verdict, pick and run, written as it happens.

A picture's file is on disk, whole, before the one transaction that names it. So a process killed at any moment leaves
either a complete attempt or an unreferenced file, which `sweep` removes. Recording the same attempt again changes
nothing: whoever resumes may simply record. Several processes may write to one ledger.
"""

import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image as Picture
from sqlalchemy import Connection, Engine, Select, and_, delete, exists, select, text, update

import goodeye
from goodeye.errors import BadInput
from goodeye.interrupts import uninterrupted
from goodeye.ledger import schema
from goodeye.ledger.asks import Item
from goodeye.ledger.database import WRITING, no_ledger, plain_errors, postgres_engine, sqlite_engine, upgrade
from goodeye.ledger.opinions import beside, comparisons_in, store_comparison, store_vote, votes_in
from goodeye.ledger.rows import (
    AttemptRow,
    BriefRow,
    Choice,
    ComparisonRow,
    PickRow,
    RunRow,
    VerdictLike,
    VerdictRow,
    VoteRow,
)
from goodeye.ledger.schema import Attempt, Brief, Image, Pick, Run, Shown, Verdict
from goodeye.ledger.sql import (
    columns,
    insert_if_new,
    insert_row,
    of_run,
    portions,
    storable,
    upsert,
    without,
)
from goodeye.ledger.store import Encoded, Store, encode, encode_file, is_older, plain_os_errors

DEFAULT_FOLDER = "goodeye-ledger"
DATABASE = "ledger.db"
IMAGES = "images"
SWEEP_AGE = 60.0  # seconds: a younger unreferenced file may be one that its process is about to name
IMAGES_LOCK = 0x60_0D_E1F  # PostgreSQL advisory lock: shared by those who name files, alone for who sweeps


@dataclass(frozen=True)
class Ledger:
    """Where everything is on record. Open it with `Ledger.open`; use it in a `with`, or close it.

    Every method raises BadInput where the disk is full, the folder read-only, or the server gone. One object serves
    one process; other processes open their own.
    """

    where: str
    engine: Engine
    store: Store
    turn: threading.Lock = field(default_factory=threading.Lock)  # of the web app's threads, to write one by one

    @classmethod
    def open(cls, place: str | Path | None = None, images: str | Path | None = None, *, create: bool = True) -> Self:
        """Opens a folder (SQLite and the pictures inside it) or a postgresql:// URL, creating what is missing.

        place: default GOODEYE_LEDGER, else ./goodeye-ledger. images: the folder of the pictures; for a URL it must be
        named, here or in GOODEYE_IMAGES. create=False: a ledger that isn't there is BadInput. Raises BadInput for a
        ledger of a newer goodeye and for a place that cannot be used.
        """
        chosen = str(place or os.environ.get("GOODEYE_LEDGER") or DEFAULT_FOLDER)
        if "://" in chosen:
            ledger = cls._at_url(chosen, images or os.environ.get("GOODEYE_IMAGES"))
        else:
            ledger = cls._in_folder(Path(chosen), Path(images) if images else None, create)
        try:
            upgrade(ledger.engine, ledger.where, create=create)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def _in_folder(cls, folder: Path, images: Path | None, create: bool) -> Self:
        with plain_os_errors(folder):
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            elif not (folder / DATABASE).is_file():
                raise no_ledger(str(folder))
        return cls(str(folder), sqlite_engine(folder / DATABASE), Store(images or folder / IMAGES))

    @classmethod
    def _at_url(cls, url: str, images: str | Path | None) -> Self:
        if not images:
            raise BadInput(
                "A ledger in a database keeps its pictures in a folder of its own. Name that folder in GOODEYE_IMAGES."
            )
        engine = postgres_engine(url)
        return cls(engine.url.render_as_string(hide_password=True), engine, Store(Path(images)))

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # Runs

    def start_run(self, job: str, command: Mapping[str, Any], seed: int) -> int:
        """Records that a run has begun and returns its id. command: what was asked for, as JSON can hold it."""
        values = {
            "job": job,
            "command": dict(command),
            "seed": seed,
            "version": goodeye.__version__,
            "status": "running",
            "started": schema.now(),
        }
        with self._write() as connection:
            return insert_row(connection, Run, values)

    def resume_run(self, run_id: int) -> RunRow:
        """Marks the run as running again and returns it. Raises BadInput if the ledger has no such run."""
        self.run(run_id)
        self._set_status(run_id, "running", ended=None)
        return self.run(run_id)

    def finish_run(self, run_id: int, status: str = "done") -> None:
        """Records how the run ended: done, or stopped, to be resumed."""
        self._set_status(run_id, status, ended=schema.now())

    @contextmanager
    def on_record(self, run_id: int) -> Iterator[None]:
        """However the run ends within, the ledger says how: done, or stopped, to be resumed."""
        try:
            yield
        except BaseException:
            with suppress(BadInput):
                self.finish_run(run_id, "stopped")
            raise
        self.finish_run(run_id, "done")

    def _set_status(self, run_id: int, status: str, ended: Any) -> None:
        with self._write() as connection:
            connection.execute(update(Run).where(Run.id == run_id).values(status=status, ended=ended))

    def run(self, run_id: int) -> RunRow:
        """The run of that id. Raises BadInput if there is none."""
        rows = self._runs(select(*columns(Run)).where(Run.id == run_id))
        if not rows:
            raise BadInput(f"The ledger {self.where} has no run {run_id}. Name another run, or start a new one.")
        return rows[0]

    def runs(self, job: str | None = None) -> list[RunRow]:
        """All runs, or those of one job, oldest first."""
        query = select(*columns(Run)).order_by(Run.id)
        return self._runs(query if job is None else query.where(Run.job == job))

    def _runs(self, query: Select[Any]) -> list[RunRow]:
        with self._read() as connection:
            return [RunRow(**row) for row in connection.execute(query).mappings()]

    # Briefs

    def add_brief(
        self, run_id: int, key: str, content: Mapping[str, Any], product: Picture | bytes | None = None, job: str = ""
    ) -> int:
        """Records a brief and returns its id; a key that the run has already returns that brief's, unchanged.

        product: the picture that the brief starts from (a cut-out, a picture to edit or search by), kept as an image; a
        picture file's bytes are kept as they are.
        job: of the brief; default that of the run.
        """
        key = storable(key)
        known = select(Brief.id).where(Brief.run_id == run_id, Brief.key == key)
        found = self._first(known)
        if found is not None:
            return found
        picture = None if product is None else self._write_file(product)
        with self._write() as connection:
            values = {
                "run_id": run_id,
                "key": key,
                "job": job or connection.scalar(select(Run.job).where(Run.id == run_id)) or "",
                "content": dict(content),
                "product_sha": self._name_file(connection, picture) if picture else None,
            }
            return insert_row(connection, Brief, values, known)

    def briefs(self, run_id: int) -> list[BriefRow]:
        """The run's briefs in the order in which they were added."""
        query = select(Brief.id, Brief.key, Brief.content, Brief.product_sha).where(Brief.run_id == run_id)
        with self._read() as connection:
            return [BriefRow(**row) for row in connection.execute(query.order_by(Brief.id)).mappings()]

    # Attempts

    def record_attempt(
        self,
        brief_id: int,
        slot: int,
        number: int,
        seed: int,
        image: Picture | bytes | None,
        verdicts: Iterable[VerdictLike] = (),
        evals: int = 0,
        seconds: float = 0.0,
        *,
        shown: Sequence[Picture | bytes] = (),
        detail: Mapping[str, Any] | None = None,
    ) -> int:
        """Records one attempt with its verdicts, whole or not at all, and returns its id.

        number: which attempt at this slot. image: None for a try that came to no picture; bytes of a PNG, JPEG or WebP
        file are kept as they are. shown: the pictures of a row of several; without an image the first stands for all.
        evals: calls of the denoiser for it. seconds: its share of the batch's time. detail: what else is to be known,
        as JSON can hold it: a layout, a raw answer, why there is no picture.

        An attempt that is on record keeps its image and gains only verdicts of judges that it had none of. Raises
        ValueError for a score that is not a finite number, before anything is written.
        """
        said_by = [_verdict_values(verdict) for verdict in verdicts]
        known = select(Attempt.id).where(Attempt.brief_id == brief_id, Attempt.slot == slot, Attempt.number == number)
        new = self._first(known) is None
        row = [self._write_file(one) for one in shown] if new else []
        picture = self._write_file(image) if new and image is not None else next(iter(row), None)
        with self._write() as connection:
            found = connection.scalar(known)
            if found is None:
                values = {
                    "brief_id": brief_id,
                    "slot": slot,
                    "number": number,
                    "seed": seed,
                    "image_sha": self._name_file(connection, picture) if picture else None,
                    "evals": evals,
                    "seconds": seconds,
                    "created": schema.now(),
                    "detail": dict(detail or {}),
                }
                found = insert_row(connection, Attempt, values, known)
                for place, one in enumerate(row):
                    sha = self._name_file(connection, one)
                    insert_if_new(connection, Shown, {"attempt_id": found, "place": place, "image_sha": sha})
            for said in said_by:
                insert_if_new(connection, Verdict, {"attempt_id": found, **said})
        assert found is not None
        return found

    def attempts(self, run_id: int) -> list[AttemptRow]:
        """All attempts of a run with their verdicts, in the order of briefs, slots and numbers."""
        return self._attempts(of_run(run_id))

    def attempt(self, attempt_id: int) -> AttemptRow:
        """The attempt of that id. Raises BadInput if there is none."""
        rows = self._attempts(select(Attempt.id).where(Attempt.id == attempt_id))
        if not rows:
            raise BadInput(f"The ledger {self.where} has no attempt {attempt_id}. Name another one.")
        return rows[0]

    def _attempts(self, mine: Select[Any]) -> list[AttemptRow]:
        query = (
            select(*columns(Attempt), Brief.key.label("brief_key"))
            .join(Brief, Attempt.brief_id == Brief.id)
            .where(Attempt.id.in_(mine))
            .order_by(Attempt.brief_id, Attempt.slot, Attempt.number)
        )
        said = select(*columns(Verdict)).where(Verdict.attempt_id.in_(mine)).order_by(Verdict.id)
        pictures = select(Shown.attempt_id, Shown.image_sha).where(Shown.attempt_id.in_(mine)).order_by(Shown.place)
        verdicts, shown = defaultdict(list), defaultdict(list)
        with self._read() as connection:
            for row in connection.execute(said).mappings():
                verdicts[row["attempt_id"]].append(VerdictRow(**without(row, "id", "attempt_id")))
            for one in connection.execute(pictures):
                shown[one.attempt_id].append(one.image_sha)
            rows = connection.execute(query).mappings().all()
        return [
            AttemptRow(
                **without(row, "image_sha"),
                image_sha=row["image_sha"] or "",
                verdicts=verdicts[row["id"]],
                shown=tuple(shown[row["id"]]),
            )
            for row in rows
        ]

    # Picks

    def pick(self, brief_id: int, slot: int, attempt_id: int, kept: bool, why: str) -> int:
        """Records that an attempt was kept for its slot or rejected, and why; a later word replaces an earlier one.

        Raises ValueError if the attempt is not one at this slot of this brief.
        """
        values = {"brief_id": brief_id, "slot": slot, "attempt_id": attempt_id, "kept": kept, "why": why}
        keys = ("brief_id", "slot", "attempt_id")
        with self._write() as connection:
            of = connection.execute(select(Attempt.brief_id, Attempt.slot).where(Attempt.id == attempt_id)).first()
            if of is None or tuple(of) != (brief_id, slot):
                raise ValueError(f"attempt {attempt_id} is not one at slot {slot} of brief {brief_id}")
            query = upsert(connection.dialect.name)(Pick).values(values)
            query = query.on_conflict_do_update(index_elements=keys, set_={"kept": kept, "why": why})
            picked = "kept" if kept else "rejected"  # a later word is no new row, which the items would take in
            connection.execute(update(Item).where(Item.attempt_id == attempt_id).values(picked=picked))
            return connection.execute(query.returning(Pick.id)).scalar_one()

    def picks(self, run_id: int) -> list[PickRow]:
        """All picks of a run, in the order of briefs and slots."""
        query = (
            select(Pick.brief_id, Pick.slot, Pick.attempt_id, Pick.kept, Pick.why)
            .join(Brief, Pick.brief_id == Brief.id)
            .where(Brief.run_id == run_id)
            .order_by(Pick.brief_id, Pick.slot, Pick.attempt_id)
        )
        with self._read() as connection:
            return [PickRow(**row) for row in connection.execute(query).mappings()]

    # Votes

    def vote(
        self,
        attempt_id: int,
        person: str,
        label: str,
        axes: Mapping[str, float] | None = None,
        seconds: float = 0.0,
    ) -> int:
        """Records what a person said of an attempt and returns the vote's id. Every vote is kept, an earlier one too.

        axes: what the person scored beside the label. seconds: how long it took. Raises ValueError if the ledger has no
        such attempt, or for a score that is not a finite number.
        """
        with self._write() as connection:
            return store_vote(connection, attempt_id, person, label, axes, seconds)

    def votes(self, run_id: int | None = None) -> list[VoteRow]:
        """All votes, or those on one run's attempts, oldest first; without those of people who are set aside."""
        with self._read() as connection:
            return votes_in(connection, run_id)

    # Comparisons

    def compare(
        self,
        left_attempt: int,
        right_attempt: int,
        by: str,
        axis: str,
        choice: Choice,
        swapped: bool = False,
        *,
        version: str | None = None,
    ) -> int:
        """Records which of two attempts is better on one axis and returns the comparison's id.

        by: a person, or with its version a judge. Every word of a person is kept; of what a judge says of a pair in one
        order the first is. choice: the better attempt, wherever it was shown. swapped: the left attempt was shown at
        the right, or second. Raises ValueError for another choice, for an attempt beside itself, and for one that the
        ledger does not have.
        """
        with self._write() as connection:
            return store_comparison(connection, left_attempt, right_attempt, by, axis, choice, swapped, version=version)

    def comparisons(self, run_id: int | None = None) -> list[ComparisonRow]:
        """All comparisons, or those in which an attempt of one run stands on either side, oldest first; without those
        of people who are set aside."""
        with self._read() as connection:
            return comparisons_in(connection, *([] if run_id is None else [beside(run_id)]))

    # Image files

    def image_path(self, sha256: str) -> Path:
        """Where the picture's file is."""
        return self.store.find(sha256)

    def sweep(self, older_than: float = SWEEP_AGE) -> list[Path]:
        """Removes the files that no attempt and no brief names, unless written in the last `older_than` seconds.

        Such are left by a kill, and by who deletes rows by hand. Returns what was removed.
        """
        limit = schema.now().timestamp() - older_than
        naming = (Attempt.image_sha, Brief.product_sha, Shown.image_sha)
        named_by_none = and_(*(~exists().where(column == Image.sha256) for column in naming))
        if self._first(select(Image.sha256).where(named_by_none).limit(1)) is not None:
            with self._sweeping() as connection:
                connection.execute(delete(Image).where(named_by_none))
        with self._read() as connection:
            stray = _unnamed(self.store, connection, list(self.store.older_than(older_than)))
        removed = []
        for files in portions(stray):  # so that no writer waits long
            with self._sweeping() as connection:
                for file in _unnamed(self.store, connection, files):
                    if is_older(file, limit):
                        with plain_os_errors(self.store.folder):
                            file.unlink(missing_ok=True)
                        removed.append(file)
        return removed

    def _write_file(self, image: Picture | bytes) -> Encoded:
        picture = encode_file(image) if isinstance(image, bytes) else encode(image)
        self.store.write(picture)
        return picture

    def _name_file(self, connection: Connection, picture: Encoded) -> str:
        """Names the file in a row, in a transaction that no sweep runs beside; a file swept before it is rewritten."""
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": IMAGES_LOCK})
        if not self.store.path(picture.sha256, picture.format).exists():
            self.store.write(picture)
        values = {
            "sha256": picture.sha256,
            "format": picture.format,
            "width": picture.width,
            "height": picture.height,
            "bytes": len(picture.data),
        }
        insert_if_new(connection, Image, values)
        return picture.sha256

    # Transactions

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction, for who writes several things whole or not at all (by `goodeye.ledger.opinions`)."""
        return self._write()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to read with, for questions that no method here answers."""
        return self._read()

    @contextmanager
    def _sweeping(self) -> Iterator[Connection]:
        """A transaction beside which nobody names a file."""
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IMAGES_LOCK})
            yield connection

    def _first(self, query: Select[Any]) -> Any:
        with self._read() as connection:
            return connection.scalar(query)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with plain_errors(self.where), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that Ctrl-C does not cut: who is stopped can still write that it was."""
        with uninterrupted(), plain_errors(self.where), self.engine.execution_options(**WRITING).begin() as connection:
            yield connection


def _unnamed(store: Store, connection: Connection, files: Sequence[Path]) -> list[Path]:
    """Those of the files that no row names: strangers, half-written ones, and what a kill left."""
    found = []
    for some in portions(files):
        query = select(Image.sha256, Image.format).where(Image.sha256.in_([file.stem for file in some]))
        named = {store.path(*row) for row in connection.execute(query)}
        found += [file for file in some if file not in named]
    return found


def _verdict_values(verdict: VerdictLike) -> dict[str, Any]:
    for axis, score in verdict.scores.items():
        if not math.isfinite(score):
            raise ValueError(f"{verdict.judge} {verdict.version} scored {score} on {axis}: not a number to record")
    return {
        "judge": verdict.judge,
        "version": verdict.version,
        "label": verdict.label,
        "scores": {axis: float(score) for axis, score in verdict.scores.items()},
        "failures": list(verdict.failures),
    }
