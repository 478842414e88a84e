"""Accounts: companies and households, and who belongs to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What ``group`` calls had said until then was read from the timeline; now it is kept in registers.
_CARRY_ACCOUNTS = """
INSERT INTO accounts (account_id)
SELECT DISTINCT btrim(group_id) FROM events
 WHERE type = 'group' AND btrim(group_id) <> '' AND length(btrim(group_id)) <= 512
 ORDER BY 1
"""
_CARRY_TRAITS = """
INSERT INTO account_facts (account_no, kind, name, value, at, message_id, source_number)
SELECT DISTINCT ON (a.account_no, t.key)
       a.account_no, 'trait', t.key, t.value, e.at, e.message_id, e.source_number
  FROM events e
  JOIN accounts a ON a.account_id = btrim(e.group_id)
 CROSS JOIN LATERAL json_each(
       CASE json_typeof(e.properties) WHEN 'object' THEN e.properties ELSE '{}' END) AS t
 WHERE e.type = 'group' AND length(t.key) <= 200
 ORDER BY a.account_no, t.key, e.at DESC, e.message_id COLLATE "C" DESC, e.source_number DESC
"""
_CARRY_MEMBERS = """
INSERT INTO account_members (account_no, node_id, fact, value, at, message_id, source_number)
SELECT DISTINCT ON (a.account_no, e.node_id)
       a.account_no, e.node_id, 'member', 'true', e.at, e.message_id, e.source_number
  FROM events e
  JOIN accounts a ON a.account_id = btrim(e.group_id)
 WHERE e.type = 'group' AND e.node_id IS NOT NULL
 ORDER BY a.account_no, e.node_id, e.at DESC, e.message_id COLLATE "C" DESC, e.source_number DESC
"""
# Whoever follows the batches from the beginning finds them there.
_TELL_FOLLOWERS = """
UPDATE batches AS b
   SET accounts = g.accounts,
       trait_nodes = ARRAY(SELECT DISTINCT unnest(b.trait_nodes || g.nodes) ORDER BY 1)
  FROM (SELECT e.batch_id, array_agg(DISTINCT a.account_no) AS accounts,
               coalesce(array_agg(DISTINCT e.node_id) FILTER (WHERE e.node_id IS NOT NULL), '{}')
                   AS nodes
          FROM events e
          JOIN accounts a ON a.account_id = btrim(e.group_id)
         WHERE e.type = 'group'
         GROUP BY e.batch_id) AS g
 WHERE b.batch_id = g.batch_id
"""


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_no", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("account_no", name=op.f("pk_accounts")),
        sa.UniqueConstraint("account_id", name=op.f("uq_accounts_account_id")),
    )
    op.create_table(
        "account_facts",
        sa.Column("account_no", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *_register(),
        sa.PrimaryKeyConstraint("account_no", "kind", "name", name=op.f("pk_account_facts")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_account_facts_parent",
        "account_facts",
        [sa.text("(value #>> '{}')")],
        postgresql_where=sa.text("kind = 'field' AND name = 'parent'"),
    )
    op.create_table(
        "account_members",
        sa.Column("account_no", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        *_register(),
        sa.PrimaryKeyConstraint("account_no", "node_id", "fact", name=op.f("pk_account_members")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(op.f("ix_account_members_node_id"), "account_members", ["node_id"])
    op.add_column(
        "batches",
        sa.Column(
            "accounts",
            postgresql.ARRAY(sa.BigInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    for statement in (_CARRY_ACCOUNTS, _CARRY_TRAITS, _CARRY_MEMBERS, _TELL_FOLLOWERS):
        op.execute(statement)
    # Nobody asks the timeline for members any more.
    op.drop_index(op.f("ix_events_node_id_group_id"), table_name="events")


def downgrade() -> None:
    op.create_index(
        op.f("ix_events_node_id_group_id"),
        "events",
        ["node_id", "group_id"],
        postgresql_where=sa.text("type = 'group'"),
    )
    op.drop_column("batches", "accounts")
    op.drop_index(op.f("ix_account_members_node_id"), table_name="account_members")
    op.drop_table("account_members")
    op.drop_index("ix_account_facts_parent", table_name="account_facts")
    op.drop_table("account_facts")
    op.drop_table("accounts")


def _register() -> list[sa.Column[object]]:
    """The columns of a last-writer register."""
    return [
        sa.Column("value", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
    ]
