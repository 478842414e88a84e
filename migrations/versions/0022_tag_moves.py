"""Moves of tags that wait for their time, tags whose SQL fails, and tag changes by person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tag_moves",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("rises", sa.Boolean(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", "profile_no", "level", name="pk_tag_moves"),
    )
    op.create_index("ix_tag_moves_due_at", "tag_moves", ["due_at"])
    op.create_table(
        "tag_failures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_tag_failures"),
    )
    op.create_index(
        "ix_tag_changes_profile_id_key_change_no", "tag_changes", ["profile_id", "key", "change_no"]
    )


def downgrade() -> None:
    op.drop_index("ix_tag_changes_profile_id_key_change_no", "tag_changes")
    op.drop_table("tag_failures")
    op.drop_table("tag_moves")
