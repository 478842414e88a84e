"""The table ``tickets`` as a view over events: of each part the newest word counts. Pure text.

The same meaning as where a person's tickets are shown; a test holds the two equal.
"""

from __future__ import annotations

from cdp.analytics import masks

_EVENTS = (
    "Ticket Created", "Ticket Opened", "Ticket Updated", "Ticket Reopened", "Ticket Solved",
    "Ticket Closed",
)  # fmt: skip
_CLOSED = (
    "closed", "solved", "resolved", "done", "completed", "cancelled", "canceled", "deleted", "spam",
    "merged", "已关闭", "关闭", "已解决", "解决", "已完成", "完成", "已取消", "取消",
)  # fmt: skip


def _list(texts: tuple[str, ...]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def _read(name: str) -> str:
    # What is no text and no number says nothing.
    kinds = "'VARCHAR', 'BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE'"
    value = f"nullif(trim(e.properties ->> '$.{name}'), '')"
    return f"if(json_type(e.properties, '$.{name}') IN ({kinds}), {value}, NULL)"


_CLOSED_AT = f"coalesce({_read('closed_at')}, {_read('resolved_at')})"
_STATUS = f"""coalesce({_read("status")}, if({_CLOSED_AT} IS NOT NULL, 'closed', NULL),
       CASE e.event WHEN 'Ticket Solved' THEN 'solved' WHEN 'Ticket Closed' THEN 'closed'
                    WHEN 'Ticket Updated' THEN NULL ELSE 'open' END)"""
_TEXTS = ("subject", "category", "priority", "channel", "assignee")


def tickets_view(*, is_masked: bool) -> str:
    """Return the query of the table."""

    def show(name: str) -> str:
        value = f"arg_max({name}, place) FILTER ({name} IS NOT NULL)"
        return f"{masks.mask_emails(value) if is_masked else value} AS {name}"

    texts = ",\n       ".join(show(name) for name in _TEXTS)
    read = ", ".join(
        f"{_read(name)} AS {name}"
        if name != "assignee"
        else f"coalesce({_read('assignee')}, {_read('agent')}) AS assignee"
        for name in _TEXTS
    )
    return f"""
SELECT p.profile_id, ticket_id, arg_max(status, place) FILTER (status IS NOT NULL) AS status,
       arg_max(is_open, place) FILTER (is_open IS NOT NULL) AS is_open,
       {texts},
       min("at") AS created_at, max("at") AS updated_at, count(*) AS events
  FROM (SELECT *, lower(status) NOT IN ({_list(_CLOSED)}) AS is_open,
               ("at", coalesce(lower(status) IN ({_list(_CLOSED)}), false), message_id) AS place
          FROM (SELECT m.profile_no, e."at", e.message_id, {_STATUS} AS status, {read},
                       coalesce({_read("ticket_id")}, e.message_id) AS ticket_id
                  FROM core.events e
                  JOIN core.node_profiles m
                    ON m.node_id = e.node_id AND e."at" >= m.since AND e."at" < m.until
                 WHERE e.event IN ({_list(_EVENTS)}))) t
  JOIN core.profiles p ON p.profile_no = t.profile_no
 GROUP BY t.profile_no, p.profile_id, ticket_id
"""
