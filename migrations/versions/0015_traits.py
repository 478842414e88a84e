"""Parts of traits and their sources; the catalogue of traits, and which of them are personal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_BITS = """
CASE json_typeof(value) WHEN 'string' THEN 1 WHEN 'number' THEN 2 WHEN 'boolean' THEN 4
     WHEN 'array' THEN 8 WHEN 'object' THEN 16 ELSE 0 END
"""


def upgrade() -> None:
    # What was kept until now is of one source each, and an object is a part like any other.
    op.add_column(
        "traits", sa.Column("part", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.drop_constraint("pk_traits", "traits", type_="primary")
    op.create_primary_key(
        "pk_traits", "traits", ["node_id", "name", "part", "source_number", "since"]
    )
    op.create_table(
        "trait_names",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("types", sa.Integer(), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_trait_names"),
    )
    op.execute(
        f"""INSERT INTO trait_names (name, types, first_seen, last_seen)
            SELECT name, bit_or({_BITS}), min(at), max(at) FROM traits GROUP BY name"""
    )
    op.create_table(
        "trait_settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("personal", sa.Boolean(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.PrimaryKeyConstraint("name", name="pk_trait_settings"),
    )


def downgrade() -> None:
    op.drop_table("trait_settings")
    op.drop_table("trait_names")
    op.execute(
        """DELETE FROM traits t USING traits n
            WHERE n.node_id = t.node_id AND n.name = t.name AND n.since = t.since
              AND (n.at, n.message_id, n.source_number, n.part)
                  > (t.at, t.message_id, t.source_number, t.part)"""
    )
    op.drop_constraint("pk_traits", "traits", type_="primary")
    op.drop_column("traits", "part")
    op.create_primary_key("pk_traits", "traits", ["node_id", "name", "since"])
