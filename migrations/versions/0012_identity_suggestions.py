"""People who may be one, for somebody to decide, and the searches for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity_suggestions",
        sa.Column("suggestion_no", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("suggestion_id", sa.Text(), nullable=False),
        sa.Column("node_a", sa.BigInteger(), nullable=False),
        sa.Column("node_b", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(), nullable=False),
        sa.Column("proofs", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        _now("found_at"),
        _now("seen_at"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decision_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("suggestion_no", name=op.f("pk_identity_suggestions")),
        sa.UniqueConstraint("suggestion_id", name=op.f("uq_identity_suggestions_suggestion_id")),
        sa.UniqueConstraint("node_a", "node_b", name=op.f("uq_identity_suggestions_node_a_node_b")),
        *(
            sa.ForeignKeyConstraint(
                [side],
                ["nodes.node_id"],
                name=op.f(f"fk_identity_suggestions_{side}"),
                ondelete="CASCADE",
            )
            for side in ("node_a", "node_b")
        ),
    )
    op.create_index(op.f("ix_identity_suggestions_node_b"), "identity_suggestions", ["node_b"])
    op.create_index(
        op.f("ix_identity_suggestions_status_score_suggestion_no"),
        "identity_suggestions",
        ["status", "score", "suggestion_no"],
    )
    op.create_table(
        "identity_suggestion_runs",
        sa.Column("run_no", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        _now("requested_at"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("people", sa.BigInteger(), nullable=True),
        sa.Column("pairs", sa.BigInteger(), nullable=True),
        sa.Column("suggestions", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_no", name=op.f("pk_identity_suggestion_runs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_identity_suggestion_runs_run_id")),
    )
    op.create_index(
        op.f("ix_identity_suggestion_runs_state"), "identity_suggestion_runs", ["state"]
    )


def _now(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def downgrade() -> None:
    op.drop_table("identity_suggestion_runs")
    op.drop_table("identity_suggestions")
