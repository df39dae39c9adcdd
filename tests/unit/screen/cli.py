"""Runs the operator's tools as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODEL = "models/yap-screen-demo"
PROBE = "models/training/screen/probe.jsonl"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m ARGUMENTS` in the project's folder, on one thread."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def is_picture(path: Path) -> bool:
    """Whether it is a PNG file that shows something."""
    from matplotlib.image import imread

    pixels = imread(path)
    return (
        path.read_bytes().startswith(b"\x89PNG")
        and min(pixels.shape[:2]) > 200
        and (float(pixels[..., :3].std()) > 0.02)
    )
