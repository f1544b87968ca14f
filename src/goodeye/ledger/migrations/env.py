"""Runs the migrations on the connection that goodeye.ledger.database.upgrade hands over."""

from alembic import context

from goodeye.ledger.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
