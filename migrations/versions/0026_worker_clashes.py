"""What ran against a constraint in a worker, and what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table of few rows: workers have no port, so the api shows what they counted."""
    op.create_table(
        "worker_clashes",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column(
            "last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("rule", "outcome", name="pk_worker_clashes"),
    )


def downgrade() -> None:
    """Nothing hangs on it."""
    op.drop_table("worker_clashes")
