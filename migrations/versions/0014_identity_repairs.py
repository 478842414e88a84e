"""Registers for each span of a node, and what the events say of the spans that there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_REGISTERS = (("traits", "name", "value"), ("consents", "purpose", "granted"))

# Until now what was said last of a node hid what somebody else had said of it before.
_SAID = """
WITH cut AS (
    SELECT DISTINCT node_id FROM node_profiles WHERE since > '-infinity'
), said AS (
    SELECT np.node_id, np.since, e.at, e.message_id, e.source_number, e.type, e.properties,
           e.context
      FROM cut
      JOIN node_profiles np ON np.node_id = cut.node_id
      JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
)
"""
_TRAITS_SAID = f"""
{_SAID}
INSERT INTO traits AS t (node_id, name, value, at, message_id, source_number, since)
SELECT DISTINCT ON (s.node_id, k.key, s.since)
       s.node_id, k.key, k.value, s.at, s.message_id, s.source_number, s.since
  FROM said s
 CROSS JOIN LATERAL (
       SELECT key, value, 0 AS weight
         FROM json_each(CASE json_typeof(s.context -> 'traits')
                        WHEN 'object' THEN s.context -> 'traits' ELSE '{{}}' END)
       UNION ALL
       SELECT key, value, 1
         FROM json_each(CASE s.type WHEN 'identify' THEN s.properties ELSE '{{}}' END)
       ) k
 ORDER BY s.node_id, k.key, s.since, s.at DESC, s.message_id DESC, s.source_number DESC,
          k.weight DESC
    ON CONFLICT (node_id, name, since) DO NOTHING
"""
_CONSENTS_SAID = f"""
{_SAID}
INSERT INTO consents AS c (node_id, purpose, granted, at, message_id, source_number, since)
SELECT DISTINCT ON (s.node_id, k.purpose, s.since)
       s.node_id, k.purpose, k.granted, s.at, s.message_id, s.source_number, s.since
  FROM said s
 CROSS JOIN LATERAL (
       SELECT key AS purpose, value::text = 'true' AS granted, 2 AS weight
         FROM json_each(CASE json_typeof(s.context #> '{{consent,categoryPreferences}}')
                        WHEN 'object' THEN s.context #> '{{consent,categoryPreferences}}'
                        ELSE '{{}}' END)
        WHERE json_typeof(value) = 'boolean'
       UNION ALL
       SELECT value, false, 1
         FROM json_array_elements_text(
              CASE json_typeof(s.context #> '{{consentManagement,deniedConsentIds}}')
              WHEN 'array' THEN s.context #> '{{consentManagement,deniedConsentIds}}'
              ELSE '[]' END)
       UNION ALL
       SELECT value, true, 0
         FROM json_array_elements_text(
              CASE json_typeof(s.context #> '{{consentManagement,allowedConsentIds}}')
              WHEN 'array' THEN s.context #> '{{consentManagement,allowedConsentIds}}'
              ELSE '[]' END)
       ) k
 WHERE k.purpose <> ''
 ORDER BY s.node_id, k.purpose, s.since, s.at DESC, s.message_id DESC, s.source_number DESC,
          k.weight DESC
    ON CONFLICT (node_id, purpose, since) DO NOTHING
"""


def upgrade() -> None:
    op.create_index(
        "ix_node_profiles_cut", "node_profiles", ["node_id"],
        postgresql_where=sa.text("since > '-infinity'"),
    )  # fmt: skip
    op.create_index("ix_profile_changes_from", "profile_changes", [sa.text("(details ->> 'from')")])
    op.create_index(
        "ix_refusals_limit", "refusals", ["refusal_id"],
        postgresql_where=sa.text("reason = 'limit'"),
    )  # fmt: skip
    for table, name, _ in _REGISTERS:
        op.add_column(
            table,
            sa.Column(
                "since", sa.DateTime(timezone=True), nullable=False,
                server_default=sa.text("'-infinity'"),
            ),
        )  # fmt: skip
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.create_primary_key(f"pk_{table}", table, ["node_id", name, "since"])
        op.execute(
            f"""UPDATE {table} t SET since = np.since FROM node_profiles np
                 WHERE np.since > '-infinity' AND np.node_id = t.node_id
                   AND t.at >= np.since AND t.at < np.until"""
        )
    op.execute(_TRAITS_SAID)
    op.execute(_CONSENTS_SAID)


def downgrade() -> None:
    for table, name, _ in _REGISTERS:
        op.execute(
            f"""DELETE FROM {table} t USING {table} n
                 WHERE n.node_id = t.node_id AND n.{name} = t.{name}
                   AND (n.at, n.message_id, n.source_number, n.since)
                       > (t.at, t.message_id, t.source_number, t.since)"""
        )
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.drop_column(table, "since")
        op.create_primary_key(f"pk_{table}", table, ["node_id", name])
    op.drop_index("ix_refusals_limit", "refusals")
    op.drop_index("ix_profile_changes_from", "profile_changes")
    op.drop_index("ix_node_profiles_cut", "node_profiles")
