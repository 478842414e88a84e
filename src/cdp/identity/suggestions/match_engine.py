"""Compare people with Splink in a DuckDB of its own: in memory, bounded, and gone when closed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pyarrow as pa

from cdp.identity.suggestions.candidate import COLUMNS, LIST_COLUMNS, Candidate
from cdp.identity.suggestions.model import (
    CERTAIN,
    CERTAIN_SHARE,
    CROWD,
    DIFFERENT,
    FIELDS,
    KEYS,
    LIST_KEYS,
    MIN_SCORE,
    SHARED_CONTACT,
    Field,
    Learned,
    assume_probability,
    take_in,
)

if TYPE_CHECKING:
    from splink import Linker

_SCHEMA = pa.schema(
    [
        (name, pa.list_(pa.string()) if name in LIST_COLUMNS else pa.string())
        for name in COLUMNS
        if name != "person"
    ]
).insert(0, pa.field("person", pa.int64()))
_CHUNK = 20_000
_UNKNOWN = "unknown"
_SEED = 1
_LEARNABLE_PEOPLE = 2000
_LEARNABLE_PAIRS = 50
_SAMPLED_PAIRS, _SAMPLED_PAIRS_OF_MANY = 300_000, 2_000_000
_MANY = 50_000
_TRAINED_PAIRS = 2_000_000
# Each teaches every field but the one it is about.
_TEACHERS = ("birthday", "name", "street")


class Likeness(NamedTuple):
    """How two people compare in one field; ``weight`` in bits."""

    field: str
    rank: int
    weight: float


class Pair(NamedTuple):
    """Two people, the smaller number first, and how likely they are one."""

    a: int
    b: int
    score: float
    weight: float
    evidence: tuple[Likeness, ...]
    """Of the fields that both have, in the model's order."""
    shared: tuple[str, ...]
    """Contacts that both have."""


class Interrupted(Exception):
    """Somebody wanted the comparison to end."""


class NotEnoughMemory(Exception):
    """Neither the memory nor the folder had room for it."""


