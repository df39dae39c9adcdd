"""What the benchmarks say to the server: lines and talks of the classifier's probe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from models.training.screen.probe import Probe, load_probe
from tests.e2e.harness import ROOT

_FOLDER = ROOT / "models" / "training" / "screen"
LINES_FILE = _FOLDER / "probe_lines.jsonl"
TALKS_FILE = _FOLDER / "probe_talks.jsonl"
# A persona and what is told to it are these over and over, to any length.
TRAIT = "You like long walks, warm tea, old songs and hearing about the day of your friend. "
STORY = "and then we went on along the river, past the old mill and over the small bridge, "
# Ordinary talk; nothing of it asks for the screen, so no reply depends on a capture.
_TALK = frozenset({"small_talk", "reactions", "non_visual", "past_narration"})


@dataclass(frozen=True, slots=True)
class Text:
    """What the classifier is asked: an utterance, and the user's lines before it."""

    utterance: str
    earlier: tuple[str, ...] = ()


def lines() -> list[Text]:
    """120 of every kind; most of them are the first thing that the user says."""
    probes = load_probe(LINES_FILE)
    return [Text(p.lines[-1], p.lines[:-1]) for p in probes[:: len(probes) // 120][:120]]


def beginnings() -> list[Text]:
    """80 beginnings of conversations: a third of each, and all of it."""
    return [
        Text(talk[end], talk[:end])
        for talk in read_talks(TALKS_FILE)
        for end in (len(talk) // 3, len(talk) - 1)
    ]


def read_talks(path: Path) -> list[tuple[str, ...]]:
    """The user's lines of each conversation."""
    records = path.read_text(encoding="utf-8").splitlines()
    return [tuple(json.loads(record)["lines"]) for record in records]


def small_talk() -> list[str]:
    """Single lines of ordinary talk that do not ask for the screen."""

    def suits(probe: Probe) -> bool:
        return probe.label == 0 and len(probe.lines) == 1 and probe.phrase_class in _TALK

    return [probe.lines[0] for probe in load_probe(LINES_FILE) if suits(probe)]
