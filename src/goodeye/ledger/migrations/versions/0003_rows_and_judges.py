"""Attempts of several pictures or of none, with details; who compared is a person, or a judge in one version."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JUDGED = ["left_attempt", "right_attempt", "judge", "version", "axis", "swapped"]


def upgrade() -> None:
    op.create_table(
        "shown",
        sa.Column("attempt_id", INT, nullable=False),
        sa.Column("place", INT, nullable=False),
        sa.Column("image_sha", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_shown_attempt_id_attempts")),
        sa.ForeignKeyConstraint(["image_sha"], ["images.sha256"], name=op.f("fk_shown_image_sha_images")),
        sa.PrimaryKeyConstraint("attempt_id", "place", name=op.f("pk_shown")),
    )
    op.create_index(op.f("ix_shown_image_sha"), "shown", ["image_sha"])
    with op.batch_alter_table("attempts") as table:
        table.alter_column("image_sha", existing_type=sa.String(length=64), nullable=True)
        table.add_column(sa.Column("detail", sa.JSON(), nullable=False, server_default="{}"))
    for name in ("person", "judge", "version"):
        op.add_column("comparisons", sa.Column(name, sa.Text(), nullable=True))
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE comparisons SET person = judge_or_person"))
    _name_judges(connection)
    with op.batch_alter_table("comparisons") as table:
        table.drop_column("judge_or_person")
        table.create_unique_constraint("uq_comparisons_judged", JUDGED)


def _name_judges(connection: Any) -> None:
    """Until now a judge was written as its name and version with a space between. What it said twice stays as it is."""
    first = sa.text(
        "UPDATE comparisons SET person = NULL, judge = :judge, version = :version WHERE id IN ("
        " SELECT min(id) FROM comparisons WHERE judge_or_person = :written"
        " AND id NOT IN (SELECT comparison_id FROM asks WHERE comparison_id IS NOT NULL)"
        " GROUP BY left_attempt, right_attempt, axis, swapped)"
    )
    for judge, version in connection.execute(sa.text("SELECT DISTINCT judge, version FROM verdicts")).all():
        connection.execute(first, {"judge": judge, "version": version, "written": f"{judge} {version}"})
