"""Writing a generated file, or telling that it is out of date. Used by the generate_* scripts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def write_or_check(target: Path, text: str, *, purpose: str | None) -> int:
    """The command line of a generator: write `text` to `target`, or with --check compare.

    Returns:
        The exit code: 1 if --check finds the file out of date.
    """
    parser = argparse.ArgumentParser(
        description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail if the file is out of date")
    check: bool = parser.parse_args().check
    if not check:
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return 0
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{target.name} is out of date: run python scripts/{Path(sys.argv[0]).name}\n")
    return 1
