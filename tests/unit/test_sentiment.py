"""How texts are scored, apart from where they come from."""

from __future__ import annotations

import subprocess
import sys

_SCORE = """
from cdp.segments.builtins.sentiment import score_text
print(score_text("这家店很好，我非常喜欢") > 0 > score_text("质量太差，很失望"))
"""


def test_chinese_is_scored_without_a_word_of_the_lexicon_in_the_log() -> None:
    # A process of its own: what a library does to logging it does once.
    ran = subprocess.run([sys.executable, "-c", _SCORE], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
    assert "jieba" not in ran.stderr.lower()
