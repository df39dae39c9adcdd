"""Phrase rules: short commands that need no classifier, read from files that people edit.

The files are `prompts/rules/*.toml`; the README beside them explains how a rule is written.
A phrase becomes a regular expression (`yap.screen.phrases`) that is matched against the whole
utterance (`yap.screen.rule_matching`).

    python -m yap.screen.rules --check     tries the examples of every rule, and prints a table
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yap.errors import StartupError
from yap.screen.rule_files import RuleFile
from yap.screen.rule_matching import PhraseRules, Rule

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "prompts" / "rules"

_SHARED_FILE = "words.toml"


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


def _load(folder: Path) -> tuple[PhraseRules, list[RuleFile]]:
    paths = sorted(folder.glob("*.toml"), key=lambda path: (path.name != _SHARED_FILE, path.name))
    if not paths:
        raise StartupError(f"There are no phrase rules: {folder} has no file NAME.toml in it.")
    files = [RuleFile(path) for path in paths]
    shared = files[0].words({}) if paths[0].name == _SHARED_FILE else {}
    rules: list[Rule] = []
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


def _examples(rules: PhraseRules, file: RuleFile) -> Iterator[tuple[int, Example]]:
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
