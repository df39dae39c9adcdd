"""Phrase rules: short commands that need no classifier, read from files that people edit.

The files are `prompts/rules/*.toml`; the README beside them explains how a rule is written.
A phrase becomes a regular expression (`yap.screen.phrases`) that is matched against the whole
utterance.

What a client sends cannot make a match slow. Utterances over 120 characters are skipped unread,
and the expressions are bounded. The personalities of a session never become part of one: they are
looked up in a dict.

    python -m yap.screen.rules --check     tries the examples of every rule, and prints a table
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yap.errors import StartupError
from yap.protocol import ControlFunction
from yap.screen.phrases import (
    BUILT_IN,
    PERSONALITY,
    SLOT,
    Part,
    PhraseError,
    check_slot,
    compile_phrase,
    join_words,
)

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "prompts" / "rules"
MAX_CHARS = 120  # of an utterance; rules are for short commands
CACHED_SESSIONS = 128

_SHARED_FILE = "words.toml"

# --- what is compared ---------------------------------------------------------------------------

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


# --- matching -----------------------------------------------------------------------------------


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
class _Rule:
    match: RuleMatch
    phrases: re.Pattern[str]
    unless: re.Pattern[str] | None
    longest: int  # words; a personality counts as one
    has_slot: bool

    def fits(self, text: str) -> bool:
        if self.phrases.fullmatch(text) is None:
            return False
        return self.unless is None or self.unless.fullmatch(text) is None


class PhraseRules:
    """The rules, in their order. Holds no state but a bounded cache of sessions' words."""

    def __init__(self, rules: Sequence[_Rule]) -> None:
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


# --- files --------------------------------------------------------------------------------------


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _RuleData(_Data):
    name: str = Field(min_length=1)
    answer: Literal[
        "no",
        "take_screenshot",
        "start_freestyle",
        "stop_freestyle",
        "switch_gender",
        "switch_personality",
    ]
    param: Literal["male", "female"] | None = None
    phrases: list[str] = Field(min_length=1)
    unless: list[str] = []
    yes: list[str] = Field(min_length=1)
    no: list[str] = Field(min_length=1)


class _FileData(_Data):
    words: dict[str, str] = {}
    example_personalities: dict[str, list[str]] = {}
    rule: list[_RuleData] = []


class _RuleFile:
    """One file of rules, and where in it something stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self._raw = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:  # its message names the line
            raise StartupError(f"{path} is not valid TOML: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"{path} cannot be read: {error}") from error
        try:
            self.data = _FileData.model_validate(self._raw)
        except ValidationError as error:
            raise self._invalid(error) from error

    def _invalid(self, error: ValidationError) -> StartupError:
        errors = error.errors(include_url=False)
        # A misspelled key goes first: that another is missing is its consequence.
        first = min(errors, key=lambda each: each["type"] != "extra_forbidden")
        top, *rest = first["loc"]
        number = rest.pop(0) if top == "rule" and rest else None
        key = ".".join(map(str, rest or [top]))
        if first["type"] == "extra_forbidden":
            return self.error(f"there is no key {key!r}", number, str(first["loc"][-1]))
        return self.error(f"{key}: {first['msg']}", number, str(first["input"]))

    def error(
        self, what: str, rule: int | str | None = None, near: str | None = None
    ) -> StartupError:
        """An error about the text `near`, in the rule of that number if one is given."""
        number = rule if isinstance(rule, int) else None
        where = f"{self.path}, line {self._line(number, near)}"
        if number is not None:
            raw = self._raw["rule"][number]
            name = raw.get("name") if isinstance(raw, dict) else None
            where += f", rule {name or number + 1!r}"
        return StartupError(f"{where}: {what}")

    def _line(self, rule: int | None, near: str | None) -> int:
        """Where `near` first stands in that rule, in quotes if it can; else where that begins."""
        lines = self._text.splitlines()
        heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
        begin = heads[rule] if rule is not None and rule < len(heads) else 0
        wanted = [] if near is None else [f'"{near}"', f"'{near}'", near]
        found = (i for text in wanted for i in range(begin, len(lines)) if text in lines[i])
        return next(found, begin) + 1

    def words(self, shared: Mapping[str, Part]) -> dict[str, Part]:
        """What this file's phrases may use: the shared words, and its own."""
        words = dict(shared)
        for name, meaning in self.data.words.items():
            if name in words or f"{{{name}}}" in BUILT_IN or not re.fullmatch("[a-z_]+", name):
                what = f"the word {name!r} needs a name of small letters that no other word has"
                raise self.error(what, near=name)
            try:
                if PERSONALITY in meaning:
                    raise PhraseError(f"{PERSONALITY} can only be in a phrase itself")
                words[name] = compile_phrase(meaning, words)
            except PhraseError as error:
                raise self.error(f"the word {name!r}: {error}", near=meaning) from error
        return words

    def rules(self, words: Mapping[str, Part]) -> Iterator[_Rule]:
        """This file's rules, in their order."""
        for number, data in enumerate(self.data.rule):
            if (data.param is not None) != (data.answer == "switch_gender"):
                raise self.error("switch_gender, and no other answer, needs a param", number)
            phrases = self._patterns(data.phrases, number, words)
            functions: tuple[ControlFunction, ...] = ()
            if data.answer != "no":
                functions = (ControlFunction(name=data.answer, param=data.param),)
            yield _Rule(
                match=RuleMatch(functions, data.name),
                phrases=re.compile(phrases.regex),
                unless=(
                    re.compile(self._patterns(data.unless, number, words).regex)
                    if data.unless
                    else None
                ),
                longest=phrases.longest,
                has_slot=data.answer == "switch_personality",
            )

    def _patterns(self, phrases: Sequence[str], number: int, words: Mapping[str, Part]) -> Part:
        """One expression for all of a rule's `phrases`."""
        has_slot = self.data.rule[number].answer == "switch_personality"
        parts = []
        for phrase in phrases:
            try:
                check_slot(phrase, has_slot)
                parts.append(compile_phrase(phrase, words))
                if re.fullmatch(parts[-1].regex, ""):
                    raise PhraseError("all of it is optional")
            except PhraseError as error:
                raise self.error(f"the phrase {phrase!r}: {error}", number, phrase) from error
        try:
            return Part(
                "|".join(part.regex for part in parts),
                max(part.longest for part in parts),
                sum(part.ways for part in parts),
            )
        except PhraseError as error:
            raise self.error(f"all phrases together: {error}", number) from error


