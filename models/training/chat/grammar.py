"""A small text grammar: alternation, nested choices and named slots.

``{a|b}`` chooses one option, ``<name>`` is a slot that the caller resolves, everything else is
literal. A grammar file is a list of blocks: ``[title flags]`` and then ``key: template`` lines;
a line that begins with a tab continues the template above on a new line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

GRAMMAR_DIR = Path(__file__).parent / "grammar"

_VOWEL_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!(?:uni|one|use|eu|uk|Uni|One|Eu|Uk))")
_DOUBLE_ARTICLE = re.compile(r"\b(?:[Aa]n?|the|my|your|that|this) (?=(?:an?|some) )")
_LOOSE_STOP = re.compile(r" +([,!?]|\.(?!\.))")
_SPACES = re.compile(r" {2,}")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?] )|(?<=\n))([a-z])")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that the resolver fills; `name` is the text between the angle brackets."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several templates, chosen uniformly."""

    options: tuple[Template, ...]


Template = tuple["str | Slot | Choice", ...]
Resolver = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Block:
    """A titled block of a grammar file: its flags and its templates by key."""

    title: str
    flags: dict[str, str]
    lines: dict[str, list[Template]] = field(default_factory=dict)


class GrammarError(ValueError):
    """A grammar file does not parse, or a reply uses a slot that its prompt does not bind."""


def parse_template(text: str) -> Template:
    """Parse one template; raises GrammarError on an unbalanced brace or bracket."""
    template, end = _parse_sequence(text, 0, top=True)
    if end != len(text):
        raise GrammarError(f"unbalanced '}}' at {end} in: {text}")
    return template


def _parse_sequence(text: str, pos: int, *, top: bool) -> tuple[Template, int]:
    parts: list[str | Slot | Choice] = []
    literal: list[str] = []

    def flush() -> None:
        if literal:
            parts.append("".join(literal))
            literal.clear()

    while pos < len(text):
        char = text[pos]
        if char == "{" and not text.startswith('{"', pos):
            flush()
            choice, pos = _parse_choice(text, pos + 1)
            parts.append(choice)
        elif char == "<":
            end = text.find(">", pos)
            if end < 0:
                raise GrammarError(f"unclosed '<' at {pos} in: {text}")
            flush()
            parts.append(Slot(text[pos + 1 : end]))
            pos = end + 1
        elif char in "|}" and not top:
            break
        else:
            literal.append(char)
            pos += 1
    flush()
    return tuple(parts), pos


def _parse_choice(text: str, pos: int) -> tuple[Choice, int]:
    options: list[Template] = []
    while True:
        option, pos = _parse_sequence(text, pos, top=False)
        options.append(option)
        if pos >= len(text):
            raise GrammarError(f"unclosed '{{' in: {text}")
        if text[pos] == "}":
            return Choice(tuple(options)), pos + 1
        pos += 1


def expand(template: Template, rng: Random, resolve: Resolver) -> str:
    """Expand a template to text, left to right, so that later slots see earlier bindings."""
    out: list[str] = []
    _expand_into(template, rng, resolve, out)
    return "".join(out)


def _expand_into(template: Template, rng: Random, resolve: Resolver, out: list[str]) -> None:
    for part in template:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, Slot):
            out.append(resolve(part.name))
        else:
            options = part.options
            _expand_into(options[int(rng.random() * len(options))], rng, resolve, out)


def all_slots(template: Template) -> set[str]:
    """Every slot name that can occur in the template."""
    found: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            found.add(part.name)
        elif isinstance(part, Choice):
            for option in part.options:
                found |= all_slots(option)
    return found


def certain_slots(template: Template) -> set[str]:
    """The bind names that every expansion of the template sets."""
    found: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            found.add(bind_name(part.name))
        elif isinstance(part, Choice):
            found |= set.intersection(*(certain_slots(option) for option in part.options))
    return found


def bind_name(slot: str) -> str:
    """The name under which a slot's value is bound: ``=name:firstname`` binds ``name``."""
    name = slot.lstrip("=@").partition(":")[0]
    return "act" if name.startswith("act.") else name


def read_blocks(name: str) -> list[Block]:
    """Read a grammar file of GRAMMAR_DIR."""
    blocks: list[Block] = []
    logical: list[str] = []
    for line in (GRAMMAR_DIR / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("\t"):
            logical[-1] += "\n" + line[1:]
        elif line.strip() and not line.startswith("# "):
            logical.append(line)
    for line in logical:
        if line.startswith("["):
            title, *flags = line.strip("[]").split()
            blocks.append(Block(title, dict(_flag(flag) for flag in flags)))
        else:
            key, _, text = line.partition(":")
            blocks[-1].lines.setdefault(key.strip(), []).append(parse_template(text.lstrip(" ")))
    return blocks


def _flag(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def tidy(text: str) -> str:
    """Fix articles (an apple; no "a some"), collapse spaces, close up stops, and trim."""
    text = _DOUBLE_ARTICLE.sub("", text)
    text = _VOWEL_ARTICLE.sub(r"\1n ", text)
    return _LOOSE_STOP.sub(r"\1", _SPACES.sub(" ", text)).strip()


def sentence_case(text: str) -> str:
    """Capitalise the first letter of each sentence."""
    return _SENTENCE_START.sub(lambda match: match.group(1).upper(), text)
