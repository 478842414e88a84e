"""Spellings of one identifier: hashed contacts, names with a scope."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identifier_forms",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("node_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.PrimaryKeyConstraint("type", "form", name="pk_identifier_forms"),
    )
    # Where hashed identifiers came before they meant anything, what is there is looked through.
    op.execute(
        """INSERT INTO workspace (name, value)
           SELECT 'identifier_forms', jsonb_build_object('done', 0, 'until', max(node_id))
             FROM nodes
           HAVING bool_or(type IN ('email_sha256', 'phone_sha256'))"""
    )
    op.execute(
        """INSERT INTO workspace AS w (name, value)
           SELECT 'rules_generation', '1' FROM workspace WHERE name = 'identifier_forms'
           ON CONFLICT (name) DO UPDATE SET value = to_jsonb((w.value #>> '{}')::bigint + 1)"""
    )


def downgrade() -> None:
    op.execute("DELETE FROM links WHERE kind = 'twin'")
    op.execute("DELETE FROM workspace WHERE name = 'identifier_forms'")
    op.drop_table("identifier_forms")
