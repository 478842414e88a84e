"""The tables that the SDKs' warehouses have, as views over events: a table per kind of call.

``tracks``, ``pages``, ``screens``, ``identifies``, ``groups``, ``aliases``, under the column names
that people know from there; and ``sessions`` and ``touches``, which mean what a profile's page
shows of visits; a test holds them equal. Pure text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cdp.analytics import masks

CLICK_IDS = (
    "gclid", "gbraid", "wbraid", "dclid", "msclkid", "fbclid", "ttclid", "twclid", "li_fat_id",
    "bd_vid", "qz_gdt", "gdt_vid", "clickid",
)  # fmt: skip
"""Parameters by which advertisers know a click."""

_CONTEXT = {
    "context_page_url": ("page", "url"),
    "context_page_path": ("page", "path"),
    "context_page_referrer": ("page", "referrer"),
    "context_page_title": ("page", "title"),
    "context_campaign_name": ("campaign", "name"),
    "context_campaign_source": ("campaign", "source"),
    "context_campaign_medium": ("campaign", "medium"),
    "context_campaign_term": ("campaign", "term"),
    "context_campaign_content": ("campaign", "content"),
    "context_user_agent": ("userAgent",),
    "context_locale": ("locale",),
    "context_library_name": ("library", "name"),
    "context_library_version": ("library", "version"),
}
_OF_PAGES = ("name", "url", "path", "referrer", "title")
# As ``event_views.snake_case``.
_SNAKE = (
    "lower(trim(regexp_replace(regexp_replace(e.event, '([a-z0-9])([A-Z])', '\\1_\\2', 'g'),"
    " '[^\\p{L}\\p{N}_]+', '_', 'g'), '_'))"
)
_OWNED = """core.events e
  LEFT JOIN core.node_profiles m
    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until
  LEFT JOIN core.profiles p ON p.profile_no = m.profile_no"""

# Of a call without a page in its context, a page call has what it says itself.
_VISITS = """
SELECT p.profile_id, m.profile_no, e.source_id, e.message_id, e."at", e.type,
       e.context -> '$.campaign' AS campaign,
       coalesce(e.context -> '$.page', if(e.type = 'page', e.properties, NULL)) AS page
  FROM core.events e
  JOIN core.node_profiles m
    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until
  JOIN core.profiles p ON p.profile_no = m.profile_no
"""
_HOST = "lower(nullif(regexp_extract({url}, '^[a-z]+://(?:www\\.)?([^/?#:]+)', 1), ''))"


def list_views(*, is_masked: bool, chosen: masks.Choices) -> dict[str, str]:
    """Return the query of each table; ``chosen`` is what is personal."""

    def show(text: str) -> str:
        return masks.mask_emails(text) if is_masked else text

    def document(value: str, is_place: str = "false") -> str:
        return masks.mask_document(value, is_place, chosen) if is_masked else value

    def identifier(kind: str) -> str:
        shown = masks.mask_identifier("n.type", "n.value") if is_masked else "n.value"
        return f"CASE n.type WHEN '{kind}' THEN {shown} END"

    fixed = {
        "id": "e.message_id",
        "received_at": "e.received_at",
        "timestamp": 'e."at"',
        "anonymous_id": identifier("anonymous_id"),
        "user_id": identifier("user_id"),
        "profile_id": "p.profile_id",
        "source_id": "e.source_id",
    }
    context = {name: show(_read("e.context", *path)) for name, path in _CONTEXT.items()}
    properties = document("e.properties", "e.type IN ('page', 'screen')")
    own: Mapping[str, dict[str, str]] = {
        "tracks": {"event": _SNAKE, "event_text": "e.event", "properties": properties},
        "pages": {name: show(_read("e.properties", name)) for name in _OF_PAGES}
        | {"properties": properties},
        "screens": {"name": show(_read("e.properties", "name")), "properties": properties},
        "identifies": {"traits": properties},
        "groups": {"group_id": show("e.group_id"), "traits": properties},
        "aliases": {},
    }
    calls = {
        name: _select_calls(_CALLS[name], fixed | more | context) for name, more in own.items()
    }
    return calls | {"sessions": _sessions(show), "touches": _touches(show)}


_CALLS = {
    "tracks": "track", "pages": "page", "screens": "screen", "identifies": "identify",
    "groups": "group", "aliases": "alias",
}  # fmt: skip


def _select_calls(call: str, columns: Mapping[str, str]) -> str:
    listed = ",\n       ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    return f"""
