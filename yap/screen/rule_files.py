"""Files of phrase rules: read, checked and compiled. `prompts/rules/README.md` explains them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yap.errors import StartupError
from yap.protocol import ControlFunction
from yap.screen.phrases import (
    BUILT_IN,
    PERSONALITY,
    Part,
    PhraseError,
    check_slot,
    compile_phrase,
)
from yap.screen.rule_matching import Rule, RuleMatch


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


class RuleFile:
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

    def rules(self, words: Mapping[str, Part]) -> Iterator[Rule]:
        """This file's rules, in their order."""
        for number, data in enumerate(self.data.rule):
            if (data.param is not None) != (data.answer == "switch_gender"):
                raise self.error("switch_gender, and no other answer, needs a param", number)
            phrases = self._patterns(data.phrases, number, words)
            functions: tuple[ControlFunction, ...] = ()
            if data.answer != "no":
                functions = (ControlFunction(name=data.answer, param=data.param),)
            yield Rule(
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
