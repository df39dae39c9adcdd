"""Rule files that several tests write."""

from __future__ import annotations

from pathlib import Path

from yap.screen.rule_matching import PhraseRules
from yap.screen.rules import load_rules

RULE = """\
[[rule]]
name = "one"
answer = "take_screenshot"
phrases = ["always this", {phrase}]
yes = ["always this"]
no = ["never this"]
"""


def rules_of(folder: Path, phrase: str, words: str = "") -> PhraseRules:
    """One rule, with `phrase` among its phrases."""
    (folder / "one.toml").write_text(f"[words]\n{words}\n" + RULE.format(phrase=f"'{phrase}'"))
    return load_rules(folder)
