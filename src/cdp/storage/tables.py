"""The whole Postgres schema on one page; ``migrations/`` is proved equal to it by a test.

Facts hang on identifier *nodes*; a profile is a computed view. So no row below, except those of
``profiles`` and ``node_profiles``, changes when people are merged or parted.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import DATEMULTIRANGE, JSON, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


# ── Who may post and who may ask ────────────────────────────────────────────────────────────────

sources = Table(
    "sources",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("number", Integer, Identity(), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
    _now("created_at"),
    _time("disabled_at", nullable=True),
)

write_keys = Table(
    "write_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("source_id", Text, ForeignKey("sources.source_id"), nullable=False),
    # Kept readable: it lies open in every web page, and an operator must be able to look it up.
    Column("write_key", Text, nullable=False, unique=True),
    _now("created_at"),
    _time("last_used_at", nullable=True),
    _time("disabled_at", nullable=True),
    _time("ends_at", nullable=True),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), nullable=False),
    _now("created_at"),
    _time("revoked_at", nullable=True),
    _time("last_used_at", nullable=True),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", BigInteger, Identity(), primary_key=True),
    _now("at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Index(None, "subject", "audit_id"),
    Index(None, "actor", "audit_id"),
)

# Workspace-wide facts that every process must agree on, such as the salt behind profile ids.
workspace = Table(
    "workspace",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
)

# ── The embedded log ────────────────────────────────────────────────────────────────────────────

log_heads = Table(
    "log_heads",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False, server_default=text("0")),
)

log_records = Table(
    "log_records",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    _time("written_at"),
    Column("headers", JSON, nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("partition", "record_offset", "written_at"),
    # Retention drops whole days.
    postgresql_partition_by="RANGE (written_at)",
)

# Who reads which partition; the same for both logs.
log_workers = Table(
    "log_workers",
    metadata,
    Column("log", Text, nullable=False),
    Column("worker_id", Text, nullable=False),
    _time("seen_at"),
    PrimaryKeyConstraint("log", "worker_id"),
)

log_leases = Table(
    "log_leases",
    metadata,
    Column("log", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("worker_id", Text, nullable=False),
    _time("expires_at"),
    PrimaryKeyConstraint("log", "partition"),
)

# How far the log has been worked off. Changes only in the transaction of the effects,
# by compare-and-set, so a stale worker cannot write.
positions = Table(
    "positions",
    metadata,
    Column("log", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    _now("updated_at"),
    PrimaryKeyConstraint("log", "partition"),
)

# ── What was done with each message ─────────────────────────────────────────────────────────────

# (source, message id) as 16 bytes of BLAKE2b; uuid is the narrowest type that holds them. New ones
# are rows here, and move into pages once a day.
ledger = Table("ledger", metadata, Column("message_key", Uuid, primary_key=True))

# A key lies in the page with the greatest first_key that is not greater than it. ``days`` says by
# which day each was claimed, as days since 2020-01-01.
ledger_pages = Table(
    "ledger_pages",
    metadata,
    Column("first_key", Uuid, primary_key=True),
    Column("keys", ARRAY(Uuid), nullable=False),
    Column("days", ARRAY(SmallInteger), nullable=False),
)

# Per source and minute of receipt: what came, and what became of it. ``received`` is what the
# headers of the records count; the outcomes are counted one by one, so that a loss shows.
accounting = Table(
    "accounting",
    metadata,
    Column("source_id", Text, nullable=False),
    _time("minute"),
    Column("received", BigInteger, nullable=False, server_default=text("0")),
    Column("stored", BigInteger, nullable=False, server_default=text("0")),
    Column("duplicate", BigInteger, nullable=False, server_default=text("0")),
    Column("rejected", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("source_id", "minute"),
    Index(
        "ix_accounting_unbalanced",
        "source_id",
        "minute",
        postgresql_where=text("received <> stored + duplicate + rejected"),
    ),
)

rejected = Table(
    "rejected",
    metadata,
    Column("rejected_id", BigInteger, Identity(), primary_key=True),
    Column("source_id", Text, nullable=False),
    Column("message_id", Text),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    _time("received_at"),
    Column("raw", LargeBinary, nullable=False),
    # events, orders, …: what it would have been.
    Column("kind", Text, nullable=False, server_default=text("'events'")),
    # Its place in the request, or its row in a file.
    Column("place", Integer),
    Column("request_id", Text),
    # What its request said beside it, and the type that its route says: a replay needs them.
    Column("sent_at", Text),
    Column("route_type", Text),
    Column("shared", LargeBinary),
    # Whether it was too large to be kept whole.
    Column("truncated", Boolean, nullable=False, server_default=text("false")),
    # The batch that kept it.
    Column("batch_id", BigInteger),
    # The same line of the same request is kept once, however often the log brings it.
    Column("refused_key", LargeBinary, unique=True),
    _time("replayed_at", nullable=True),
    Index(None, "source_id", "received_at"),
    Index(None, "received_at"),
    Index(None, "code", "rejected_id"),
)

# Records that nobody can read. Single lines that cannot be processed are in ``rejected``.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("dead_letter_id", BigInteger, Identity(), primary_key=True),
    Column("log", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    # A line number, in rows that older versions wrote.
    Column("ordinal", Integer),
    Column("reason", Text, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("value", LargeBinary, nullable=False),
    _now("at"),
    _time("resolved_at", nullable=True),
    # replayed | discarded
    Column("resolution", Text),
)

# What workers ran against in the schema, which they should not: see ``clashes_store``.
worker_clashes = Table(
    "worker_clashes",
    metadata,
    # The name of a constraint, or an SQLSTATE.
    Column("rule", Text, primary_key=True),
    # passed | set_aside
    Column("outcome", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    _now("last_at"),
)

events = Table(
    "events",
    metadata,
    Column("batch_id", BigInteger, nullable=False),
    Column("ordinal", Integer, nullable=False),
    # The strongest identifier on the event; null for events without a person.
    Column("node_id", BigInteger),
    # The link that says what else it carried; null for a single identifier.
    Column("link_id", BigInteger),
    Column("source_number", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text),
    _time("at"),
    _time("received_at"),
    # What the caller wrote, when the corrected event time differs from it.
    Column("original_at", Text),
    # JSON as it came: jsonb would reorder keys and round numbers.
    Column("properties", JSON, nullable=False),
    Column("context", JSON, nullable=False),
    Column("group_id", Text),
    # The batch leads: followers read events by batch.
    PrimaryKeyConstraint("batch_id", "ordinal", "received_at"),
    Index(None, "node_id", "at"),
    postgresql_partition_by="RANGE (received_at)",
)

# Whom a shop wants deleted or exported; a row for each identifier that it names them by.
privacy_requests = Table(
    "privacy_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    # delete | export
    Column("kind", Text, nullable=False),
    Column("identifier_type", Text, nullable=False),
    Column("identifier_value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("source_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    _time("requested_at"),
    # queued | erased | done. The value gives way to its salted hash when it is done.
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    # What carries it out; null until somebody has looked.
    Column("job_id", Text),
    Index(None, "status", "requested_at"),
    Index(None, "job_id"),
)

# What was asked of privacy, how far it is, and the receipt of what was removed.
privacy_jobs = Table(
    "privacy_jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    # delete | export | suppress | unsuppress
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    # queued | running | done
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    # Where it goes on, whoever was killed.
    Column("step", Text, nullable=False),
    Column("identifiers", BigInteger, nullable=False),
    # The batch by which followers learn of it.
    Column("seq", BigInteger),
    Column("receipt", JSONB, nullable=False, server_default=text("'{}'")),
    Column("waiting", Text),
    _time("requested_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    _time("archive_removed_at", nullable=True),
    Index(None, "requested_at", "job_id"),
    Index("ix_privacy_jobs_open", "requested_at", postgresql_where=text("status <> 'done'")),
)

# What a deletion looks for in places that know no people; gone before it is done.
privacy_traces = Table(
    "privacy_traces",
    metadata,
    Column("trace_no", BigInteger, Identity(), primary_key=True),
    Column("job_id", Text, nullable=False),
    # identifier | message | profile
    Column("kind", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("value", Text, nullable=False),
    Index(None, "job_id"),
)

# Who was deleted, and who is not to be heard, by salted hash.
privacy_tombstones = Table(
    "privacy_tombstones",
    metadata,
    Column("identifier_hash", LargeBinary, primary_key=True),
    # What was observed until then restores nothing.
    _time("deleted_at", nullable=True),
    # How often it was deleted: a profile that it names afterwards has another id.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    # The job that silenced it; null: it may be heard.
    Column("suppressed_by", Text),
    Index(
        "ix_privacy_tombstones_suppressed_by",
        "suppressed_by",
        postgresql_where=text("suppressed_by IS NOT NULL"),
    ),
)

# ── Identity ────────────────────────────────────────────────────────────────────────────────────

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", BigInteger, Identity(), primary_key=True),
    Column("type", Text, nullable=False),
    Column("value", Text, nullable=False),
    # '' for the identifier itself; 'shared' for the anonymous profile of a shared device.
    Column("variant", Text, nullable=False, server_default=text("''")),
    # The id of the profile that this node names, when it is the oldest of its profile. Issued once
    # and derived from the identifier, so every profile id ever issued finds its node, and through
    # it the current profile, in one step.
    Column("profile_id", Text, nullable=False, unique=True),
    # Nodes that any link fact ties together, accepted or not, share a component: the node_id of
    # one of them.
    Column("component_id", BigInteger, nullable=False),
    _time("first_seen"),
    _time("last_seen"),
    # Events that hang on this node.
    Column("events", BigInteger, nullable=False, server_default=text("0")),
    Column("source_numbers", ARRAY(Integer), nullable=False, server_default=text("'{}'")),
    # Found to tie too many people together: its links are withdrawn and join no component.
    Column("quarantined", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("type", "value", "variant"),
    Index(None, "component_id"),
    Index("ix_nodes_quarantined", "node_id", postgresql_where=text("quarantined")),
    postgresql_with={"fillfactor": "70"},
)

# Whoever changes a component holds its row here. A table of its own, because the rows of ``nodes``
# are also updated for their counters, in another order. Nothing is lost with its content.
component_locks = Table(
    "component_locks",
    metadata,
    Column("component_id", BigInteger, primary_key=True, autoincrement=False),
    prefixes=["UNLOGGED"],
)

# A link fact: these identifiers were seen together. Kept for ever; what becomes of it is computed.
links = Table(
    "links",
    metadata,
    Column("link_id", BigInteger, Identity(), primary_key=True),
    # '<trusted 0|1>:<node ids, ascending>', the id of a decision taken by hand, or 'twin:<nodes>'.
    Column("link_key", Text, nullable=False, unique=True),
    # seen; by hand: merge | exception | parted | detached; twin: spellings of one identifier
    Column("kind", Text, nullable=False),
    Column("node_ids", ARRAY(BigInteger), nullable=False),
    Column("component_id", BigInteger, nullable=False),
    # The earliest observation by (event time, message id).
    _time("first_at"),
    Column("first_message_id", Text, nullable=False),
    Column("first_source_number", Integer),
    # Days (UTC) on which it was seen: a set union, so independent of order and duplicates.
    Column("active_days", DATEMULTIRANGE, nullable=False),
    _time("retracted_at", nullable=True),
    Index(None, "component_id"),
    CheckConstraint("cardinality(node_ids) >= 2", name="two_nodes"),
)

# Nodes that are spellings of one identifier, by what these have in common: the digest of a contact,
# the name without its scope. Empty until somebody sends a hashed or scoped identifier.
identifier_forms = Table(
    "identifier_forms",
    metadata,
    Column("type", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("node_ids", ARRAY(BigInteger), nullable=False),
    PrimaryKeyConstraint("type", "form"),
)

# What people decided by hand: merge | unmerge | block. A merge or unmerge has its fact in
# ``links``, a standing block is read with the rules.
identity_decisions = Table(
    "identity_decisions",
    metadata,
    Column("decision_no", BigInteger, Identity(), primary_key=True),
    Column("decision_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    # [{"type", "value"}, …], sorted.
    Column("identifiers", JSONB, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _now("made_at"),
    _time("undone_at", nullable=True),
    Column("undone_by", Text),
    Column("undone_reason", Text),
    Index(None, "kind", postgresql_where=text("undone_at IS NULL")),
)

# Two people who may be one, for somebody to decide. Each side is the node that names a profile, so
# the pair follows its people through merges; with a node its suggestions go.
identity_suggestions = Table(
    "identity_suggestions",
    metadata,
    Column("suggestion_no", BigInteger, Identity(), primary_key=True),
    Column("suggestion_id", Text, nullable=False, unique=True),
    Column("node_a", BigInteger, ForeignKey("nodes.node_id", ondelete="CASCADE"), nullable=False),
    Column("node_b", BigInteger, ForeignKey("nodes.node_id", ondelete="CASCADE"), nullable=False),
    # The probability that they are one person, and the weight of all evidence in bits.
    Column("score", Double, nullable=False),
    Column("weight", Double, nullable=False),
    # [{"field", "level", "rank", "weight"}, …]: how they compare. Values are read from the people.
    Column("evidence", JSONB, nullable=False),
    # Keyed hashes of what speaks for it: what is in here was known to whoever rejected it.
    Column("proofs", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # open | accepted | rejected | stale
    Column("status", Text, nullable=False, server_default=text("'open'")),
    _now("found_at"),
    # By the newest run that found it.
    _now("seen_at"),
    _time("decided_at", nullable=True),
    Column("decided_by", Text),
    Column("reason", Text),
    # The merge by hand that came of it.
    Column("decision_id", Text),
    UniqueConstraint("node_a", "node_b"),
    Index(None, "node_b"),
    Index(None, "status", "score", "suggestion_no"),
)

# Searches for people who may be one; the newest is shown. Who searches holds an advisory lock.
identity_suggestion_runs = Table(
    "identity_suggestion_runs",
    metadata,
    Column("run_no", BigInteger, Identity(), primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    # queued | running | done | not_enough_data | failed | cancelled
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("actor", Text, nullable=False),
    _now("requested_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # reading | training | comparing | storing
    Column("phase", Text),
    # The newest batch when it began: what came later, it did not see.
    Column("seq", BigInteger),
    Column("people", BigInteger),
    Column("pairs", BigInteger),
    Column("suggestions", BigInteger),
    # priors | trained
    Column("model", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    Index(None, "state"),
)

# Every version of the rules; the newest holds. Version 1 is the default and has no row.
identity_rules = Table(
    "identity_rules",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    _now("made_at"),
    # How far the people of before have been worked out anew: every component up to this one.
    Column("done_until", BigInteger, nullable=False, server_default=text("0")),
    # Components that there were when that began; null before.
    Column("components_total", BigInteger),
    Column("components", BigInteger, nullable=False, server_default=text("0")),
    Column("profiles", BigInteger, nullable=False, server_default=text("0")),
    _time("applied_at", nullable=True),
)

# The newest counts; what each version planned stays to be read.
tracking_plans = Table(
    "tracking_plans",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    _now("made_at"),
)

# What the replays of all processes came to, for metrics; each adds its own now and then.
identity_tallies = Table(
    "identity_tallies",
    metadata,
    Column("name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("value", Double, nullable=False),
    PrimaryKeyConstraint("name", "label"),
)

# What the replay of a component withheld, and why. Rewritten with the component.
refusals = Table(
    "refusals",
    metadata,
    Column("refusal_id", BigInteger, Identity(), primary_key=True),
    Column("component_id", BigInteger, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("node_a", BigInteger, nullable=False),
    Column("node_b", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    _time("at"),
    Index(None, "component_id"),
    # What a full component withholds is looked for every second.
    Index("ix_refusals_limit", "refusal_id", postgresql_where=text("reason = 'limit'")),
)

# The one place that says whose an event is: (node, event time) → profile.
# All but shared devices have a single row from -infinity to infinity.
node_profiles = Table(
    "node_profiles",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    _time("since"),
    _time("until"),
    # The node_id of the node that names the profile.
    Column("profile_no", BigInteger, nullable=False),
    PrimaryKeyConstraint("node_id", "since"),
    Index(None, "profile_no"),
    # The few nodes whose time is cut.
    Index("ix_node_profiles_cut", "node_id", postgresql_where=text("since > '-infinity'")),
)

profiles = Table(
    "profiles",
    metadata,
    Column("profile_no", BigInteger, primary_key=True, autoincrement=False),
    Column("profile_id", Text, nullable=False, unique=True),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    # Event time of the newest link that made one of two people who had both been seen before;
    # null when everything it is made of was new when it came.
    _time("joined_at", nullable=True),
    _now("changed_at"),
    postgresql_with={"fillfactor": "70"},
)

# What happened to profiles: the history shown to people and the outbox for machines.
profile_changes = Table(
    "profile_changes",
    metadata,
    Column("change_no", BigInteger, Identity(), primary_key=True),
    Column("profile_id", Text, nullable=False),
    # created | merged | parted | renamed | identifier_added
    Column("change", Text, nullable=False),
    Column("details", JSONB, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    _now("at"),
    Index(None, "profile_id"),
    Index(None, "batch_id"),
    # Who was merged into another keeps that in the history once they are parted again.
    Index("ix_profile_changes_from", text("(details ->> 'from')")),
)

# ── What is known of people, per node ───────────────────────────────────────────────────────────

# Last-writer registers by (event time, message id). JSON null is a removal with its time.
# One for each span of ``node_profiles`` in which something was said, by the span's beginning, for
# each source, and for each part of a trait; see ``cdp.trait_parts``.
traits = Table(
    "traits",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", JSON, nullable=False),
    _time("at"),
    Column("message_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    Column("part", Text, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("node_id", "name", "part", "source_number", "since"),
    postgresql_with={"fillfactor": "80"},
)

# Which traits were ever said of anybody, and what is settled about them.
trait_names = Table(
    "trait_names",
    metadata,
    Column("name", Text, primary_key=True),
    # Bits: 1 text, 2 number, 4 boolean, 8 list, 16 object.
    Column("types", Integer, nullable=False),
    _time("first_seen"),
    _time("last_seen"),
)

# How many values were not kept of whom, because there are too many.
refused_traits = Table(
    "refused_traits",
    metadata,
    Column(
        "node_id",
        BigInteger,
        ForeignKey("nodes.node_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("registers", BigInteger, nullable=False),
    _time("last_at"),
)

# Whether values under a name are personal, where that differs from what the name says.
trait_settings = Table(
    "trait_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("personal", Boolean, nullable=False),
    _now("updated_at"),
)

consents = Table(
    "consents",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("granted", Boolean, nullable=False),
    _time("at"),
    Column("message_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    PrimaryKeyConstraint("node_id", "purpose", "since"),
)

# What people stated about a purpose, or a channel of it (``marketing.email``), over time: each
# change of mind, and all that came with evidence. Repetitions are in the timeline only.
consent_statements = Table(
    "consent_statements",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    Column("purpose", Text, nullable=False),
    _time("at"),
    Column("message_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    Column("granted", Boolean, nullable=False),
    # {"source", "evidence"} as they were given; null when the message is all there is.
    Column("evidence", JSON),
    PrimaryKeyConstraint("node_id", "purpose", "at", "message_id", "source_number"),
)

# ── Orders ──────────────────────────────────────────────────────────────────────────────────────

# What each message said of an order: kept for ever, so that the order can be folded anew.
order_reports = Table(
    "order_reports",
    metadata,
    Column("scope", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    # The buyer, as this report knows them; null for revenue without a person.
    Column("node_id", BigInteger),
    Column("report", JSON, nullable=False),
    PrimaryKeyConstraint("scope", "order_id", "source_number", "message_id"),
)

# An order as all its reports say. Amounts are minor units of its currency.
orders = Table(
    "orders",
    metadata,
    Column("order_no", BigInteger, Identity(), primary_key=True),
    Column("scope", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("node_id", BigInteger),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    _time("placed_at"),
    _time("updated_at"),
    Column("store", Text),
    Column("channel", Text),
    # The whole of it, lines and refunds included.
    Column("document", JSON, nullable=False),
    UniqueConstraint("scope", "order_id"),
    Index(None, "node_id", "placed_at"),
)

# How much of ``to_currency`` one unit of ``currency`` is, from that date (UTC) until the next.
rates = Table(
    "rates",
    metadata,
    Column("currency", Text, nullable=False),
    Column("to_currency", Text, nullable=False),
    Column("at", Date, nullable=False),
    Column("rate", Numeric, nullable=False),
    PrimaryKeyConstraint("currency", "to_currency", "at"),
    CheckConstraint("rate > 0", name="positive"),
)

# ── Service: tickets, calls, answers, complaints, reviews ───────────────────────────────────────

# What was said in events of service. On nodes, as the events are, and beside them: an open ticket
# is to be seen when the timeline of its day lies elsewhere.
service_events = Table(
    "service_events",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    _time("at"),
    Column("source_number", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    # ticket | call | answer | complaint | review
    Column("kind", Text, nullable=False),
    # The ticket, call, … that it is about.
    Column("record_id", Text, nullable=False),
    # Of tickets and complaints: whether it is open by this; null when it says nothing of it.
    Column("is_open", Boolean),
    # An answer to the question of recommendation, 0 to 10.
    Column("nps", SmallInteger),
    Column("properties", JSON, nullable=False),
    PrimaryKeyConstraint("node_id", "at", "source_number", "message_id"),
)

# The touches (``cdp.profiles.touches``) of days that were dropped because the archive has them, so
# that a page finds a person's first one. Only what is shown of them, read as an event is.
touch_facts = Table(
    "touch_facts",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    _time("at"),
    Column("source_number", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    # Its name, as rules of retention call it.
    Column("event", Text),
    Column("type", Text, nullable=False),
    Column("context", JSON, nullable=False),
    Column("properties", JSON, nullable=False),
    PrimaryKeyConstraint("node_id", "at", "source_number", "message_id"),
)

# When something was seen on devices that were shared when their days were dropped: what of it was
# whose is counted.
shared_device_facts = Table(
    "shared_device_facts",
    metadata,
    Column("node_id", BigInteger, nullable=False),
    _time("at"),
    Column("source_number", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    # Its name, as rules of retention call it.
    Column("event", Text),
    PrimaryKeyConstraint("node_id", "at", "source_number", "message_id"),
)

# ── Accounts: companies and households ──────────────────────────────────────────────────────────

# One numbering for all sources.
accounts = Table(
    "accounts",
    metadata,
    Column("account_no", BigInteger, Identity(), primary_key=True),
    Column("account_id", Text, nullable=False, unique=True),
    _now("created_at"),
)

# Last-writer registers by (event time, message id): the account's own fields (type, parent) and its
# traits. JSON null is a removal with its time.
account_facts = Table(
    "account_facts",
    metadata,
    Column("account_no", BigInteger, nullable=False),
    # field | trait
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", JSON, nullable=False),
    _time("at"),
    Column("message_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    PrimaryKeyConstraint("account_no", "kind", "name"),
    # Which accounts are below another.
    Index(
        "ix_account_facts_parent",
        text("(value #>> '{}')"),
        postgresql_where=text("kind = 'field' AND name = 'parent'"),
    ),
    postgresql_with={"fillfactor": "80"},
)

# Registers too: whether a node belongs to an account (fact ``member``, true or false), and as what
# (fact ``role``, text or null). On nodes, so that members follow who is who.
account_members = Table(
    "account_members",
    metadata,
    Column("account_no", BigInteger, nullable=False),
    Column("node_id", BigInteger, nullable=False),
    Column("fact", Text, nullable=False),
    Column("value", JSON, nullable=False),
    _time("at"),
    Column("message_id", Text, nullable=False),
    Column("source_number", Integer, nullable=False),
    # The beginning of the span of the node in which it was said.
    Column("since", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    PrimaryKeyConstraint("account_no", "node_id", "fact", "since"),
    Index(None, "node_id"),
    postgresql_with={"fillfactor": "80"},
)

# ── Commit order, for the analytics feed ────────────────────────────────────────────────────────

batch_ids = Sequence("batch_ids", metadata=metadata)

# One row; whoever commits a batch holds its lock for the last moment of the transaction, so
# ``seq`` is gapless and in commit order.
batch_head = Table(
    "batch_head",
    metadata,
    Column("head_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("next_seq", BigInteger, nullable=False),
    CheckConstraint("head_no = 1", name="one_row"),
)

batches = Table(
    "batches",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", BigInteger, nullable=False, unique=True),
    _now("committed_at"),
    # Receipt of the newest event in it; null when it holds none.
    _time("received_until", nullable=True),
    # Positions reached, by log and partition: {"postgres": {"0": 17}}.
    Column("positions", JSONB, nullable=False, server_default=text("'{}'")),
    Column("events", Integer, nullable=False, server_default=text("0")),
    # What changed, by key; readers fetch the current rows, and a missing row means it is gone.
    Column("nodes", ARRAY(BigInteger), nullable=False),
    Column("trait_nodes", ARRAY(BigInteger), nullable=False),
    Column("moved_nodes", ARRAY(BigInteger), nullable=False),
    Column("profiles", ARRAY(BigInteger), nullable=False),
    Column("orders", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    Column("accounts", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    # Nodes erased for privacy: their events go too.
    Column("erased_nodes", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    # The keys of messages that had their effect before, for whoever watches a source.
    Column("duplicates", ARRAY(LargeBinary), nullable=False, server_default=text("'{}'")),
    # Whether rates of currencies changed, which may be anybody's figures.
    Column("rates", Boolean, nullable=False, server_default=text("false")),
    # Profiles that go on without an identifier that was theirs, and the ids of erased ones.
    Column("left_profiles", ARRAY(BigInteger), nullable=False, server_default=text("'{}'")),
    Column("erased_profiles", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # Profile ids that others absorbed or came out of: [{"from": …, "into": …}], so that memberships
    # can say why.
    Column("merges", JSONB, nullable=False, server_default=text("'[]'")),
)

# ── Changes of profiles, for those who keep a copy ──────────────────────────────────────────────

# What happened to a profile, in commit order. One row may be several changes: whoever reads takes
# them apart.
profile_feed = Table(
    "profile_feed",
    metadata,
    Column("change_no", BigInteger, primary_key=True, autoincrement=False),
    Column("profile_id", Text, nullable=False),
    _time("at"),
    Column("version", BigInteger),
    # created | merged | parted | deleted, alone; or some of identifiers, traits, consent.
    Column("kinds", ARRAY(Text), nullable=False),
    # Into which profile it was merged, or from which it was parted.
    Column("other_id", Text),
    # Names, never values.
    Column("traits", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("purposes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Index(None, "profile_id"),
)

# One row: how far batches have become changes. Whoever holds its lock goes on.
profile_feed_head = Table(
    "profile_feed_head",
    metadata,
    Column("head_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("change_no", BigInteger, nullable=False),
    # Past retention: a cursor before it would miss some.
    Column("dropped_until", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("head_no = 1", name="one_row"),
)

# What was last told of each profile: digests of its traits and purposes, by name.
profile_feed_told = Table(
    "profile_feed_told",
    metadata,
    Column("profile_no", BigInteger, primary_key=True, autoincrement=False),
    Column("traits", JSONB, nullable=False),
    Column("purposes", JSONB, nullable=False),
)

# Somebody asked that DuckDB be fed anew. Every process that has such a file does so, once.
analytics_rebuilds = Table(
    "analytics_rebuilds",
    metadata,
    Column("rebuild_no", BigInteger, Identity(), primary_key=True),
    Column("actor", Text, nullable=False),
    _now("asked_at"),
)

analytics_rebuild_runs = Table(
    "analytics_rebuild_runs",
    metadata,
    Column("rebuild_no", BigInteger, nullable=False),
    # Host and folder of the file.
    Column("place", Text, nullable=False),
    # emptying | feeding | done
    Column("state", Text, nullable=False),
    Column("batches", BigInteger, nullable=False, server_default=text("0")),
    Column("batches_total", BigInteger, nullable=False),
    _now("started_at"),
    _time("finished_at", nullable=True),
    PrimaryKeyConstraint("rebuild_no", "place"),
)

# ── Segments and tags ───────────────────────────────────────────────────────────────────────────

segments = Table(
    "segments",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=text("''")),
    # JSON as it was written: jsonb would reorder keys and round numbers.
    Column("rule", JSON, nullable=False),
    Column("consent", Text),
    Column("version", Integer, nullable=False),
    # The version that the memberships follow; behind ``version`` until it is evaluated.
    Column("evaluated_version", Integer, nullable=False, server_default=text("0")),
    # The newest change of anything when the segment was made: its own changes come after it.
    Column("first_change_no", BigInteger, nullable=False, server_default=text("0")),
    _now("created_at"),
    _now("updated_at"),
)

segment_versions = Table(
    "segment_versions",
    metadata,
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("rule", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    _now("at"),
    PrimaryKeyConstraint("key", "version"),
)

# One row. Whoever refreshes memberships and tag values holds the refresh lock and moves it in the
# transaction of the effects, so change numbers are gapless and in commit order.
refresh_head = Table(
    "refresh_head",
    metadata,
    Column("head_no", SmallInteger, primary_key=True, autoincrement=False),
    # The newest batch whose effects are in memberships and tag values.
    Column("seq", BigInteger, nullable=False),
    # The newest change of a membership or a tag value.
    Column("change_no", BigInteger, nullable=False),
    # The instant at which rules were last evaluated; facts up to it have come true.
    _time("evaluated_at", nullable=True),
    CheckConstraint("head_no = 1", name="one_row"),
)

memberships = Table(
    "memberships",
    metadata,
    Column("segment", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    Column("profile_id", Text, nullable=False),
    _time("entered_at"),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("segment", "profile_id"),
    Index(None, "profile_id"),
)

membership_changes = Table(
    "membership_changes",
    metadata,
    Column("change_no", BigInteger, primary_key=True, autoincrement=False),
    Column("segment", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    Column("profile_id", Text, nullable=False),
    Column("change", Text, nullable=False),
    _time("at"),
    Column("cause", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Index(None, "segment", "change_no"),
)

tags = Table(
    "tags",
    metadata,
    Column("key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Column("evaluated_version", Integer, nullable=False, server_default=text("0")),
    Column("first_change_no", BigInteger, nullable=False, server_default=text("0")),
    _now("created_at"),
    _now("updated_at"),
    # Whoever defined it may not see personal values: its SQL reads masked tables.
    Column("is_masked", Boolean, nullable=False, server_default=text("false")),
)

tag_values = Table(
    "tag_values",
    metadata,
    Column("key", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    Column("profile_id", Text, nullable=False),
    Column("value", JSON, nullable=False),
    _time("at"),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("key", "profile_id"),
    Index(None, "profile_id"),
)

# Numbered together with ``membership_changes``.
tag_changes = Table(
    "tag_changes",
    metadata,
    Column("change_no", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    Column("profile_id", Text, nullable=False),
    # Null: the tag is gone.
    Column("value", JSON),
    _time("at"),
    Column("cause", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Index(None, "key", "change_no"),
    Index(None, "profile_id", "key", "change_no"),
)

# At most one row: up to where retention has cut ``tag_changes``.
tag_horizon = Table(
    "tag_horizon",
    metadata,
    Column("head_no", SmallInteger, primary_key=True, autoincrement=False),
    # Of the changes up to it only those that still hold are left.
    Column("dropped_until", BigInteger, nullable=False),
    # Null: nothing that was closed is missing.
    _time("known_from", nullable=True),
    CheckConstraint("head_no = 1", name="one_row"),
)

# A tier that somebody has reached or sunk to, and that their tag takes when it has held long
# enough.
tag_moves = Table(
    "tag_moves",
    metadata,
    Column("key", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    # As JSON text.
    Column("level", Text, nullable=False),
    Column("rises", Boolean, nullable=False),
    _time("since"),
    _time("due_at"),
    PrimaryKeyConstraint("key", "profile_no", "level"),
    Index(None, "due_at"),
)

# Why the values of a tag by SQL stay as they are.
tag_failures = Table(
    "tag_failures",
    metadata,
    Column("key", Text, primary_key=True),
    # Of the definition that failed.
    Column("version", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    _time("at"),
)

# What people set by hand, on the identifier they named: it follows that identifier's profile.
manual_tag_values = Table(
    "manual_tag_values",
    metadata,
    Column("key", Text, nullable=False),
    Column("node_id", BigInteger, nullable=False),
    # JSON null is a removal with its time.
    Column("value", JSON, nullable=False),
    _time("at"),
    PrimaryKeyConstraint("key", "node_id"),
    Index(None, "node_id"),
)

# ── Destinations ────────────────────────────────────────────────────────────────────────────────

# Where changes of segments and tags are sent, and how far each receiver has been told.
destinations = Table(
    "destinations",
    metadata,
    Column("destination_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("segments", ARRAY(Text), nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    Column("fields", ARRAY(Text), nullable=False),
    Column("consent", ARRAY(Text), nullable=False),
    Column("is_masked", Boolean, nullable=False),
    Column("secret", Text, nullable=False),
    # active | paused
    Column("status", Text, nullable=False, server_default=text("'active'")),
    Column("status_reason", Text),
    _now("created_at"),
    _now("updated_at"),
    # The change of memberships and tags, and the batch, up to which it was looked at.
    Column("change_no", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    # Where the look at everybody stands; null when it is done.
    Column("scan", JSON),
    # Of its newest delivery.
    Column("number", BigInteger, nullable=False, server_default=text("0")),
)

# What each receiver was told of each person last, as a digest.
destination_rows = Table(
    "destination_rows",
    metadata,
    Column("destination_id", Text, nullable=False),
    # segment:vip, tag:rfm
    Column("stream", Text, nullable=False),
    Column("profile_no", BigInteger, nullable=False),
    Column("profile_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("destination_id", "stream", "profile_no"),
)

# The outbox, and what became of it.
deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("destination_id", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("rows", JSON, nullable=False),
    Column("row_count", Integer, nullable=False),
    # Whom the rows are about, so that a deletion finds them.
    Column("people", ARRAY(Text), nullable=False),
    # queued | delivered | failed
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _now("created_at"),
    _time("first_attempt_at", nullable=True),
    _time("next_attempt_at", nullable=True),
    _time("delivered_at", nullable=True),
    Column("last_status", Integer),
    Column("last_error", Text),
    UniqueConstraint("destination_id", "number"),
    Index(None, "created_at"),
    Index(None, "people", postgresql_using="gin"),
)

# ── Archive ─────────────────────────────────────────────────────────────────────────────────────

# Days of receipt whose events are in the archive. What a day consists of is said here alone: a file
# that is not in ``archive_parts`` is none of it.
archive_days = Table(
    "archive_days",
    metadata,
    Column("day", Date, primary_key=True),
    # Every row in its files was committed by this batch or before.
    Column("seq", BigInteger, nullable=False),
    # How often rows were taken out of it, by a deletion or because their time was over.
    Column("removals", Integer, nullable=False, server_default=text("0")),
    Column("rows", BigInteger, nullable=False),
    _time("archived_at"),
    # When its rows in Postgres were dropped: from then on they are read from its files.
    _time("dropped_at", nullable=True),
)

archive_parts = Table(
    "archive_parts",
    metadata,
    Column("path", Text, primary_key=True),
    Column("day", Date, ForeignKey("archive_days.day"), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    # Null: none of its events has a person.
    Column("first_node", BigInteger),
    Column("last_node", BigInteger),
    _time("first_at"),
    _time("last_at"),
    Index(None, "day"),
)

# How long events are kept, where that is less than for ever. Null stands for any.
retention_rules = Table(
    "retention_rules",
    metadata,
    Column("rule_no", Integer, Identity(), primary_key=True),
    Column("source_id", Text),
    Column("event", Text),
    Column("days", Integer, nullable=False),
)

# Up to when events of a source and name were removed, and how many; '' stands for any name.
retention_removals = Table(
    "retention_removals",
    metadata,
    Column("source_number", Integer, nullable=False),
    Column("event", Text, nullable=False),
    _time("before"),
    Column("removed", BigInteger, nullable=False, server_default=text("0")),
    _time("removed_at", nullable=True),
    PrimaryKeyConstraint("source_number", "event"),
)

# What a built-in tag last came to over everybody.
tag_computations = Table(
    "tag_computations",
    metadata,
    Column("key", Text, primary_key=True),
    # Of the definition that it followed.
    Column("version", Integer, nullable=False),
    # ready | not_enough_data
    Column("status", Text, nullable=False),
    Column("summary", JSON),
    Column("model", JSON),
    # Cuts and parameters, by which a few people are scored without the others.
    Column("fitted", JSON, nullable=False),
    _time("computed_at"),
)

# ── Imports ─────────────────────────────────────────────────────────────────────────────────────

# The queue of imports, and how far each has come. The files lie in the data folder.
imports = Table(
    "imports",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("source_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("mapping", JSONB, nullable=False),
    # Of file, kind, mapping and source: the same import again is recognised by it.
    Column("fingerprint", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("format", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    Column("rows", BigInteger, nullable=False, server_default=text("0")),
    Column("accepted", BigInteger, nullable=False, server_default=text("0")),
    Column("rejected", BigInteger, nullable=False, server_default=text("0")),
    Column("share", Double, nullable=False, server_default=text("0")),
    Column("rate", Double),
    Column("waiting", Text),
    Column("error_code", Text),
    Column("error_message", Text),
    # Per partition of the log, the last offset.
    Column("reached", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("runner_id", Text),
    _time("lease_until", nullable=True),
    Column("created_by", Text, nullable=False),
    _time("said_at"),
    _now("created_at"),
    _time("started_at", nullable=True),
    _now("updated_at"),
    _time("finished_at", nullable=True),
    _time("file_removed_at", nullable=True),
    Index(None, "fingerprint"),
    Index(None, "digest"),
    Index(None, "created_at", "import_id"),
)

import_rejected = Table(
    "import_rejected",
    metadata,
    Column("import_id", Text, nullable=False),
    Column("row_number", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    PrimaryKeyConstraint("import_id", "row_number"),
)
