"""How far jobs over everybody have come, and what replays came to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("identity_rules", sa.Column("components_total", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_nodes_quarantined", "nodes", ["node_id"], postgresql_where=sa.text("quarantined")
    )
    op.create_table(
        "identity_tallies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name="pk_identity_tallies"),
    )
    op.create_table(
        "analytics_rebuilds",
        sa.Column("rebuild_no", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "asked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")
        ),
        sa.PrimaryKeyConstraint("rebuild_no", name="pk_analytics_rebuilds"),
    )
    op.create_table(
        "analytics_rebuild_runs",
        sa.Column("rebuild_no", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("batches_total", sa.BigInteger(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("rebuild_no", "place", name="pk_analytics_rebuild_runs"),
    )


def downgrade() -> None:
    op.drop_table("analytics_rebuild_runs")
    op.drop_table("analytics_rebuilds")
    op.drop_table("identity_tallies")
    op.drop_index("ix_nodes_quarantined", "nodes")
    op.drop_column("identity_rules", "components_total")
