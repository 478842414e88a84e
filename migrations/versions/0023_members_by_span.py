"""Memberships in accounts for each span of a node, and what group calls said in those there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_KEY = ["account_no", "node_id", "fact"]

# Until now a group call of a shared device alone hid that its first person had made one.
_SAID = r"""
INSERT INTO account_members (account_no, node_id, fact, value, at, message_id, source_number, since)
SELECT DISTINCT ON (a.account_no, np.node_id, np.since)
       a.account_no, np.node_id, 'member', 'true', e.at, e.message_id, e.source_number, np.since
  FROM (SELECT DISTINCT node_id FROM node_profiles WHERE since > '-infinity') cut
  JOIN node_profiles np ON np.node_id = cut.node_id
  JOIN events e ON e.node_id = np.node_id AND e.at >= np.since AND e.at < np.until
  JOIN accounts a ON a.account_id = btrim(e.group_id, E' \t\n\r\f\v')
 WHERE e.type = 'group'
 ORDER BY a.account_no, np.node_id, np.since, e.at DESC, e.message_id COLLATE "C" DESC,
          e.source_number DESC
    ON CONFLICT (account_no, node_id, fact, since) DO NOTHING
"""


def upgrade() -> None:
    op.add_column(
        "account_members",
        sa.Column(
            "since", sa.DateTime(timezone=True), nullable=False,
            server_default=sa.text("'-infinity'"),
        ),
    )  # fmt: skip
    op.drop_constraint("pk_account_members", "account_members", type_="primary")
    op.create_primary_key("pk_account_members", "account_members", [*_KEY, "since"])
    op.execute(
        """UPDATE account_members m SET since = np.since FROM node_profiles np
            WHERE np.since > '-infinity' AND np.node_id = m.node_id
              AND m.at >= np.since AND m.at < np.until"""
    )
    op.execute(_SAID)
    # A device that became shared in the batch that parted its component left its own profile there.
    op.execute(
        """UPDATE nodes s SET component_id = n.component_id FROM nodes n
            WHERE s.variant = 'shared' AND n.variant = '' AND n.type = s.type
              AND n.value = s.value AND n.component_id <> s.component_id"""
    )


def downgrade() -> None:
    op.execute(
        """DELETE FROM account_members m USING account_members n
            WHERE (n.account_no, n.node_id, n.fact) = (m.account_no, m.node_id, m.fact)
              AND (n.at, n.message_id, n.source_number, n.since)
                  > (m.at, m.message_id, m.source_number, m.since)"""
    )
    op.drop_constraint("pk_account_members", "account_members", type_="primary")
    op.drop_column("account_members", "since")
    op.create_primary_key("pk_account_members", "account_members", _KEY)
