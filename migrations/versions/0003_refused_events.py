"""What a refused event was, where it stood, and whether it was replayed; what was received."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UNBALANCED = "received <> stored + duplicate + rejected"


def upgrade() -> None:
    received = sa.Column("received", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    op.add_column("accounting", received)
    op.execute("UPDATE accounting SET received = stored + duplicate + rejected")
    for column in (
        sa.Column("kind", sa.Text(), server_default=sa.text("'events'"), nullable=False),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.Text(), nullable=True),
        sa.Column("route_type", sa.Text(), nullable=True),
        sa.Column("shared", sa.LargeBinary(), nullable=True),
        sa.Column("truncated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("refused_key", sa.LargeBinary(), nullable=True),
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("rejected", column)
    op.create_unique_constraint(op.f("uq_rejected_refused_key"), "rejected", ["refused_key"])
    op.create_index(op.f("ix_rejected_received_at"), "rejected", ["received_at"])
    op.create_index(op.f("ix_rejected_code_rejected_id"), "rejected", ["code", "rejected_id"])
    op.add_column("dead_letters", sa.Column("resolved_at", sa.DateTime(timezone=True)))
    op.add_column("dead_letters", sa.Column("resolution", sa.Text()))
    op.add_column(
        "batches",
        sa.Column(
            "duplicates",
            postgresql.ARRAY(sa.LargeBinary()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    # From here on what could not be processed is counted as rejected.
    op.execute("UPDATE rejected SET truncated = true WHERE octet_length(raw) >= 600000")
    _move_lines()
    op.create_index(
        "ix_accounting_unbalanced",
        "accounting",
        ["source_id", "minute"],
        postgresql_where=sa.text(_UNBALANCED),
    )


def _move_lines() -> None:
    """Single lines that could not be processed become refused ones, and are counted as such."""
    connection = op.get_bind()
    letters = connection.execute(
        sa.text(
            """SELECT dead_letter_id, ordinal, reason, headers, value FROM dead_letters
                WHERE ordinal IS NOT NULL ORDER BY dead_letter_id"""
        )
    ).fetchall()
    for letter_id, ordinal, reason, headers, value in letters:
        times = [
            (request_id, received_at, sent_at)
            for request_id, received_at, sent_at, count in json.loads(headers["cdp-requests"])
            for _ in range(count)
        ]
        request_id, received_at, sent_at = times[ordinal]
        row = {
            "source": headers["cdp-source"],
            "kind": headers["cdp-kind"],
            "reason": reason,
            "raw": bytes(value),
            "request": request_id,
            "received": received_at,
            "sent": sent_at,
            "letter": letter_id,
        }
        connection.execute(
            sa.text(
                """INSERT INTO rejected (source_id, code, message, received_at, raw, kind,
                                         request_id, sent_at)
                   VALUES (:source, 'unprocessable', :reason, cast(:received AS timestamptz), :raw,
                           :kind, :request, :sent)"""
            ),
            row,
        )
        connection.execute(
            sa.text(
                """INSERT INTO accounting AS a (source_id, minute, received, rejected)
                   VALUES (:source, date_trunc('minute', cast(:received AS timestamptz)), 1, 1)
                   ON CONFLICT (source_id, minute) DO UPDATE
                      SET received = a.received + 1, rejected = a.rejected + 1"""
            ),
            row,
        )
        connection.execute(sa.text("DELETE FROM dead_letters WHERE dead_letter_id = :letter"), row)


def downgrade() -> None:
    op.drop_index("ix_accounting_unbalanced", table_name="accounting")
    op.drop_column("accounting", "received")
    op.drop_column("batches", "duplicates")
    op.drop_column("dead_letters", "resolution")
    op.drop_column("dead_letters", "resolved_at")
    op.drop_index(op.f("ix_rejected_code_rejected_id"), table_name="rejected")
    op.drop_index(op.f("ix_rejected_received_at"), table_name="rejected")
    op.drop_constraint(op.f("uq_rejected_refused_key"), "rejected")
    for name in (
        "replayed_at", "refused_key", "batch_id", "truncated", "shared", "route_type", "sent_at",
        "request_id", "place", "kind",
    ):  # fmt: skip
        op.drop_column("rejected", name)
