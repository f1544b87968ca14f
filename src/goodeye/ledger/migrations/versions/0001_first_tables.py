"""The first tables: images, runs, briefs, attempts, verdicts, picks, votes, comparisons."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("width", INT, nullable=False),
        sa.Column("height", INT, nullable=False),
        sa.Column("bytes", INT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_images")),
    )
    op.create_table(
        "runs",
        sa.Column("id", INT, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("seed", INT, nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "briefs",
        sa.Column("id", INT, nullable=False),
        sa.Column("run_id", INT, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("product_sha", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["product_sha"], ["images.sha256"], name=op.f("fk_briefs_product_sha_images")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_briefs_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_briefs")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_briefs_run_id_key")),
    )
    op.create_index(op.f("ix_briefs_product_sha"), "briefs", ["product_sha"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", INT, nullable=False),
        sa.Column("brief_id", INT, nullable=False),
        sa.Column("slot", INT, nullable=False),
        sa.Column("number", INT, nullable=False),
        sa.Column("seed", INT, nullable=False),
        sa.Column("image_sha", sa.String(length=64), nullable=False),
        sa.Column("evals", INT, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["brief_id"], ["briefs.id"], name=op.f("fk_attempts_brief_id_briefs")),
        sa.ForeignKeyConstraint(["image_sha"], ["images.sha256"], name=op.f("fk_attempts_image_sha_images")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("brief_id", "slot", "number", name=op.f("uq_attempts_brief_id_slot_number")),
    )
    op.create_index(op.f("ix_attempts_image_sha"), "attempts", ["image_sha"], unique=False)
    op.create_table(
        "comparisons",
        sa.Column("id", INT, nullable=False),
        sa.Column("left_attempt", INT, nullable=False),
        sa.Column("right_attempt", INT, nullable=False),
        sa.Column("judge_or_person", sa.Text(), nullable=False),
        sa.Column("axis", sa.Text(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["left_attempt"], ["attempts.id"], name=op.f("fk_comparisons_left_attempt_attempts")),
        sa.ForeignKeyConstraint(["right_attempt"], ["attempts.id"], name=op.f("fk_comparisons_right_attempt_attempts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index(op.f("ix_comparisons_left_attempt"), "comparisons", ["left_attempt"], unique=False)
    op.create_index(op.f("ix_comparisons_right_attempt"), "comparisons", ["right_attempt"], unique=False)
    op.create_table(
        "picks",
        sa.Column("id", INT, nullable=False),
        sa.Column("brief_id", INT, nullable=False),
        sa.Column("slot", INT, nullable=False),
        sa.Column("attempt_id", INT, nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_picks_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["brief_id"], ["briefs.id"], name=op.f("fk_picks_brief_id_briefs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_picks")),
        sa.UniqueConstraint("brief_id", "slot", "attempt_id", name=op.f("uq_picks_brief_id_slot_attempt_id")),
    )
    op.create_index(op.f("ix_picks_attempt_id"), "picks", ["attempt_id"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", INT, nullable=False),
        sa.Column("attempt_id", INT, nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_verdicts_attempt_id_attempts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint("attempt_id", "judge", "version", name=op.f("uq_verdicts_attempt_id_judge_version")),
    )
    op.create_table(
        "votes",
        sa.Column("id", INT, nullable=False),
        sa.Column("attempt_id", INT, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("axes", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_votes_attempt_id_attempts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_votes")),
    )
    op.create_index(op.f("ix_votes_attempt_id"), "votes", ["attempt_id"], unique=False)
