"""One decision about how the engine is run, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """`name` is vLLM's argument or an environment variable; `why` is one sentence."""

    name: str
    value: Any
    why: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}: {self.why}"
