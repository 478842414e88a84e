"""Jobs of privacy, what they look for while they run, and the tombstones they leave."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "privacy_jobs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, server_default=sa.text("'queued'")),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("identifiers", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column(
            "receipt",
            postgresql.JSONB(),
            nullable=False,
            server_default=sa.text("'{}'"),
        ),
        sa.Column("waiting", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archive_removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_privacy_jobs"),
    )
    op.create_index(
        "ix_privacy_jobs_requested_at_job_id", "privacy_jobs", ["requested_at", "job_id"]
    )
    op.create_index(
        "ix_privacy_jobs_open",
        "privacy_jobs",
        ["requested_at"],
        postgresql_where=sa.text("status <> 'done'"),
    )
    op.create_table(
        "privacy_traces",
        sa.Column("trace_no", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trace_no", name="pk_privacy_traces"),
    )
    op.create_index("ix_privacy_traces_job_id", "privacy_traces", ["job_id"])
    op.create_table(
        "privacy_tombstones",
        sa.Column("identifier_hash", sa.LargeBinary(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("suppressed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("identifier_hash", name="pk_privacy_tombstones"),
    )
    op.create_index(
        "ix_privacy_tombstones_suppressed_by",
        "privacy_tombstones",
        ["suppressed_by"],
        postgresql_where=sa.text("suppressed_by IS NOT NULL"),
    )
    op.add_column("privacy_requests", sa.Column("job_id", sa.Text(), nullable=True))
    op.create_index("ix_privacy_requests_job_id", "privacy_requests", ["job_id"])


def downgrade() -> None:
    op.drop_index("ix_privacy_requests_job_id", "privacy_requests")
    op.drop_column("privacy_requests", "job_id")
    op.drop_table("privacy_tombstones")
    op.drop_table("privacy_traces")
    op.drop_table("privacy_jobs")
