"""Write keys that can be disabled and run out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("write_keys", sa.Column("disabled_at", sa.DateTime(timezone=True)))
    op.add_column("write_keys", sa.Column("ends_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("write_keys", "ends_at")
    op.drop_column("write_keys", "disabled_at")