@dataclass(frozen=True, slots=True)
class Example:
    """A phrase that a rule promises to fit, or not to, and the rule that was found for it."""

    rule: str
    phrase: str
    promised: bool
    found: str | None

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return (self.found == self.rule) == self.promised


def _load(folder: Path) -> tuple[PhraseRules, list[_RuleFile]]:
    paths = sorted(folder.glob("*.toml"), key=lambda path: (path.name != _SHARED_FILE, path.name))
    if not paths:
        raise StartupError(f"There are no phrase rules: {folder} has no file NAME.toml in it.")
    files = [_RuleFile(path) for path in paths]
    shared = files[0].words({}) if paths[0].name == _SHARED_FILE else {}
    rules: list[_Rule] = []
    seen: set[str] = set()
    for file in files:
        words = shared if file.path.name == _SHARED_FILE else file.words(shared)
        for number, rule in enumerate(file.rules(words)):
            if rule.match.rule in seen:
                raise file.error(
                    "another rule has this name; metrics tell rules apart by it", number
                )
            seen.add(rule.match.rule)
            rules.append(rule)
    return PhraseRules(rules), files


def _examples(rules: PhraseRules, file: _RuleFile) -> Iterator[tuple[int, Example]]:
    """The examples of a file, each with the number of its rule."""
    for number, data in enumerate(file.data.rule):
        for promised, phrases in ((True, data.yes), (False, data.no)):
            for phrase in phrases:
                match = rules.match(phrase, file.data.example_personalities)
                yield number, Example(data.name, phrase, promised, match.rule if match else None)


def check_examples(folder: Path = DEFAULT_FOLDER) -> list[Example]:
    """Tries every example of every rule in `folder`.

    Raises:
        StartupError: a file cannot be read, or a rule is not well formed.
    """
    rules, files = _load(folder)
    return [example for file in files for _, example in _examples(rules, file)]


def load_rules(folder: Path = DEFAULT_FOLDER) -> PhraseRules:
    """The rules in `folder`: files in order of their names, each from top to bottom.

    Raises:
        StartupError: a file cannot be read, a rule is not well formed, or it does not do what its
            own examples say. The message names the file, the line and the rule.
    """
    rules, files = _load(folder)
    for file in files:
        for number, example in _examples(rules, file):
            if not example.kept:
                what = f"fits the rule {example.found!r}" if example.found else "fits no rule"
                side = "yes" if example.promised else "no"
                raise file.error(
                    f"its {side!r} example {example.phrase!r} {what}", number, example.phrase
                )
    return rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table of examples; 1 where a promise is broken or a file is wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m yap.screen.rules", description=main.__doc__)
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    options = parser.parse_args(arguments)
    try:
        examples = check_examples(options.folder)
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    row = "{:6}  {:24}  {:7}  {:24}  {}\n".format
    sys.stdout.write(row("", "rule", "example", "fits", ""))
    for each in examples:
        verdict, side = "ok" if each.kept else "BROKEN", "yes" if each.promised else "no"
        sys.stdout.write(row(verdict, each.rule, side, each.found or "no rule", each.phrase))
    broken = sum(not example.kept for example in examples)
    sys.stdout.write(f"{len(examples)} examples, {broken} broken\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
