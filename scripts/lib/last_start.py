"""What the last start of the server was asked for, so that a restart can ask for the same.

    last_start.py --file FILE remember --quantize WORD    from the environment, into FILE
    last_start.py --file FILE recall --record RECORD      NAME=value of what is not set now, each
                                                          ended by a null byte; QUANTIZE among them

Remembered are the settings as they were given, before a start works out models and ports from them.
Secrets are not written down: they are taken from the running server's own environment, and where it
does not run they have to be given again. Exit status 2 with a sentence when that is so. A key that
is the one in `api_key` beside FILE counts as not given: a start takes it from there.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from processes import belonging, leader, read_record, writes_log

from yap.settings import variables

SECRETS = ("TEXT_API_KEY", "HF_TOKEN", "HUGGINGFACE_HUB_TOKEN")
NEEDED = ("TEXT_API_KEY",)  # others may well have been for a download that is done
# Not settings of ours, and yet they decide what is served, or how.
ALSO = (
    "BENTOML_HOME",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HUGGINGFACE_HUB_CACHE",
    "OMP_NUM_THREADS",
    "START_TIMEOUT_S",
    "XDG_CACHE_HOME",
    "YAP_LOG_KEEP",
    "YAP_LOG_MAX_BYTES",
    "YAP_QUANTIZATION_DIR",
)
PREFIXES = ("AWQ_", "HF_AWQ_", "VLLM_")


class Refused(Exception):
    """It cannot be as before; the message says what to do."""


def is_remembered(name: str) -> bool:
    return name in variables() or name in ALSO or name.startswith(PREFIXES)


def remember(file: Path, quantize: str, environ: Mapping[str, str]) -> None:
    """Write what this start is asked for."""
    given = {name: value for name, value in environ.items() if value.strip()}
    if given.get("TEXT_API_KEY") == stored_key(file):
        given.pop("TEXT_API_KEY", None)
    kept = sorted(name for name in given if is_remembered(name) and name not in SECRETS)
    found = {
        "quantize": quantize,
        "settings": {name: given[name] for name in kept},
        "secrets": [name for name in SECRETS if name in given],
    }
    file.touch(0o600)
    file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def stored_key(file: Path) -> str | None:
    """The key that a start without TEXT_API_KEY takes; see `prepare_api_key` in launch.sh."""
    try:
        return (file.parent / "api_key").read_text(encoding="utf-8").rstrip("\n") or None
    except (OSError, ValueError):
        return None


def recall(file: Path, record: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What to set so that a start asks for what the last one did; what is set now stays.

    Raises:
        Refused: a secret that it needs is written down nowhere.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        settings, secrets = dict(found["settings"]), list(found["secrets"])
        wanted = {"QUANTIZE": str(found["quantize"])}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"{file} cannot be read; remove it, and start with scripts/main.sh") from None
    running = environment_of(record)
    for name in secrets:
        if name in running:
            settings[name] = running[name]
        elif name in NEEDED and not environ.get(name):
            raise Refused(
                f"the last start was given {name}, which is kept nowhere, and the server does not "
                f"run: set {name} again"
            )
    wanted |= {str(name): str(value) for name, value in settings.items() if name not in environ}
    return wanted


def environment_of(record_path: Path) -> dict[str, str]:
    """The environment that the running server was started with; empty when it does not run.

    It is read off what writes the log, which was given the same: the server's own processes take
    the memory that holds theirs for the names that they show in a list of processes.
    """
    record = read_record(record_path)
    if record is None or leader(record) is None:
        return {}
    for process in filter(writes_log, belonging(record)):
        try:
            pairs = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        return as_mapping(pairs)
    return {}


def as_mapping(pairs: Iterable[bytes]) -> dict[str, str]:
    return {os.fsdecode(n): os.fsdecode(v) for n, _, v in (pair.partition(b"=") for pair in pairs)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Remember and recall what a start was asked for.")
    parser.add_argument("--file", type=Path, required=True)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("remember").add_argument("--quantize", default="")
    actions.add_parser("recall").add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.action == "remember":
        remember(arguments.file, arguments.quantize, os.environ)
        return 0
    try:
        found = recall(arguments.file, arguments.record, os.environ)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.write("".join(f"{name}={value}\0" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
