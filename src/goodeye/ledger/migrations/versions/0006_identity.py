"""A ledger has a random key of its own, so that an answer that was meant for another one is known as such."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    identity = op.create_table(
        "identity",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_identity")),
    )
    op.bulk_insert(identity, [{"key": secrets.token_hex(16)}])
