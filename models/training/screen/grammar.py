"""A small template grammar: `(a|b|)` alternatives, `{slot}` look-ups, `//` between a user's lines.

A grammar file holds families; a family is a set of lines that share a phrasing:

    @ family_name [train]
    + a template that asks for the screen
    - a template that does not

A family is of the class that its file is named after, or that stands before its name:
`@ class/family_name`. The optional `train` pins the everyday phrasings to the training split, so
that the shipped model has met them. Every other family is placed by
`models.training.screen.splits`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

GRAMMAR_DIR = Path(__file__).parent / "grammar"
LEXICON_FILE = "lexicon.txt"
TURN_SEPARATOR = "//"

_TOKEN = re.compile(r"\w*\(\)|\{\w+\}|[()|]|[^(){}|]+")
_IN_TRAIN_ONLY = range(10, 25)
_IN_EVAL_ONLY = range(10)


class GrammarError(ValueError):
    """A grammar file cannot be read; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A reference to a lexicon entry list."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences, drawn uniformly."""

    options: tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts written one after the other."""

    parts: tuple[str | Slot | Choice, ...]


Lexicon = dict[str, tuple[Sequence, ...]]


@dataclass(frozen=True, slots=True)
class Template:
    """One line of a family. label: 1 if it asks the assistant to look at the screen, else 0."""

    source: str
    label: int
    body: Sequence


@dataclass(frozen=True, slots=True)
class Family:
    """A phrasing family; it belongs wholly to one split."""

    phrase_class: str
    name: str
    pinned: bool
    templates: tuple[Template, ...]

    @property
    def id(self) -> str:
        """`class/name`, unique in the grammar."""
        return f"{self.phrase_class}/{self.name}"


def parse(source: str) -> Sequence:
    """Compile one template. Raises GrammarError on unbalanced parentheses."""
    tokens = _TOKEN.findall(source)
    sequence, rest = _parse_sequence(tokens, 0)
    if rest != len(tokens):
        raise GrammarError(f"unbalanced ')' in template {source!r}; close what you open")
    return sequence


def _parse_sequence(tokens: list[str], at: int) -> tuple[Sequence, int]:
    parts: list[str | Slot | Choice] = []
    while at < len(tokens) and tokens[at] not in ("|", ")"):
        piece = tokens[at]
        if piece == "(":
            choice, at = _parse_choice(tokens, at + 1)
            parts.append(choice)
            continue
        parts.append(Slot(piece[1:-1]) if piece.startswith("{") else piece)
        at += 1
    return Sequence(tuple(parts)), at


def _parse_choice(tokens: list[str], at: int) -> tuple[Choice, int]:
    options: list[Sequence] = []
    while True:
        option, at = _parse_sequence(tokens, at)
        options.append(option)
        if at == len(tokens):
            raise GrammarError(f"missing ')' in template {''.join(tokens)!r}")
        if tokens[at] == ")":
            return Choice(tuple(options)), at + 1
        at += 1


def expand(sequence: Sequence, lexicon: Lexicon, rng: Random) -> str:
    """Draw one string from a compiled template. Raises KeyError for a slot the lexicon lacks."""
    out: list[str] = []
    for part in sequence.parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, Slot):
            out.append(expand(rng.choice(lexicon[part.name]), lexicon, rng))
        else:
            out.append(expand(rng.choice(part.options), lexicon, rng))
    return "".join(out)


def tidy(text: str) -> str:
    """Collapse the blanks that empty alternatives leave behind."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" ([,.?!])", r"\1", text)


def load_lexicon(*, training: bool, directory: Path = GRAMMAR_DIR) -> Lexicon:
    """Read the slots as one side sees them.

    Slots marked `*` are open classes: a tenth of their entries is seen by validation and test
    only, 15 % by training only (placed by hash), so that words are held out as well as phrasings.
    """
    lexicon: Lexicon = {}
    hidden = _IN_EVAL_ONLY if training else _IN_TRAIN_ONLY
    for _, line in _content_lines(directory / LEXICON_FILE):
        name, _, entries = line.partition(":")
        words = [word.strip() for word in entries.split(",")]
        if name.startswith("*"):
            name = name[1:]
            words = [word for word in words if bucket(f"{name}/{word}") not in hidden]
        lexicon[name] = tuple(parse(word) for word in words)
    return lexicon


def bucket(key: str) -> int:
    """Place a key in 0..99, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100


def load_families(directory: Path = GRAMMAR_DIR) -> tuple[Family, ...]:
    """Read every grammar file, in name order. Raises GrammarError with file and line."""
    families: list[Family] = []
    for path in sorted(directory.glob("*.txt")):
        if path.name != LEXICON_FILE:
            families.extend(_load_file(path))
    return tuple(families)


def _load_file(path: Path) -> list[Family]:
    families: list[Family] = []
    for number, line in _content_lines(path):
        mark, _, body = line.partition(" ")
        try:
            if mark == "@":
                families.append(_heading(path.stem, body))
            else:
                families.append(_with_template(families, mark, body))
        except GrammarError as error:
            raise GrammarError(f"{path.name}, line {number}: {error}") from error
    return [family for family in families if family.templates]


def _heading(file: str, body: str) -> Family:
    """The family, still without templates, of `[class/]name [train]`."""
    name, _, pin = body.partition(" ")
    phrase_class, slash, rest = name.partition("/")
    if not slash:
        phrase_class, rest = file, name
    if not phrase_class or not rest or "/" in rest or pin not in ("", "train"):
        raise GrammarError(f"'@ {body}' must be '@ [class/]name', with ' train' after it or not")
    return Family(phrase_class, rest, pin == "train", ())


def _with_template(families: list[Family], mark: str, body: str) -> Family:
    """The last family, taken off the list, with one more template."""
    if mark not in ("+", "-") or not body:
        raise GrammarError(f"'{mark} {body}' must be '@', '+' or '-' and a text, or a comment '#'")
    if not families:
        raise GrammarError(f"'{mark} {body}' stands before any '@ family'; name its family first")
    last, template = families.pop(), Template(body, int(mark == "+"), parse(body))
    return replace(last, templates=(*last.templates, template))


def _content_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are neither blank nor comments, with their numbers."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [(n, line.rstrip()) for n, line in lines if line.strip() and not line.startswith("#")]
