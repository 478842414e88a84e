"""Sentiment over the texts in DuckDB: each distinct text is read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cdp.segments.builtins import sentiment
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.events_engine import make_events_table
from cdp.segments.builtins.figures import Computed, count_values, lack, no_values, values_table
from cdp.segments.builtins.sentiment import SentimentSettings
from cdp.segments.builtins.source_engine import Source, numbers, whole
from cdp.storage.registered_engine import registered

_EMPTY = "CREATE OR REPLACE TEMP TABLE said_texts (profile_no BIGINT, text VARCHAR)"
_SAID = "INSERT INTO said_texts SELECT profile_no, coalesce({texts}) FROM counted_events"
_TEXT = """
CASE WHEN json_type({0}) = 'VARCHAR' THEN nullif(trim(json_extract_string({0}, '$')), '') END
"""
_TEXTS = "SELECT DISTINCT text FROM said_texts WHERE text IS NOT NULL ORDER BY text"
_MEANS = """
SELECT profile_no, round(avg(t.score), 4) AS score, count(*) AS n
  FROM said_texts s JOIN read_texts t ON t.text = s.text
 GROUP BY profile_no ORDER BY profile_no
"""


def compute_sentiment(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Return the mean sentiment of what each person wrote."""
    settings: SentimentSettings = built_in.settings
    _gather_texts(source, settings)
    texts = source.select(_TEXTS)["text"]
    scores = [sentiment.score_text(text) for text in texts.to_pylist()]
    read = pa.table({"text": texts, "score": pa.array(scores, pa.float64())})
    with registered(source.duck, "read_texts", read):
        means = source.select(_MEANS)
    labels = [sentiment.label_of(score) for score in numbers(means, "score").tolist()]
    values = values_table(
        whole(means, "profile_no"),
        {
            "score": numbers(means, "score"),
            "label": pa.array(labels, pa.string()),
            "n": whole(means, "n"),
        },
    )
    if fitted is not None:
        return Computed(values)
    count = int(numbers(means, "n").sum())
    if not count:
        return Computed(
            no_values(),
            "not_enough_data",
            {"people": 0, "texts": 0, "missing": [lack("texts", 0, 1)]},
        )
    average = float((numbers(means, "score") * numbers(means, "n")).sum() / count)
    summary = {
        "people": means.num_rows,
        "texts": count,
        "average": round(average, 4),
        "labels": count_values(labels),
    }
    return Computed(values, summary=summary)


def _gather_texts(source: Source, settings: SentimentSettings) -> None:
    """Make the temporary table ``said_texts`` of who wrote what, once per event."""
    source.run(_EMPTY)
    for text in settings.texts:
        columns = {f"said{number}": path for number, path in enumerate(text.properties)}
        make_events_table(source, text.events, columns)
        source.run(_SAID.format(texts=", ".join(_TEXT.format(name) for name in columns)))
