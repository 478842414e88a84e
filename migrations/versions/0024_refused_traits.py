"""How many values were refused of whom, because there are too many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Count from now on: what was refused before is in no table."""
    op.create_table(
        "refused_traits",
        sa.Column(
            "node_id",
            sa.BigInteger,
            sa.ForeignKey("nodes.node_id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("registers", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Forget the counts."""
    op.drop_table("refused_traits")