class Matcher:
    """Takes people in, then compares them once. Not for several threads, but for ``interrupt``."""

    def __init__(self, folder: Path, *, memory: str, threads: int) -> None:
        """``folder`` takes what does not fit into ``memory``; it is emptied now and at the end."""
        self._folder = folder
        _remove(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._con = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": str(folder),
                "preserve_insertion_order": False,
            },
        )
        self._con.from_arrow(_SCHEMA.empty_table()).create("candidates")
        self._is_interrupted = False
        self.people = 0
        self.compared = 0
        self.model = "priors"

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Take people in."""
        rows: list[Candidate] = []
        for candidate in candidates:
            rows.append(candidate)
            if len(rows) == _CHUNK:
                self._append(rows)
                rows = []
        if rows:
            self._append(rows)

    def _append(self, rows: list[Candidate]) -> None:
        self._check()
        columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
        self._con.from_arrow(pa.table(columns, schema=_SCHEMA)).insert_into("candidates")
        self.people += len(rows)

    def find(self, tell: Callable[[str], None] = lambda _: None) -> Iterator[Pair]:
        """Compare; give the pairs that are likely enough, the likeliest first.

        ``tell`` hears ``training`` and ``comparing``. Raises ``Interrupted``, ``NotEnoughMemory``.
        """
        try:
            yield from self._find(tell)
        except Exception as error:
            # Splink wraps what DuckDB says.
            if self._is_interrupted:
                raise Interrupted from error
            if any(isinstance(one, duckdb.OutOfMemoryException) for one in _list_causes(error)):
                raise NotEnoughMemory from error
            raise

    def _find(self, tell: Callable[[str], None]) -> Iterator[Pair]:
        self._drop_offices()
        self._make_keys()
        fields, probability = FIELDS, assume_probability(self.people)
        if self.people >= _LEARNABLE_PEOPLE:
            tell("training")
            learned = self._learn()
            if learned is not None:
                fields, probability = learned
                self.model = "trained"
        tell("comparing")
        self._check()
        # A name that two of three people bear is no common name yet.
        counts = self.people >= _LEARNABLE_PEOPLE
        linker = self._link(fields, probability, counts=counts)
        found = linker.inference.predict(threshold_match_probability=MIN_SCORE)
        self._check()
        yield from self._read(found.physical_name, fields, counts=counts)

    def _drop_offices(self) -> None:
        """Let contacts that many people give be nobody's: they tell nobody apart."""
        for name in ("emails", "phones"):
            self._con.execute(
                f"""CREATE TABLE own AS
                    WITH one AS (SELECT person, unnest({name}) AS value FROM candidates),
                         many AS (SELECT value FROM one GROUP BY value
                                  HAVING count(*) > {SHARED_CONTACT})
                    SELECT person, list(value ORDER BY value) AS kept
                      FROM one ANTI JOIN many USING (value)
                     GROUP BY person"""
            )
            self._con.execute(
                f"""CREATE OR REPLACE TABLE candidates AS
                    SELECT * EXCLUDE (kept) REPLACE (coalesce(kept, []) AS {name})
                      FROM candidates LEFT JOIN own USING (person)"""
            )
            self._con.execute("DROP TABLE own")

    def _make_keys(self) -> None:
        """Write down under which keys people are compared, without those of crowds."""
        keys = ", ".join(f"{sql} AS {name}" for name, sql in KEYS.items())
        self._con.execute(f"CREATE TABLE keyed AS SELECT *, {keys} FROM candidates")
        self._con.execute("DROP TABLE candidates")
        kept = [
            f"CASE WHEN count(*) OVER (PARTITION BY {name}) <= {CROWD} THEN {name} END AS {name}"
            for name in KEYS
        ]
        for name in LIST_KEYS:
            self._con.execute(
                f"""CREATE TABLE own_{name} AS
                    WITH one AS (SELECT person, unnest({name}) AS value FROM keyed),
                         few AS (SELECT value FROM one GROUP BY value
                                 HAVING count(*) BETWEEN 2 AND {CROWD})
                    SELECT person, list(value) AS key_{name} FROM one SEMI JOIN few USING (value)
                     GROUP BY person"""
            )
        columns = ", ".join(COLUMNS)
        lists = ", ".join(f"coalesce(key_{name}, []) AS key_{name}" for name in LIST_KEYS)
        joins = " ".join(f"LEFT JOIN own_{name} USING (person)" for name in LIST_KEYS)
        self._con.execute(
            f"""CREATE TABLE people AS
                SELECT {columns}, {", ".join(kept)}, {lists} FROM keyed {joins}"""
        )
        for name in ("keyed", *(f"own_{name}" for name in LIST_KEYS)):
            self._con.execute(f"DROP TABLE {name}")

    def _link(self, fields: Iterable[Field], probability: float, *, counts: bool) -> Linker:
        from splink import Linker, SettingsCreator, block_on
        from splink.backends.duckdb import DuckDBAPI

        logging.getLogger("splink").setLevel(logging.ERROR)
        settings = SettingsCreator(
            link_type="dedupe_only",
            unique_id_column_name="person",
            comparisons=[_describe(field, counts=counts) for field in fields],
            blocking_rules_to_generate_predictions=[
                *(block_on(name) for name in KEYS),
                *(block_on(f"key_{name}", arrays_to_explode=[f"key_{name}"]) for name in LIST_KEYS),
            ],
            probability_two_random_records_match=probability,
            retain_matching_columns=True,
            retain_intermediate_calculation_columns=True,
        )
        api = DuckDBAPI(self._con)
        return Linker(api.register("people"), settings, log_level=None)

    def _learn(self) -> tuple[tuple[Field, ...], float] | None:
        """Learn the model from the people themselves; ``None`` when too few are twice there."""
        certain = self._count_certain()
        if certain < _LEARNABLE_PAIRS:
            return None
        everybody = self.people * (self.people - 1) / 2
        probability = min(certain / CERTAIN_SHARE, self.people) / everybody
        linker = self._link(FIELDS, probability, counts=True)
        sampled = _SAMPLED_PAIRS if self.people < _MANY else _SAMPLED_PAIRS_OF_MANY
        linker.training.estimate_u_using_random_sampling(max_pairs=sampled, seed=_SEED)
        for column in _TEACHERS:
            self._check()
            if self._count_pairs(column) >= _LEARNABLE_PAIRS:
                from splink import block_on

                linker.training.estimate_parameters_using_expectation_maximisation(
                    block_on(column), max_pairs=_TRAINED_PAIRS, record_sample_proportion=1.0
                )
        document = linker.misc.save_model_to_json(None)
        learned = {one["output_column_name"]: _read_learned(one) for one in document["comparisons"]}
        return tuple(take_in(field, learned[field.name]) for field in FIELDS), probability

    def _count_certain(self) -> int:
        pairs = " UNION ".join(
            f"SELECT a.person AS a, b.person AS b FROM people a JOIN people b"
            f" ON {' AND '.join(_equal(column) for column in columns)} AND a.person < b.person"
            for columns in CERTAIN
        )
        return self._count(f"SELECT count(*) FROM ({pairs})")

    def _count_pairs(self, column: str) -> int:
        return self._count(
            f"""SELECT coalesce(sum(n * (n - 1) / 2), 0)::BIGINT
                  FROM (SELECT count(*) AS n FROM people WHERE {column} IS NOT NULL
                         GROUP BY {column})"""
        )

    def _count(self, sql: str) -> int:
        # To the end: DuckDB lets a connection do nothing else before.
        return int(self._con.execute(sql).fetchall()[0][0])

    def _read(self, table: str, fields: Iterable[Field], *, counts: bool) -> Iterator[Pair]:
        columns = ["person_l", "person_r", "match_probability", "match_weight"]
        for field in fields:
            adjusted = counts and any(level.counted for level in field.levels)
            weight = f"mw_{field.name}" + (f" + mw_tf_adj_{field.name}" if adjusted else "")
            columns += [f"gamma_{field.name}", weight]
        columns += [
            f"list_sort(list_intersect({name}_l, {name}_r))" for name in ("emails", "phones")
        ]
        names = [field.name for field in fields]
        cursor = self._con.execute(
            f"""SELECT {", ".join(columns)} FROM {table}
                 ORDER BY match_weight DESC, person_l, person_r"""
        )
        while rows := cursor.fetchmany(_CHUNK):
            for left, right, score, weight, *rest, emails, phones in rows:
                evidence = tuple(
                    Likeness(name, rank, float(bits))
                    for name, rank, bits in zip(names, rest[::2], rest[1::2], strict=True)
                    if rank >= 0
                )
                a, b = sorted((left, right))
                yield Pair(a, b, score, weight, evidence, (*emails, *phones))

    def interrupt(self) -> None:
        """Let a comparison under way end soon; for another thread."""
        self._is_interrupted = True
        self._con.interrupt()

    def _check(self) -> None:
        if self._is_interrupted:
            raise Interrupted

    def close(self) -> None:
        """Forget everybody."""
        self._con.close()
        _remove(self._folder)


