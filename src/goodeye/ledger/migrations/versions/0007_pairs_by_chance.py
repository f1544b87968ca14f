"""Pairs say whether chance alone chose them, and those on which people differ are found among the begun ones."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("pairs", sa.Column("chosen", sa.Text(), nullable=False, server_default=""))
    op.add_column("pairs", sa.Column("split", sa.Double(), nullable=False, server_default="0"))
    op.drop_index("ix_pairs_answers", "pairs")
    op.create_index("ix_pairs_answers", "pairs", ["answers", "split", "id"])
