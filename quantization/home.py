"""Where quantization keeps what it makes: environments, work in progress, finished exports.

`.cache/quantization` of the project, which git ignores, or the folder that YAP_QUANTIZATION_DIR
names. What lies under a valid name there is whole; everything else begins with a dot.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
REQUIREMENTS: Final = ROOT / "requirements"
VARIABLE: Final = "YAP_QUANTIZATION_DIR"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders; none of them need be there yet."""

    root: Path

    @property
    def environments(self) -> Path:
        """The quantizers' Python environments."""
        return self.root / "environments"

    @property
    def work(self) -> Path:
        """A folder for each run that has not ended well."""
        return self.root / "work"

    @property
    def exports(self) -> Path:
        """Finished exports, by name, method and key."""
        return self.root / "exports"


def home(environ: Mapping[str, str] = os.environ) -> Home:
    """The folders that the environment means."""
    said = environ.get(VARIABLE, "").strip()
    return Home(Path(said).expanduser().resolve() if said else ROOT / ".cache" / "quantization")
