"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("batch_ids")))
    op.create_table(
        "accounting",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stored", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("duplicate", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "minute", name=op.f("pk_accounting")),
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
    )
    op.create_table(
        "batch_head",
        sa.Column("head_no", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("next_seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("head_no = 1", name=op.f("ck_batch_head_one_row")),
        sa.PrimaryKeyConstraint("head_no", name=op.f("pk_batch_head")),
    )
    op.create_table(
        "batches",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "committed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("received_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "positions",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("events", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("nodes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("trait_nodes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("moved_nodes", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("profiles", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column(
            "orders", sa.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "erased_nodes",
            sa.ARRAY(sa.BigInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "merges",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_batches")),
        sa.UniqueConstraint("batch_id", name=op.f("uq_batches_batch_id")),
    )
    op.create_table(
        "consents",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "purpose", name=op.f("pk_consents")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "events",
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=True),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("original_at", sa.Text(), nullable=True),
        sa.Column("properties", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("context", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "ordinal", "received_at", name=op.f("pk_events")),
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(op.f("ix_events_node_id_at"), "events", ["node_id", "at"], unique=False)
    op.create_index(
        op.f("ix_events_node_id_group_id"),
        "events",
        ["node_id", "group_id"],
        unique=False,
        postgresql_where=sa.text("type = 'group'"),
    )
    op.create_table(
        "ledger",
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("message_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_key", "week", name=op.f("pk_ledger")),
        postgresql_partition_by="RANGE (week)",
    )
    op.create_table(
        "component_locks",
        sa.Column("component_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("component_id", name=op.f("pk_component_locks")),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "identity_decisions",
        sa.Column("decision_no", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("identifiers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "made_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.Column("undone_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("decision_no", name=op.f("pk_identity_decisions")),
        sa.UniqueConstraint("decision_id", name=op.f("uq_identity_decisions_decision_id")),
    )
    op.create_index(
        op.f("ix_identity_decisions_kind"),
        "identity_decisions",
        ["kind"],
        unique=False,
        postgresql_where=sa.text("undone_at IS NULL"),
    )
    op.create_table(
        "identity_rules",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "made_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("done_until", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("components", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("profiles", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_identity_rules")),
    )
    op.create_table(
        "links",
        sa.Column("link_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("link_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("node_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("component_id", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_message_id", sa.Text(), nullable=False),
        sa.Column("first_source_number", sa.Integer(), nullable=True),
        sa.Column("active_days", postgresql.DATEMULTIRANGE(), nullable=False),
        sa.Column("retracted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cardinality(node_ids) >= 2", name=op.f("ck_links_two_nodes")),
        sa.PrimaryKeyConstraint("link_id", name=op.f("pk_links")),
        sa.UniqueConstraint("link_key", name=op.f("uq_links_link_key")),
    )
    op.create_index(op.f("ix_links_component_id"), "links", ["component_id"], unique=False)
    op.create_table(
        "log_heads",
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_log_heads")),
    )
    op.create_table(
        "log_leases",
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("log", "partition", name=op.f("pk_log_leases")),
    )
    op.create_table(
        "log_records",
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("record_offset", sa.BigInteger(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("headers", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "partition", "record_offset", "written_at", name=op.f("pk_log_records")
        ),
        postgresql_partition_by="RANGE (written_at)",
    )
    op.create_table(
        "log_workers",
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("log", "worker_id", name=op.f("pk_log_workers")),
    )
    op.create_table(
        "node_profiles",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "since", name=op.f("pk_node_profiles")),
    )
    op.create_index(
        op.f("ix_node_profiles_profile_no"), "node_profiles", ["profile_no"], unique=False
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("component_id", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("events", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "source_numbers", sa.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("quarantined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_nodes")),
        sa.UniqueConstraint("profile_id", name=op.f("uq_nodes_profile_id")),
        sa.UniqueConstraint("type", "value", "variant", name=op.f("uq_nodes_type_value_variant")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(op.f("ix_nodes_component_id"), "nodes", ["component_id"], unique=False)
    op.create_table(
        "order_reports",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=True),
        sa.Column("report", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(
            "scope", "order_id", "source_number", "message_id", name=op.f("pk_order_reports")
        ),
    )
    op.create_table(
        "orders",
        sa.Column("order_no", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("store", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("document", postgresql.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("order_no", name=op.f("pk_orders")),
        sa.UniqueConstraint("scope", "order_id", name=op.f("uq_orders_scope_order_id")),
    )
    op.create_index(
        op.f("ix_orders_node_id_placed_at"), "orders", ["node_id", "placed_at"], unique=False
    )
    op.create_table(
        "positions",
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("log", "partition", name=op.f("pk_positions")),
    )
    op.create_table(
        "profile_changes",
        sa.Column("change_no", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("change_no", name=op.f("pk_profile_changes")),
    )
    op.create_index(
        op.f("ix_profile_changes_batch_id"), "profile_changes", ["batch_id"], unique=False
    )
    op.create_index(
        op.f("ix_profile_changes_profile_id"), "profile_changes", ["profile_id"], unique=False
    )
    op.create_table(
        "profiles",
        sa.Column("profile_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("profile_no", name=op.f("pk_profiles")),
        sa.UniqueConstraint("profile_id", name=op.f("uq_profiles_profile_id")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "refusals",
        sa.Column("refusal_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("component_id", sa.BigInteger(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("node_a", sa.BigInteger(), nullable=False),
        sa.Column("node_b", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("refusal_id", name=op.f("pk_refusals")),
    )
    op.create_index(op.f("ix_refusals_component_id"), "refusals", ["component_id"], unique=False)
    op.create_table(
        "rejected",
        sa.Column("rejected_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("rejected_id", name=op.f("pk_rejected")),
    )
    op.create_index(
        op.f("ix_rejected_source_id_received_at"),
        "rejected",
        ["source_id", "received_at"],
        unique=False,
    )
    op.create_table(
        "sources",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_sources")),
        sa.UniqueConstraint("number", name=op.f("uq_sources_number")),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_table(
        "traits",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("source_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", "name", name=op.f("pk_traits")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "workspace",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workspace")),
    )
    op.create_table(
        "write_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("write_key", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.source_id"], name=op.f("fk_write_keys_source_id")
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_write_keys")),
        sa.UniqueConstraint("write_key", name=op.f("uq_write_keys_write_key")),
    )
    op.create_table(
        "segments",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("rule", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("consent", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("evaluated_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_change_no", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_segments")),
    )
    op.create_table(
        "segment_versions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rule", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("key", "version", name=op.f("pk_segment_versions")),
    )
    op.create_table(
        "refresh_head",
        sa.Column("head_no", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("change_no", sa.BigInteger(), nullable=False),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("head_no = 1", name=op.f("ck_refresh_head_one_row")),
        sa.PrimaryKeyConstraint("head_no", name=op.f("pk_refresh_head")),
    )
    op.create_table(
        "memberships",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "profile_id", name=op.f("pk_memberships")),
    )
    op.create_index(op.f("ix_memberships_profile_id"), "memberships", ["profile_id"], unique=False)
    op.create_table(
        "membership_changes",
        sa.Column("change_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("change_no", name=op.f("pk_membership_changes")),
    )
    op.create_index(
        op.f("ix_membership_changes_segment_change_no"),
        "membership_changes",
        ["segment", "change_no"],
        unique=False,
    )
    op.create_table(
        "tags",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("definition", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("evaluated_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_change_no", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tags")),
    )
    op.create_table(
        "tag_values",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "profile_id", name=op.f("pk_tag_values")),
    )
    op.create_index(op.f("ix_tag_values_profile_id"), "tag_values", ["profile_id"], unique=False)
    op.create_table(
        "tag_changes",
        sa.Column("change_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("profile_no", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("change_no", name=op.f("pk_tag_changes")),
    )
    op.create_index(
        op.f("ix_tag_changes_key_change_no"), "tag_changes", ["key", "change_no"], unique=False
    )
    op.create_table(
        "manual_tag_values",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("value", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", "node_id", name=op.f("pk_manual_tag_values")),
    )
    op.create_index(
        op.f("ix_manual_tag_values_node_id"), "manual_tag_values", ["node_id"], unique=False
    )
    op.execute("INSERT INTO batch_head (head_no, next_seq) VALUES (1, 1)")
    op.execute("INSERT INTO refresh_head (head_no, seq, change_no) VALUES (1, 0, 0)")


def downgrade() -> None:
    op.drop_index(op.f("ix_manual_tag_values_node_id"), table_name="manual_tag_values")
    op.drop_table("manual_tag_values")
    op.drop_index(op.f("ix_tag_changes_key_change_no"), table_name="tag_changes")
    op.drop_table("tag_changes")
    op.drop_index(op.f("ix_tag_values_profile_id"), table_name="tag_values")
    op.drop_table("tag_values")
    op.drop_table("tags")
    op.drop_index(op.f("ix_membership_changes_segment_change_no"), table_name="membership_changes")
    op.drop_table("membership_changes")
    op.drop_index(op.f("ix_memberships_profile_id"), table_name="memberships")
    op.drop_table("memberships")
    op.drop_table("refresh_head")
    op.drop_table("segment_versions")
    op.drop_table("segments")
    op.drop_table("write_keys")
    op.drop_table("workspace")
    op.drop_table("traits")
    op.drop_table("tokens")
    op.drop_table("sources")
    op.drop_index(op.f("ix_rejected_source_id_received_at"), table_name="rejected")
    op.drop_table("rejected")
    op.drop_index(op.f("ix_refusals_component_id"), table_name="refusals")
    op.drop_table("refusals")
    op.drop_table("profiles")
    op.drop_index(op.f("ix_profile_changes_profile_id"), table_name="profile_changes")
    op.drop_index(op.f("ix_profile_changes_batch_id"), table_name="profile_changes")
    op.drop_table("profile_changes")
    op.drop_index(op.f("ix_orders_node_id_placed_at"), table_name="orders")
    op.drop_table("orders")
    op.drop_table("order_reports")
    op.drop_table("positions")
    op.drop_index(op.f("ix_nodes_component_id"), table_name="nodes")
    op.drop_table("nodes")
    op.drop_index(op.f("ix_node_profiles_profile_no"), table_name="node_profiles")
    op.drop_table("node_profiles")
    op.drop_table("log_workers")
    op.drop_table("log_records")
    op.drop_table("log_leases")
    op.drop_table("log_heads")
    op.drop_index(op.f("ix_links_component_id"), table_name="links")
    op.drop_table("links")
    op.drop_table("identity_rules")
    op.drop_index(
        op.f("ix_identity_decisions_kind"),
        table_name="identity_decisions",
        postgresql_where=sa.text("undone_at IS NULL"),
    )
    op.drop_table("identity_decisions")
    op.drop_table("component_locks")
    op.drop_table("ledger")
    op.drop_index(
        op.f("ix_events_node_id_group_id"),
        table_name="events",
        postgresql_where=sa.text("type = 'group'"),
    )
    op.drop_index(op.f("ix_events_node_id_at"), table_name="events")
    op.drop_table("events")
    op.drop_table("dead_letters")
    op.drop_table("consents")
    op.drop_table("batches")
    op.drop_table("batch_head")
    op.drop_table("audit")
    op.drop_table("accounting")
    op.execute(sa.schema.DropSequence(sa.Sequence("batch_ids")))
