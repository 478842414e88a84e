"""Changes of profiles for those who keep a copy; the audit found by subject and actor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# The digests of ``cdp.profiles.feed_store``, as of this version: what is known of people by now is
# told to nobody as a change.
_TOLD = """
INSERT INTO profile_feed_told (profile_no, traits, purposes)
WITH said AS (
    SELECT DISTINCT ON (np.profile_no, t.name, t.part, t.value::text)
           np.profile_no, t.name, t.part, t.value::text AS value, t.at, t.message_id,
           t.source_number
      FROM node_profiles np
      JOIN traits t ON t.node_id = np.node_id AND t.at >= np.since AND t.at < np.until
     ORDER BY np.profile_no, t.name, t.part, t.value::text, t.at DESC,
              t.message_id COLLATE "C" DESC, t.source_number DESC),
traits AS (
    SELECT profile_no, jsonb_object_agg(name, digest) AS digests
      FROM (SELECT profile_no, name,
                   hashtextextended(
                       string_agg(part || '=' || value, E'\\x1f'
                                  ORDER BY at DESC, message_id COLLATE "C" DESC,
                                           source_number DESC, part), profile_no) AS digest
              FROM said GROUP BY 1, 2) each_name
     GROUP BY 1),
agreed AS (
    SELECT DISTINCT ON (np.profile_no, c.purpose, c.granted)
           np.profile_no, c.purpose, c.granted, c.at, c.message_id, c.source_number
      FROM node_profiles np
      JOIN consents c ON c.node_id = np.node_id AND c.at >= np.since AND c.at < np.until
     ORDER BY np.profile_no, c.purpose, c.granted, c.at DESC, c.message_id COLLATE "C" DESC,
              c.source_number DESC),
purposes AS (
    SELECT profile_no, jsonb_object_agg(purpose, digest) AS digests
      FROM (SELECT a.profile_no, a.purpose,
                   hashtextextended(
                       string_agg(a.granted::text, ',' ORDER BY a.at DESC,
                                  a.message_id COLLATE "C" DESC, a.source_number DESC)
                       || coalesce((max(a.at) > max(p.joined_at))::text, ''), a.profile_no)
                   AS digest
              FROM agreed a JOIN profiles p USING (profile_no) GROUP BY 1, 2) each_purpose
     GROUP BY 1)
SELECT p.profile_no, coalesce(t.digests, '{}'), coalesce(c.digests, '{}')
  FROM profiles p
  LEFT JOIN traits t USING (profile_no)
  LEFT JOIN purposes c USING (profile_no)
 WHERE t.profile_no IS NOT NULL OR c.profile_no IS NOT NULL
"""


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column(
            "left_profiles",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=False,
            server_default=sa.text("'{}'"),
        ),
    )
    op.add_column(
        "batches",
        sa.Column(
            "erased_profiles",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            server_default=sa.text("'{}'"),
        ),
    )
    op.create_table(
        "profile_feed",
        sa.Column("change_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("other_id", sa.Text(), nullable=True),
        sa.Column(
            "traits", postgresql.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")
        ),
        sa.Column(
            "purposes", postgresql.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")
        ),
        sa.PrimaryKeyConstraint("change_no", name="pk_profile_feed"),
    )
    op.create_index("ix_profile_feed_profile_id", "profile_feed", ["profile_id"])
    op.create_table(
        "profile_feed_head",
        sa.Column("head_no", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("dropped_until", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("head_no", name="pk_profile_feed_head"),
        sa.CheckConstraint("head_no = 1", name="ck_profile_feed_head_one_row"),
    )
    op.create_table(
        "profile_feed_told",
        sa.Column("profile_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("traits", postgresql.JSONB(), nullable=False),
        sa.Column("purposes", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("profile_no", name="pk_profile_feed_told"),
    )
    op.execute(
        """INSERT INTO profile_feed_head (head_no, seq, change_no)
           SELECT 1, coalesce(max(seq), 0), 0 FROM batches"""
    )
    op.execute(_TOLD)
    op.create_index("ix_audit_subject_audit_id", "audit", ["subject", "audit_id"])
    op.create_index("ix_audit_actor_audit_id", "audit", ["actor", "audit_id"])


def downgrade() -> None:
    op.drop_index("ix_audit_actor_audit_id", "audit")
    op.drop_index("ix_audit_subject_audit_id", "audit")
    op.drop_table("profile_feed_told")
    op.drop_table("profile_feed_head")
    op.drop_table("profile_feed")
    op.drop_column("batches", "erased_profiles")
    op.drop_column("batches", "left_profiles")
