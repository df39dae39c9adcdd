"""Build the image of a Bento; scripts/containerize.sh calls this.

    containerize.py [--builder KIND] [--image NAME] [--wheels FOLDER] [--json FILE] TAG -- OPTION...

The Dockerfile is the Bento's own (rendered from deploy/docker/Dockerfile.template), the same that
`bentoml containerize` builds from.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pip_settings
from build_context import make_context, torch_wheels
from builders import Builder, BuilderError, find_builder
from image_parts import PARTS, human, known_secrets, layers_by_part, measure, refuse_secrets

ROOT = Path(__file__).resolve().parents[2]
# What a build may need to reach an index, and what no layer of the image keeps.
PASSED_ON = ("PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Bento:
    """A Bento in the store with the folders of its models."""

    tag: str
    path: Path
    models: dict[str, Path]
    labels: dict[str, str]


def find_bento(tag: str) -> Bento:
    """Look a Bento up; a tag without a version is the newest.

    Raises:
        BuilderError: it is not there, or scripts/build.sh did not make it.
    """
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        found = bentoml.get(tag)
        models = {
            str(model.tag): Path(bentoml.models.get(model.tag).path)
            for model in found.info.all_models
        }
    except (BentoMLException, ValueError) as error:
        raise BuilderError(
            f"there is no Bento {tag} with its models in the store ({error}); build one with "
            "scripts/build.sh, or import one with `bentoml import`"
        ) from None
    path = Path(found.path)
    if not (path / "env/docker/setup_script").is_file() or not models:
        raise BuilderError(f"{found.tag} was not built by scripts/build.sh; build it with that")
    labels = {name: str(value) for name, value in found.info.labels.items()}
    return Bento(str(found.tag), path, models, labels)


def image_labels(bento: Bento) -> dict[str, str]:
    """The labels of the Open Container Initiative's image specification, and the Bento's tag."""
    return {
        "org.opencontainers.image.title": "yap",
        "org.opencontainers.image.version": bento.labels.get("version", ""),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "yap.bento": bento.tag,
        "yap.models": ",".join(sorted(bento.models)),
    }


def wheel_places(named: Path | None) -> list[Path]:
    """Folders that may hold wheels: the one that was named, else pip's."""
    if named is not None:
        return [named]
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    links = pip_settings.read_settings(listing).get("find-links", "")
    return [Path(link) for link in links.split(",") if link and Path(link).is_dir()]


def build(
    builder: Builder, bento: Bento, image: str, wheels: list[Path], options: Sequence[str]
) -> None:
    """Build the image; the builder's own output goes to standard error.

    Raises:
        BuilderError: the builder failed.
    """
    # Beside the store: on one disk the weights need not be copied.
    place = bento.path.parent.parent.parent
    with tempfile.TemporaryDirectory(prefix=".yap-image-", dir=place) as folder:
        context = Path(folder)
        make_context(bento.path, bento.models, wheels, context)
        passed = [name for name in PASSED_ON if os.environ.get(name)]
        command = builder.build_command(context, image, image_labels(bento), passed, options)
        done = subprocess.run(command, env=builder.environment(), stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise BuilderError(
            f"{builder.kind} could not build the image (its output is above); is the package "
            "index reached from inside a build, and the base image there?"
        )


def show(sizes: dict[str, int], image: str) -> None:
    """The image's size by part."""
    for part in PARTS:
        print(f"  {human(sizes[part])}  {part}")
    print(f"  {human(sum(sizes.values()))}  in all")
    print(image)


def containerize(options: argparse.Namespace) -> None:
    """Find, build, look through, measure."""
    begun = time.monotonic()
    passed_over: list[str] = []
    try:
        builder = find_builder(options.builder, passed_over)
    finally:
        for reason in passed_over:
            print(f"  not {reason}", file=sys.stderr)
    bento = find_bento(options.tag)
    image = options.image or bento.tag
    print(f"Building the image {image} with {builder.path}")
    wheels = torch_wheels(bento.path / "env/python/requirements.txt", wheel_places(options.wheels))
    build(builder, bento, image, wheels, options.options)
    built_s = time.monotonic() - begun
    refuse_secrets(builder, image, known_secrets(os.environ, ROOT / ".run" / "api_key"))
    sizes = measure(builder, image)
    if options.json is not None:
        facts = {
            "image": image,
            "bento": bento.tag,
            "builder": builder.kind,
            "build_s": round(built_s, 1),
            "bytes": sizes,
            "layers": layers_by_part(builder.layers(image)),
        }
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    show(sizes, image)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="scripts/containerize.sh calls this.")
    parser.add_argument("--builder")
    parser.add_argument("--image")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("tag")
    parser.add_argument("options", nargs="*")
    return parser.parse_args()


def main() -> int:
    try:
        containerize(_arguments())
    except BuilderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
