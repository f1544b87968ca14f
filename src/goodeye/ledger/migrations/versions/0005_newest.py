"""The newest items of a label, a job, a run or a choice, and what came of each run, are found by indexes."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for column in ("label", "job", "run_id", "picked"):
        op.create_index(f"ix_items_{column}_attempt_id", "items", [column, "attempt_id"])
    op.create_index("ix_items_run_id_picked", "items", ["run_id", "picked", "votes"])
