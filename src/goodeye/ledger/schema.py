"""The tables of the ledger. A change here needs a new file in migrations/versions and a new REVISION."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = "0009"  # of the newest migration; a ledger with a higher one was written by a newer goodeye


def now() -> datetime:
    """The present moment, with its time zone (UTC)."""
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite forgets the zone, and PostgreSQL tells times in the zone that the server is set to."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Names every constraint, so that a later migration can change it in any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        int: BigInteger().with_variant(Integer(), "sqlite"),  # 64 bits in either
        float: Double(),
        str: Text(),
        datetime: Moment(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
    }


class Image(Base):
    """A picture file, named by the SHA-256 of its bytes."""

    __tablename__ = "images"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    format: Mapped[str] = mapped_column(String(8))
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int]


class Run(Base):
    """One command's work from start to end, over as many resumptions as it takes."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str]
    command: Mapped[dict[str, Any]]
    seed: Mapped[int]
    version: Mapped[str]  # of goodeye
    status: Mapped[str]  # running, done, stopped
    started: Mapped[datetime]
    ended: Mapped[datetime | None]


class Brief(Base):
    """What is wanted: one product (or concept, query, instruction) of a run."""

    __tablename__ = "briefs"
    __table_args__ = (UniqueConstraint("run_id", "key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    key: Mapped[str]
    job: Mapped[str]
    content: Mapped[dict[str, Any]]
    product_sha: Mapped[str | None] = mapped_column(ForeignKey("images.sha256"), index=True)


class Attempt(Base):
    """One try at one slot of a brief, with its seed and cost (evals: calls of the denoiser; seconds: its share).

    image_sha: its picture, the first of a row, or None for a try that came to none. detail: what else there is to say.
    """

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("brief_id", "slot", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    brief_id: Mapped[int] = mapped_column(ForeignKey("briefs.id"))
    slot: Mapped[int]
    number: Mapped[int]
    seed: Mapped[int]
    image_sha: Mapped[str | None] = mapped_column(ForeignKey("images.sha256"), index=True)
    evals: Mapped[int]
    seconds: Mapped[float]
    created: Mapped[datetime]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default="{}")


class Shown(Base):
    """One picture of an attempt that is a row of several, such as a search system's answer, at its place from 0."""

    __tablename__ = "shown"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    image_sha: Mapped[str] = mapped_column(ForeignKey("images.sha256"), index=True)


class Verdict(Base):
    """What one judge, in one version, said of one attempt."""

    __tablename__ = "verdicts"
    __table_args__ = (UniqueConstraint("attempt_id", "judge", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"))
    judge: Mapped[str]
    version: Mapped[str]
    label: Mapped[str]
    scores: Mapped[dict[str, Any]]
    failures: Mapped[list[Any]]


class Pick(Base):
    """An attempt kept for its slot or rejected, and why."""

    __tablename__ = "picks"
    __table_args__ = (UniqueConstraint("brief_id", "slot", "attempt_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    brief_id: Mapped[int] = mapped_column(ForeignKey("briefs.id"))
    slot: Mapped[int]
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    kept: Mapped[bool]
    why: Mapped[str]


class Vote(Base):
    """What a person said of one attempt."""

    __tablename__ = "votes"
    __table_args__ = (Index("ix_votes_person_attempt_id", "person", "attempt_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    person: Mapped[str]
    label: Mapped[str]
    axes: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    created: Mapped[datetime]
    chosen: Mapped[str] = mapped_column(default="")  # why the person was asked: random, unsure; "" where unknown


class Comparison(Base):
    """Which of two attempts a person, or a judge in one version, chose on one axis (`swapped`: shown right to left).

    A judge says one thing of a pair on an axis in an order; people's words are all kept.
    """

    __tablename__ = "comparisons"
    __table_args__ = (
        UniqueConstraint(
            "left_attempt", "right_attempt", "judge", "version", "axis", "swapped", name="uq_comparisons_judged"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    left_attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    right_attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    axis: Mapped[str]
    choice: Mapped[str]
    swapped: Mapped[bool]
    created: Mapped[datetime]
    person: Mapped[str | None]  # None for a judge
    judge: Mapped[str | None]  # None for a person
    version: Mapped[str | None]  # of the judge
