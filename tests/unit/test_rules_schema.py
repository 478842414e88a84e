"""The JSON Schema and the page about rules say what the parser does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cdp.errors import Unprocessable
from cdp.segments.json_schema import rule_schema
from cdp.segments.parse import parse_rule
from cdp.segments.rules import FUNCTIONS, OPS
from tests.unit.test_rules_parse import MISTAKES

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.S)]
VALIDATOR = jsonschema.Draft202012Validator(rule_schema())
# What a schema cannot know: names, zones, patterns, kinds inside a pair, the range of numbers.
BEYOND_A_SCHEMA = {"unknown_segment", "unknown_tag", "unknown_zone", "bad_pattern"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_page_is_a_rule_for_parser_and_schema(example: Any) -> None:
    parse_rule(example)
    VALIDATOR.validate(example)


def test_the_page_names_every_operator_and_function() -> None:
    page = PAGE.read_text()
    assert [name for name in (*OPS, *FUNCTIONS) if name not in page] == []


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(rule_schema())


@pytest.mark.parametrize(
    "document", [document for document, code, _ in MISTAKES if code not in BEYOND_A_SCHEMA]
)
def test_what_the_schema_accepts_wrongly_is_only_what_it_cannot_say(document: Any) -> None:
    with pytest.raises(Unprocessable):
        parse_rule(document)
    if VALIDATOR.is_valid(document):
        assert json.dumps(document) in {
            json.dumps(known)
            for known in (
                {"trait": "x", "op": "gt", "value": float("inf")},
                {"trait": "x", "op": "between", "value": [1, "2"]},
                {"event": "E", "count": {"op": "in", "value": [1]}},
                {"event": "E", "count": {"op": "eq", "value": "1"}},
                {"event": "E", "within": {"last": "99999999y"}},
            )
        }
