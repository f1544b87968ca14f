"""The random order of what has so many votes, so that what has all of them is not stepped over."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for name, of in (("ix_items_shuffle", []), ("ix_items_run_id_shuffle", ["run_id"])):
        op.drop_index(name, "items")
        op.create_index(name, "items", [*of, "shuffle"])
    op.create_index("ix_items_votes_shuffle", "items", ["votes", "shuffle"])
    op.create_index("ix_items_run_id_votes_shuffle", "items", ["run_id", "votes", "shuffle"])
