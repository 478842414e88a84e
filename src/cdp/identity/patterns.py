"""Patterns of blocked values, in time linear in the value, whoever wrote them. Pure.

Python's own regular expressions can take years over thirty letters. These are those of Rust's
``regex`` (the syntax of RE2: no look-around, no back-references), which ``jsonschema-rs`` brings,
in a quarter of a microsecond a value.
"""

from __future__ import annotations

from collections.abc import Callable

from jsonschema_rs import RegexOptions, ValidationError, validator_for

LONGEST_PATTERN = 500
_MOST_BYTES = 1 << 20
"""Of a compiled pattern: ``(a{1000}){1000}`` would take a gigabyte."""

# What no list of placeholders can have in mind, all at once.
_ORDINARY = ("ann@example.com", "+8613912345678", "user-42", "oGZ8r5", "张伟", "7f3d9c1e-52ab")


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return whether ``pattern`` occurs anywhere in a text, without regard to case.

    Raises ``ValueError`` that says what to write.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern has at most {LONGEST_PATTERN} characters")
    options = RegexOptions(size_limit=_MOST_BYTES, dfa_size_limit=_MOST_BYTES)
    try:
        validator = validator_for(
            {"type": "string", "pattern": f"(?i){pattern}"}, pattern_options=options
        )
    except ValidationError as error:
        raise ValueError(
            f"{pattern!r} is no regular expression in the syntax of RE2, which has no look-around"
            " and no back-references, or it is too large"
        ) from error
    return validator.is_valid


def blocks_everything(pattern: str) -> bool:
    """Whether ``pattern``, which compiles, would block every ordinary value."""
    matches = compile_pattern(pattern)
    return all(matches(value) for value in _ORDINARY)
