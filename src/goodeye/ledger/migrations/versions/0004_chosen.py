"""A vote says why its picture was put before the person; a person's answers and a run's items are found by indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("votes", sa.Column("chosen", sa.Text(), nullable=False, server_default=""))
    op.execute(
        "UPDATE votes SET chosen = (SELECT asks.chosen FROM asks WHERE asks.vote_id = votes.id)"
        " WHERE id IN (SELECT vote_id FROM asks WHERE vote_id IS NOT NULL)"
    )
    op.drop_index("ix_asks_person_outcome", "asks")
    op.create_index("ix_items_run_id_votes", "items", ["run_id", "votes", "priority", "attempt_id"])
    op.create_index("ix_items_run_id_shuffle", "items", ["run_id", "shuffle", "votes"])
    op.create_index("ix_asks_person_answered", "asks", ["person", "outcome", "kind", "answered"])
