"""The hand-written probe: natural lines that no grammar produced and no training run has seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

PROBE_FILE = Path(__file__).parent / "probe.jsonl"


@dataclass(frozen=True, slots=True)
class Probe:
    """One conversation: the user's lines, oldest first; `label` is 1 if the last asks to look."""

    lines: tuple[str, ...]
    label: int
    phrase_class: str

    @property
    def text(self) -> str:
        """The classifier's input."""
        return "\n".join(self.lines)


def load_probe(path: Path = PROBE_FILE) -> list[Probe]:
    """Read the probe. Raises OSError or ValueError where the file is missing or malformed."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Probe(tuple(r["lines"]), int(r["label"]), str(r["class"])) for r in records]
