"""What a person has voted on, in an index: PostgreSQL reads all votes for it otherwise, each time."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("ix_votes_person_attempt_id", "votes", ["person", "attempt_id"])
