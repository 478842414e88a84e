"""The ledger keeps its keys in pages; new ones wait in rows without a week."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# What was claimed in a week counts as claimed on its last day, so that it is kept long enough.
_PACK = """
INSERT INTO ledger_pages (first_key, keys, days)
SELECT (array_agg(key ORDER BY key))[1], array_agg(key ORDER BY key), array_agg(day ORDER BY key)
  FROM (SELECT key, day, (row_number() OVER (ORDER BY key) - 1) / 108 AS number
          FROM (SELECT encode(message_key, 'hex')::uuid AS key,
                       max(week + 6 - date '2020-01-01')::smallint AS day
                  FROM ledger_by_week GROUP BY 1) AS keys) AS numbered
 GROUP BY number ORDER BY number
"""
_UNPACK = """
INSERT INTO ledger (week, message_key)
SELECT date_trunc('week', day)::date, uuid_send(key)
  FROM (SELECT one.key, date '2020-01-01' + one.day AS day
          FROM ledger_pages, unnest(keys, days) AS one (key, day)
         UNION ALL SELECT message_key, current_date FROM unpacked_ledger) AS found
    ON CONFLICT DO NOTHING
"""
_WEEKS = """
DO $$
DECLARE monday date;
BEGIN
    FOR monday IN
        SELECT DISTINCT date_trunc('week', date '2020-01-01' + day)::date
          FROM ledger_pages, unnest(days) AS day
         UNION SELECT date_trunc('week', current_date)::date
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF ledger FOR VALUES FROM (%L) TO (%L)',
                       'ledger_' || to_char(monday, 'YYYYMMDD'), monday, monday + 7);
    END LOOP;
END $$
"""


def upgrade() -> None:
    # Two weeks of keys are sorted here.
    op.execute("SET LOCAL statement_timeout = 0")
    op.rename_table("ledger", "ledger_by_week")
    op.execute("ALTER TABLE ledger_by_week RENAME CONSTRAINT pk_ledger TO pk_ledger_by_week")
    op.create_table(
        "ledger",
        sa.Column("message_key", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("message_key", name=op.f("pk_ledger")),
    )
    op.create_table(
        "ledger_pages",
        sa.Column("first_key", sa.Uuid(), nullable=False),
        sa.Column("keys", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("days", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.PrimaryKeyConstraint("first_key", name=op.f("pk_ledger_pages")),
    )
    op.execute(_PACK)
    op.drop_table("ledger_by_week")


def downgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.rename_table("ledger", "unpacked_ledger")
    op.execute("ALTER TABLE unpacked_ledger RENAME CONSTRAINT pk_ledger TO pk_unpacked_ledger")
    op.create_table(
        "ledger",
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("message_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_key", "week", name=op.f("pk_ledger")),
        postgresql_partition_by="RANGE (week)",
    )
    op.execute(_WEEKS)
    op.execute(_UNPACK)
    op.drop_table("unpacked_ledger")
    op.drop_table("ledger_pages")
