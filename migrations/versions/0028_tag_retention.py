"""Up to where the history of tag values has been cut."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No row: nothing was cut, all of it is known."""
    op.create_table(
        "tag_horizon",
        sa.Column("head_no", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("dropped_until", sa.BigInteger(), nullable=False),
        sa.Column("known_from", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("head_no", name="pk_tag_horizon"),
        sa.CheckConstraint("head_no = 1", name="ck_tag_horizon_one_row"),
    )


def downgrade() -> None:
    """What was cut stays cut."""
    op.drop_table("tag_horizon")
