"""The load generator, which is in tests/load/: `python tests/bench.py --help`.

Run it by its path: `tests.bench` as a module is the package of measurements beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's root

from tests.load.cli import main

if __name__ == "__main__":
    sys.exit(main())
