"""What an image weighs part by part, and whether a secret got into it.

Both programs here are handed to the image's own Python, so that they see it as it will run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from builders import Builder, BuilderError

PARTS = ("base", "environment", "weights", "code")
# The Dockerfile's last COPY instructions: weights, then what changes more often.
CODE_LAYERS = 4
# Variables whose values must not be in an image.
SECRETS = ("TEXT_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_PATTERN", "HUGGINGFACEHUB_API_TOKEN")
_HUB_PATTERN = r"hf_[A-Za-z0-9]{30,}"

_MEASURE = """
import json, os, sys
bento, device = os.environ["BENTO_PATH"], os.stat("/").st_dev
sizes, seen = dict.fromkeys(("base", "environment", "weights", "code"), 0), set()
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.lstat(os.path.join(folder, f)).st_dev == device]
    inside = folder + "/"
    part = ("environment" if inside.startswith("/app/") else
            "weights" if inside.startswith(bento + "/models/") else
            "code" if inside.startswith(bento + "/") else "base")
    for file in files:
        facts = os.lstat(os.path.join(folder, file))
        if facts.st_ino not in seen:
            seen.add(facts.st_ino)
            sizes[part] += facts.st_size
print(json.dumps(sizes))
"""

_SEARCH = """
import json, os, re, sys
wanted = json.load(sys.stdin)
values = [value.encode() for value in wanted["values"]]
token = re.compile(wanted["token"].encode())
skipped = ("/app", "/proc", "/sys", "/dev", "/usr", "/var/lib",
           os.environ["BENTO_PATH"] + "/models")
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in skipped]
    for file in files:
        path = os.path.join(folder, file)
        if not os.path.isfile(path) or os.path.islink(path):
            continue
        with open(path, "rb") as opened:
            data = opened.read()
        if token.search(data) or any(value in data for value in values):
            print(path)
"""


def measure(builder: Builder, image: str) -> dict[str, int]:
    """Bytes of each of `PARTS`."""
    sizes: dict[str, int] = json.loads(builder.run_python(image, _MEASURE))
    return sizes


def layers_by_part(layers: list[str]) -> dict[str, list[str]]:
    """An image's layer digests, told apart by what the Dockerfile copies."""
    code = len(layers) - CODE_LAYERS
    return {
        "base": layers[: code - 2],
        "environment": layers[code - 2 : code - 1],
        "weights": layers[code - 1 : code],
        "code": layers[code:],
    }


def known_secrets(environ: Mapping[str, str], key_file: Path) -> list[str]:
    """The secrets of whoever builds: what must be in no image."""
    found = [environ.get(name, "").strip() for name in SECRETS]
    if key_file.is_file():
        found.append(key_file.read_text(encoding="utf-8").strip())
    return [part for value in found for part in value.split(",") if len(part) >= 8]


def refuse_secrets(builder: Builder, image: str, values: list[str]) -> None:
    """Look through the image's variables, its history and the files that the build put there.

    Raises:
        BuilderError: there is one; the message says where and not what.
    """
    pattern = re.compile(_HUB_PATTERN)
    named = [line.split("=", 1)[0] for line in builder.variables(image)]
    told = "\n".join([*builder.variables(image), builder.history(image)])
    places = [f"the variable {name}" for name in named if name in SECRETS]
    if pattern.search(told) or any(value in told for value in values):
        places.append("its variables or its history")
    given = json.dumps({"values": values, "token": _HUB_PATTERN})
    places += builder.run_python(image, _SEARCH, given).splitlines()
    if places:
        raise BuilderError(
            f"the image {image} holds a secret, in {', '.join(places)}: do not publish it, take "
            "the secret out of what goes into the Bento, and build both again"
        )


def human(size: int) -> str:
    """Bytes as megabytes, the way that image sizes are usually given."""
    return f"{size / 1e6:10,.1f} MB"
