"""CSV that is safe to open in a spreadsheet. Pure.

Text that a spreadsheet would run as a formula is prefixed with ``'``
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def guard_formula(text: str) -> str:
    """Return ``text`` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
