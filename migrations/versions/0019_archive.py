"""Days in the archive and the files that they consist of; how long events are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "archive_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("removals", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_archive_days")),
    )
    op.create_table(
        "archive_parts",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("first_node", sa.BigInteger(), nullable=True),
        sa.Column("last_node", sa.BigInteger(), nullable=True),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_archive_parts")),
        sa.ForeignKeyConstraint(["day"], ["archive_days.day"], name=op.f("fk_archive_parts_day")),
    )
    op.create_index(op.f("ix_archive_parts_day"), "archive_parts", ["day"])
    op.create_table(
        "retention_rules",
        sa.Column("rule_no", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=True),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("rule_no", name=op.f("pk_retention_rules")),
    )
    op.create_table(
        "retention_removals",
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source_number", "event", name=op.f("pk_retention_removals")),
    )


def downgrade() -> None:
    op.drop_table("retention_removals")
    op.drop_table("retention_rules")
    op.drop_table("archive_parts")
    op.drop_table("archive_days")
