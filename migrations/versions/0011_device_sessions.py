"""Each event says which link it made: who was authenticated on a device, and when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("link_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "link_id")
