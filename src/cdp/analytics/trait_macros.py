"""What the parts of a trait amount to, as macros of DuckDB: the meaning is ``cdp.trait_value``'s.

``core.trait_value`` is an aggregate over the registers of one trait of one person, removals
included; its result is JSON, ``null`` for nothing. Most traits have no parts, and are as fast as
the newest value; only where some have, ``is_parted`` says so.
"""

from __future__ import annotations

from cdp.trait_parts import ADD_OP, ONCE, SET_ONCE_OP

# A patch merges by RFC 7396 only into an object: into anything else it would keep its nulls.
MACROS = f"""
CREATE MACRO core.apply_patch(value, patch) AS
    CASE WHEN starts_with(patch::VARCHAR, '{{"{ADD_OP}":')
         THEN to_json(list_sort(list_distinct(list_concat(
                  CASE WHEN starts_with(value::VARCHAR, '[')
                       THEN json_extract(value, '$[*]') ELSE []::JSON[] END,
                  json_extract(patch, '$."{ADD_OP}"[*]')))))
         WHEN starts_with(patch::VARCHAR, '{{')
         THEN json_merge_patch(
                  CASE WHEN starts_with(value::VARCHAR, '{{') THEN value
                       ELSE '{{}}'::JSON END, patch)
         ELSE patch END;
CREATE MACRO core.fold_patches(patches) AS
    list_reduce(list_prepend('null'::JSON, patches),
                lambda value, patch: core.apply_patch(value, patch));
CREATE MACRO core.or_once(folded, newest, once, first) AS
    CASE WHEN json_type(coalesce(folded, 'null'::JSON)) <> 'NULL' THEN folded
         WHEN once IS NULL OR newest > first THEN 'null'::JSON
         ELSE json_extract(once, '$."{SET_ONCE_OP}"') END;
CREATE MACRO core.is_parted(part, value) AS part <> '' OR starts_with(value::VARCHAR, '{{');
CREATE MACRO core.trait_value(value, part, rank, moment, message_id, source_number) AS
    core.or_once(
        core.fold_patches(
            list(value ORDER BY row(rank, moment, message_id, source_number))
                FILTER (part <> '{ONCE}')),
        max(row(rank, moment, message_id, source_number)) FILTER (part <> '{ONCE}'),
        arg_min(value, row(-rank, moment, message_id, source_number)) FILTER (part = '{ONCE}'),
        arg_min(row(rank, moment, message_id, source_number),
                row(-rank, moment, message_id, source_number)) FILTER (part = '{ONCE}'));
"""