def _describe(field: Field, *, counts: bool) -> dict[str, Any]:
    levels: list[dict[str, Any]] = [
        {"sql_condition": field.unknown, "is_null_level": True, "label_for_charts": _UNKNOWN}
    ]
    for level in field.levels:
        described = {
            "sql_condition": level.condition,
            "label_for_charts": level.name,
            "m_probability": level.m,
            "u_probability": level.u,
        }
        if counts and level.counted:
            described["tf_adjustment_column"] = level.counted
        levels.append(described)
    levels.append(
        {
            "sql_condition": "ELSE",
            "label_for_charts": DIFFERENT,
            "m_probability": field.m_different,
            "u_probability": field.u_different,
        }
    )
    return {"output_column_name": field.name, "comparison_levels": levels}


def _read_learned(comparison: dict[str, Any]) -> dict[str, Learned]:
    return {
        level["label_for_charts"]: Learned(
            _read_share(level.get("m_probability")), _read_share(level.get("u_probability"))
        )
        for level in comparison["comparison_levels"]
        if not level.get("is_null_level")
    }


def _read_share(value: object) -> float | None:
    """Splink writes a sentence where it saw nothing."""
    return float(value) if isinstance(value, int | float) else None


def _equal(column: str) -> str:
    # Lists are joined by their first element: enough for an estimate, and an equality.
    suffix = "[1]" if column in LIST_COLUMNS else ""
    return f"a.{column}{suffix} = b.{column}{suffix}"


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
