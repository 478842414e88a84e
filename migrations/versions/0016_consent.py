"""What people agreed to over time, with evidence; segments that ask for consent follow it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "consent_statements",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint(
            "node_id", "purpose", "at", "message_id", "source_number", name="pk_consent_statements"
        ),
    )
    # Until now consent only filtered what was pulled: now it decides who is in.
    op.execute(
        """UPDATE segments SET evaluated_version = version - 1
            WHERE consent IS NOT NULL AND evaluated_version = version"""
    )


def downgrade() -> None:
    op.drop_table("consent_statements")