SELECT {listed}
  FROM {_OWNED}
  LEFT JOIN core.nodes n ON n.node_id = e.node_id
 WHERE e.type = '{call}'
"""


def _sessions(show: Callable[[str], str]) -> str:
    """A source's events of one person, up to its ``session_minutes`` apart."""
    landing = (
        "arg_min({'url': page ->> '$.url', 'referrer': page ->> '$.referrer'},"
        ' ("at", message_id))'
        " FILTER (type = 'page' OR page IS NOT NULL OR campaign IS NOT NULL)"
    )
    return f"""
WITH seen AS (
    SELECT v.*, to_minutes(s.session_minutes) AS gap
      FROM ({_VISITS}) v JOIN core.sources s ON s.source_id = v.source_id
     WHERE s.session_minutes > 0 AND v."at" <= now()),
marked AS (
    SELECT *, coalesce("at" - lag("at") OVER (PARTITION BY profile_no, source_id ORDER BY "at")
                       > gap, true) AS begins FROM seen),
numbered AS (
    SELECT *, sum(begins::INTEGER) OVER (PARTITION BY profile_no, source_id ORDER BY "at"
                                         ROWS UNBOUNDED PRECEDING) AS number FROM marked),
grouped AS (
    SELECT profile_id, source_id, min("at") AS started_at, max("at") AS ended_at,
           count(*) AS events, {landing} AS landing
      FROM numbered GROUP BY profile_no, profile_id, source_id, number)
SELECT profile_id, source_id, started_at, ended_at,
       round(epoch(ended_at - started_at))::BIGINT AS seconds, events,
       {show("landing.url")} AS landing_page, {show("landing.referrer")} AS referrer
  FROM grouped
"""


def _touches(show: Callable[[str], str]) -> str:
    """Calls that a campaign, an advertiser's click or another site brought."""
    marked = f"[?&](utm_source|utm_campaign|{'|'.join(CLICK_IDS)})=[^&]"

    def utm(name: str) -> str:
        said = f"campaign ->> '$.{'name' if name == 'campaign' else name}'"
        asked = f"url_decode(replace(regexp_extract(url, '[?&]utm_{name}=([^&#]+)', 1), '+', ' '))"
        return f"{show(f'coalesce(nullif({said}, {_EMPTY}), nullif({asked}, {_EMPTY}))')}"

    names = ", ".join(
        f"{utm(name)} AS utm_{name}" for name in ("source", "medium", "campaign", "term", "content")
    )
    from_elsewhere = f"referrer_domain <> coalesce({_HOST.format(url='url')}, '')"
    return f"""
SELECT profile_id, message_id, source_id, "at" AS "timestamp", {names},
       nullif(regexp_extract(url, '[?&]({"|".join(CLICK_IDS)})=[^&]', 1), '') AS click_id,
       {show("referrer")} AS referrer, referrer_domain, {show("url")} AS url
  FROM (SELECT *, {_HOST.format(url="referrer")} AS referrer_domain
          FROM (SELECT *, page ->> '$.url' AS url, page ->> '$.referrer' AS referrer
                  FROM ({_VISITS})))
 WHERE coalesce(campaign ->> '$.source', campaign ->> '$.name', '') <> ''
    OR regexp_matches(url, '{marked}') OR {from_elsewhere}
"""


_EMPTY = "''"


def _read(document: str, *path: str) -> str:
    return f"({document} ->> '$.{'.'.join(path)}')"
