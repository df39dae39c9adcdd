"""Matching: which phrase rule fits what the user said.

What a client sends cannot make a match slow. Utterances over 120 characters are skipped unread,
and the expressions are bounded. The personalities of a session never become part of one: they are
looked up in a dict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from yap.protocol import ControlFunction
from yap.screen.phrases import SLOT, join_words

MAX_CHARS = 120  # of an utterance; rules are for short commands
CACHED_SESSIONS = 128

_TYPOGRAPHY = {ord(c): "'" for c in "’‘ʼ′`´"} | {ord(c): " " for c in "-‐‑‒–—―"}
_PAUSES = ",.;:!?…"


def _words(text: str) -> list[str]:
    """What rules see of `text`: words in folded case, plain apostrophes, no hyphens or pauses."""
    if len(text) > MAX_CHARS:
        return []
    plain = text.casefold().translate(_TYPOGRAPHY)
    return [word for piece in plain.split() if (word := piece.rstrip(_PAUSES))]


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """What a session's words stand for, and how many words the longest of them has."""

    names: Mapping[str, str]
    longest: int

    def find(self, words: Sequence[str], most: int) -> Iterator[tuple[str, str]]:
        """Wherever a personality stands, longest first: the text with a slot there, its name.

        `most` is how many words that text may have, the slot among them.
        """
        shortest = max(1, len(words) - most + 1)
        for length in range(min(self.longest, len(words)), shortest - 1, -1):
            for start in range(len(words) - length + 1):
                end = start + length
                name = self.names.get(" ".join(words[start:end]))
                if name is not None:
                    yield join_words([*words[:start], SLOT, *words[end:]]), name


def _vocabulary(personalities: tuple[tuple[str, tuple[str, ...]], ...]) -> _Vocabulary:
    names: dict[str, str] = {}
    for name, _ in personalities:  # a name goes before another's synonym
        names.setdefault(" ".join(_words(name)), name)
    for name, synonyms in personalities:
        for synonym in synonyms:
            names.setdefault(" ".join(_words(synonym)), name)
    names.pop("", None)
    return _Vocabulary(names, max((len(term.split()) for term in names), default=0))


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """What a rule decided. `functions` is empty where it refuses to take a screenshot."""

    functions: tuple[ControlFunction, ...]
    rule: str

    @property
    def asks_for_screen(self) -> bool:
        """Whether the reply waits for the screen: of the functions, only a screenshot does."""
        return any(function.name == "take_screenshot" for function in self.functions)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, compiled: the phrases that it fits, and those that it lets be."""

    match: RuleMatch
    phrases: re.Pattern[str]
    unless: re.Pattern[str] | None
    longest: int  # words; a personality counts as one
    has_slot: bool

    def fits(self, text: str) -> bool:
        """Whether the rule is for `text`, words as `join_words` joins them."""
        if self.phrases.fullmatch(text) is None:
            return False
        return self.unless is None or self.unless.fullmatch(text) is None


class PhraseRules:
    """The rules, in their order. Holds no state but a bounded cache of sessions' words."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._longest = max((rule.longest for rule in rules), default=0)
        self._vocabulary = lru_cache(maxsize=CACHED_SESSIONS)(_vocabulary)

    def match(
        self, utterance: str, personalities: Mapping[str, Sequence[str]] | None
    ) -> RuleMatch | None:
        """The first rule that fits all of `utterance`; None where none does.

        Args:
            utterance: what the user said, as `clean_text` leaves it. Over 120 characters, none
                fits.
            personalities: the session's names, each with its synonyms. The name that is said, or
                whose synonym is, becomes the `param` exactly as it is given here.
        """
        words = _words(utterance)
        if not words:
            return None
        text = join_words(words) if len(words) <= self._longest else None
        slotted: list[tuple[str, str]] | None = None
        for rule in self._rules:
            if not rule.has_slot:
                if text is not None and rule.fits(text):
                    return rule.match
                continue
            if slotted is None:
                slotted = self._find_personalities(words, personalities or {})
            for text_with_slot, name in slotted:
                if rule.fits(text_with_slot):
                    function = ControlFunction(name="switch_personality", param=name)
                    return RuleMatch((function,), rule.match.rule)
        return None

    def _find_personalities(
        self, words: Sequence[str], personalities: Mapping[str, Sequence[str]]
    ) -> list[tuple[str, str]]:
        # What is too long to be said is left out, so that the cache stays small.
        vocabulary = self._vocabulary(
            tuple(
                (name, tuple(synonym for synonym in synonyms if len(synonym) <= MAX_CHARS))
                for name, synonyms in personalities.items()
                if len(name) <= MAX_CHARS
            )
        )
        return list(vocabulary.find(words, self._longest))
