"""Write docs/asyncapi.yaml from the protocol's models; with --check, fail if it is out of date.

python scripts/generate_asyncapi.py [--check]

The models say names and types. What their validators do beyond that, and the messages without a
model (ping, pong, end), is said in `scripts/asyncapi/`. Format: AsyncAPI 3.0.0, whose default
schema language is a superset of JSON Schema draft 7.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from scripts.asyncapi.document import document  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402

TARGET = ROOT / "docs" / "asyncapi.yaml"
HEADER = "# Written by scripts/generate_asyncapi.py from yap/protocol/. Edit those, not this.\n"


def main() -> int:
    return write_or_check(TARGET, render(), purpose=__doc__)


class _Dumper(yaml.SafeDumper):
    """Writes shared values out each time; anchors are hard to read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.endswith("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def render() -> str:
    """The whole document, as YAML."""
    text = yaml.dump(document(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + str(text)


if __name__ == "__main__":
    sys.exit(main())
