"""Where the clients' files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = ROOT / "prompts" / "personas"
FIXTURES = ROOT / "tests" / "fixtures"
