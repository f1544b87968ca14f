"""The tables behind the web app in which people vote."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "pairs",
        sa.Column("id", INT, nullable=False),
        sa.Column("left_attempt", INT, nullable=False),
        sa.Column("right_attempt", INT, nullable=False),
        sa.Column("axis", sa.Text(), nullable=False),
        sa.Column("answers", INT, nullable=False),
        sa.ForeignKeyConstraint(["left_attempt"], ["attempts.id"], name=op.f("fk_pairs_left_attempt_attempts")),
        sa.ForeignKeyConstraint(["right_attempt"], ["attempts.id"], name=op.f("fk_pairs_right_attempt_attempts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairs")),
        sa.UniqueConstraint(
            "left_attempt", "right_attempt", "axis", name=op.f("uq_pairs_left_attempt_right_attempt_axis")
        ),
    )
    op.create_index(op.f("ix_pairs_answers"), "pairs", ["answers"])
    op.create_index(op.f("ix_pairs_right_attempt"), "pairs", ["right_attempt"])
    op.create_table(
        "asks",
        sa.Column("id", INT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("attempt_id", INT, nullable=True),
        sa.Column("pair_id", INT, nullable=True),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("repeat_of", INT, nullable=True),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("handed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("vote_id", INT, nullable=True),
        sa.Column("comparison_id", INT, nullable=True),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_asks_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name=op.f("fk_asks_pair_id_pairs")),
        sa.ForeignKeyConstraint(["repeat_of"], ["asks.id"], name=op.f("fk_asks_repeat_of_asks")),
        sa.ForeignKeyConstraint(["vote_id"], ["votes.id"], name=op.f("fk_asks_vote_id_votes")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_asks_comparison_id_comparisons")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asks")),
    )
    op.create_index(op.f("ix_asks_attempt_id_person"), "asks", ["attempt_id", "person"])
    op.create_index(op.f("ix_asks_comparison_id"), "asks", ["comparison_id"])
    op.create_index(op.f("ix_asks_pair_id_person"), "asks", ["pair_id", "person"])
    op.create_index(op.f("ix_asks_person_outcome"), "asks", ["person", "outcome"])
    op.create_index(op.f("ix_asks_repeat_of"), "asks", ["repeat_of"])
    op.create_index(op.f("ix_asks_vote_id"), "asks", ["vote_id"])
    op.create_table(
        "people",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("aside", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_people")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_sha", sa.String(length=64), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_sha", name=op.f("pk_sessions")),
    )
    op.create_table(
        "items",
        sa.Column("attempt_id", INT, nullable=False),
        sa.Column("run_id", INT, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("unsure", sa.Double(), nullable=False),
        sa.Column("disagreement", sa.Double(), nullable=False),
        sa.Column("priority", sa.Double(), nullable=False),
        sa.Column("votes", INT, nullable=False),
        sa.Column("vote", sa.Text(), nullable=False),
        sa.Column("flags", INT, nullable=False),
        sa.Column("picked", sa.Text(), nullable=False),
        sa.Column("shuffle", INT, nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_items_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_items_run_id_runs")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_items")),
    )
    op.create_index(
        op.f("ix_items_disagreement"),
        "items",
        ["disagreement", "attempt_id"],
        sqlite_where=sa.text("votes > 0"),
        postgresql_where=sa.text("votes > 0"),
    )
    op.create_index(
        op.f("ix_items_flags"),
        "items",
        ["flags", "attempt_id"],
        sqlite_where=sa.text("flags > 0"),
        postgresql_where=sa.text("flags > 0"),
    )
    op.create_index(op.f("ix_items_job_score"), "items", ["job", "score", "attempt_id"])
    op.create_index(op.f("ix_items_label_score"), "items", ["label", "score", "attempt_id"])
    op.create_index(op.f("ix_items_picked_score"), "items", ["picked", "score", "attempt_id"])
    op.create_index(op.f("ix_items_run_id_score"), "items", ["run_id", "score", "attempt_id"])
    op.create_index(op.f("ix_items_score"), "items", ["score", "attempt_id"])
    op.create_index(op.f("ix_items_shuffle"), "items", ["shuffle", "votes"])
    op.create_index(op.f("ix_items_unsure"), "items", ["unsure", "attempt_id"])
    op.create_index(op.f("ix_items_vote_score"), "items", ["vote", "score", "attempt_id"])
    op.create_index(op.f("ix_items_votes_priority"), "items", ["votes", "priority", "attempt_id"])
    op.create_table(
        "marks",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("upto", INT, nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_marks")),
    )
