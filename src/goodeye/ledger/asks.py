"""The tables behind the web app in which people vote: what was asked of whom, and what is known of each attempt.

They are tables of the ledger like those of schema.py: a change here needs a migration and a new REVISION there.
"""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from goodeye.ledger.schema import Base


class Pair(Base):
    """Two attempts to be compared on one axis; `answers` counts the people who did, of whom the share `split` says
    another thing than most. chosen: random where chance alone has drawn it, so that it tells fairly of a judge."""

    __tablename__ = "pairs"
    __table_args__ = (
        UniqueConstraint("left_attempt", "right_attempt", "axis"),
        Index("ix_pairs_answers", "answers", "split", "id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    left_attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"))  # the smaller id
    right_attempt: Mapped[int] = mapped_column(ForeignKey("attempts.id"), index=True)
    axis: Mapped[str]
    answers: Mapped[int]
    split: Mapped[float] = mapped_column(default=0.0)
    chosen: Mapped[str] = mapped_column(default="")


class Ask(Base):
    """One picture or pair put before one person. An ask is answered once, so a vote is stored once.

    outcome: "" while open, then answered, skipped, flagged, undone, or lapsed where the person went away. chosen: why
    this one: unsure, random or repeat. A repeat measures the person: its answer stays here and makes no vote.
    """

    __tablename__ = "asks"
    __table_args__ = (
        Index("ix_asks_attempt_id_person", "attempt_id", "person"),
        Index("ix_asks_pair_id_person", "pair_id", "person"),
        Index("ix_asks_person_answered", "person", "outcome", "kind", "answered"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # label, compare
    person: Mapped[str]
    attempt_id: Mapped[int | None] = mapped_column(ForeignKey("attempts.id"))
    pair_id: Mapped[int | None] = mapped_column(ForeignKey("pairs.id"))
    chosen: Mapped[str]
    repeat_of: Mapped[int | None] = mapped_column(ForeignKey("asks.id"), index=True)
    swapped: Mapped[bool]  # whether the pair's right attempt is shown on the left
    handed: Mapped[datetime]
    answered: Mapped[datetime | None]
    outcome: Mapped[str]
    answer: Mapped[str]
    note: Mapped[str]
    seconds: Mapped[float]
    vote_id: Mapped[int | None] = mapped_column(ForeignKey("votes.id"), index=True)
    comparison_id: Mapped[int | None] = mapped_column(ForeignKey("comparisons.id"), index=True)


class Person(Base):
    """Someone whose votes are set aside, or were: kept for ever, and counted only while `aside` is false."""

    __tablename__ = "people"
    name: Mapped[str] = mapped_column(primary_key=True)
    aside: Mapped[bool]
    why: Mapped[str]
    decided_by: Mapped[str]
    decided: Mapped[datetime]


class Session(Base):
    """A browser that signed in. The cookie's own value is not kept, only a SHA-256 of it and the password."""

    __tablename__ = "sessions"
    token_sha: Mapped[str] = mapped_column(String(64), primary_key=True)
    person: Mapped[str]
    created: Mapped[datetime]


class Identity(Base):
    """The ledger's own key, drawn when its tables were made: numbers of asks are small and alike in every ledger."""

    __tablename__ = "identity"
    key: Mapped[str] = mapped_column(String(32), primary_key=True)


class Item(Base):
    """What is known of one attempt, drawn together so that a million can be filtered, sorted and handed out."""

    __tablename__ = "items"
    __table_args__ = (
        Index("ix_items_votes_priority", "votes", "priority", "attempt_id"),
        Index("ix_items_shuffle", "shuffle"),
        Index("ix_items_votes_shuffle", "votes", "shuffle"),
        Index("ix_items_run_id_votes", "run_id", "votes", "priority", "attempt_id"),
        Index("ix_items_run_id_shuffle", "run_id", "shuffle"),
        Index("ix_items_run_id_votes_shuffle", "run_id", "votes", "shuffle"),
        Index("ix_items_run_id_picked", "run_id", "picked", "votes"),
        Index("ix_items_label_attempt_id", "label", "attempt_id"),
        Index("ix_items_job_attempt_id", "job", "attempt_id"),
        Index("ix_items_run_id_attempt_id", "run_id", "attempt_id"),
        Index("ix_items_picked_attempt_id", "picked", "attempt_id"),
        Index("ix_items_score", "score", "attempt_id"),
        Index("ix_items_unsure", "unsure", "attempt_id"),
        Index("ix_items_run_id_score", "run_id", "score", "attempt_id"),
        Index("ix_items_job_score", "job", "score", "attempt_id"),
        Index("ix_items_label_score", "label", "score", "attempt_id"),
        Index("ix_items_vote_score", "vote", "score", "attempt_id"),
        Index("ix_items_picked_score", "picked", "score", "attempt_id"),
        Index(
            "ix_items_disagreement",
            "disagreement",
            "attempt_id",
            sqlite_where=text("votes > 0"),
            postgresql_where=text("votes > 0"),
        ),
        Index(
            "ix_items_flags",
            "flags",
            "attempt_id",
            sqlite_where=text("flags > 0"),
            postgresql_where=text("flags > 0"),
        ),
    )
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    job: Mapped[str]
    label: Mapped[str]  # of the first judge's verdict; "" without one
    score: Mapped[float]  # its main axis; -1 without one
    unsure: Mapped[float]  # 0 sure to 1 even
    disagreement: Mapped[float]  # the share of votes that name another label than the judge
    priority: Mapped[float]
    votes: Mapped[int]  # of people who are not set aside
    vote: Mapped[str]  # the label that most of them gave
    flags: Mapped[int]
    picked: Mapped[str]  # kept, rejected, or ""
    shuffle: Mapped[int]  # its place in an order that is fixed and random


class Mark(Base):
    """How far the items have taken in a table: the id of its last row."""

    __tablename__ = "marks"
    source: Mapped[str] = mapped_column(primary_key=True)
    upto: Mapped[int]
