"""Files that are whole whenever they are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name and rename it; a name that is left is the file of before.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    part = part_of(path)
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """The same, as JSON that people can read."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def part_of(path: Path) -> Path:
    """The name that a file has while it is written."""
    return path.with_name(f".{path.name}.part")
