"""Rates of currencies; what was said in events of service, those of the past included."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_KINDS = """
    CASE WHEN e.name LIKE 'Ticket %' THEN 'ticket'
         WHEN e.name LIKE 'Call %' OR e.name LIKE 'Live Chat %' THEN 'call'
         WHEN e.name LIKE 'Complaint %' THEN 'complaint'
         WHEN e.name = 'Product Reviewed' THEN 'review'
         ELSE 'answer' END
"""


def _text(name: str) -> str:
    """What is neither text nor a number says nothing."""
    return f"""CASE WHEN json_typeof(e.properties -> '{name}') IN ('string', 'number')
                    THEN nullif(btrim(e.properties ->> '{name}'), '') END"""


def _score(name: str) -> str:
    return f"""CASE WHEN {_text(name)} ~ '^(10|[0-9])([.]0+)?$'
                    THEN ({_text(name)})::numeric::smallint END"""


_IDS = f"""
    CASE WHEN e.name LIKE 'Ticket %' THEN {_text("ticket_id")}
         WHEN e.name LIKE 'Call %' OR e.name LIKE 'Live Chat %'
         THEN coalesce({_text("call_id")}, {_text("conversation_id")})
         WHEN e.name LIKE 'Complaint %' THEN {_text("complaint_id")}
         WHEN e.name = 'Product Reviewed' THEN {_text("review_id")}
         ELSE {_text("response_id")} END
"""
_IS_OPEN = f"""
    CASE WHEN e.name NOT LIKE 'Ticket %' AND e.name NOT LIKE 'Complaint %' THEN NULL
         WHEN {_text("status")} IS NOT NULL
         THEN lower({_text("status")}) NOT IN (
              'closed', 'solved', 'resolved', 'done', 'completed', 'cancelled', 'canceled',
              'deleted', 'spam', 'merged', '已关闭', '关闭', '已解决', '解决', '已完成', '完成',
              '已取消', '取消')
         WHEN coalesce({_text("closed_at")}, {_text("resolved_at")}) IS NOT NULL THEN false
         WHEN e.name LIKE '% Updated' THEN NULL
         ELSE e.name NOT LIKE '% Closed' AND e.name NOT LIKE '% Solved'
              AND e.name NOT LIKE '% Resolved' END
"""
_NPS = f"""
    CASE WHEN e.name LIKE 'Ticket %' THEN {_score("nps")}
         WHEN e.name IN ('NPS Answered', 'NPS Submitted')
           OR (e.name IN ('Survey Responded', 'Survey Answered')
               AND lower({_text("survey_type")}) = 'nps')
         THEN {_score("score")} END
"""
_NAMES = """
    'Ticket Created', 'Ticket Opened', 'Ticket Updated', 'Ticket Reopened', 'Ticket Solved',
    'Ticket Closed', 'Call Started', 'Call Ended', 'Call Missed',
    'Live Chat Conversation Started', 'Live Chat Conversation Ended', 'NPS Answered',
    'NPS Submitted', 'Survey Responded', 'Survey Answered', 'Complaint Filed',
    'Complaint Updated', 'Complaint Resolved', 'Product Reviewed'
"""


def upgrade() -> None:
    op.create_table(
        "rates",
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("to_currency", sa.Text(), nullable=False),
        sa.Column("at", sa.Date(), nullable=False),
        sa.Column("rate", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("currency", "to_currency", "at", name="pk_rates"),
        sa.CheckConstraint("rate > 0", name="ck_rates_positive"),
    )
    op.add_column(
        "batches",
        sa.Column("rates", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )
    op.create_table(
        "service_events",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=True),
        sa.Column("nps", sa.SmallInteger(), nullable=True),
        sa.Column("properties", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(
            "node_id", "at", "source_number", "message_id", name="pk_service_events"
        ),
    )
    op.execute(
        f"""INSERT INTO service_events (node_id, at, source_number, message_id, name, kind,
                                        record_id, is_open, nps, properties)
            SELECT e.node_id, e.at, e.source_number, e.message_id, e.name, {_KINDS},
                   coalesce(left({_IDS}, 200), e.message_id), {_IS_OPEN}, {_NPS},
                   e.properties
              FROM events e
             WHERE e.type = 'track' AND e.node_id IS NOT NULL AND e.name IN ({_NAMES})
                ON CONFLICT DO NOTHING"""
    )


def downgrade() -> None:
    op.drop_table("service_events")
    op.drop_column("batches", "rates")
    op.drop_table("rates")
