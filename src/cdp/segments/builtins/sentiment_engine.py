"""Sentiment over the texts in DuckDB: each distinct text is read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from cdp.segments.builtins import sentiment
from cdp.segments.builtins.definition import BuiltIn
from cdp.segments.builtins.events_engine import make_events_table
from cdp.segments.builtins.figures import Computed, count_values, no_values, values_table
from cdp.segments.builtins.sentiment import SentimentSettings
from cdp.segments.builtins.source_engine import Source, numbers, whole
from cdp.storage.registered_engine import registered

_TEXT = "json_extract_string(said, '$')"
_TEXTS = f"""
SELECT DISTINCT {_TEXT} AS text FROM counted_events
 WHERE json_type(said) = 'VARCHAR' AND trim({_TEXT}) <> '' ORDER BY text
"""
_MEANS = f"""
SELECT profile_no, round(avg(t.score), 4) AS score, count(*) AS n
  FROM counted_events e JOIN read_texts t ON t.text = {_TEXT}
 GROUP BY profile_no ORDER BY profile_no
"""


def compute_sentiment(
    source: Source, built_in: BuiltIn, fitted: Mapping[str, Any] | None
) -> Computed:
    """Return the mean sentiment of what each person wrote."""
    settings: SentimentSettings = built_in.settings
    make_events_table(source, settings.events, {"said": settings.property})
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
        return Computed(no_values(), "not_enough_data", {"people": 0, "texts": 0})
    average = float((numbers(means, "score") * numbers(means, "n")).sum() / count)
    summary = {
        "people": means.num_rows,
        "texts": count,
        "average": round(average, 4),
        "labels": count_values(labels),
    }
    return Computed(values, summary=summary)
