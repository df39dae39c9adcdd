"""Build a Bento from the checkout and from packed models; print its tag and what it weighs.

    bento.py --mode both --accelerator cpu --chat NAME:VERSION --tool NAME:VERSION [--export FILE]

`bentofile.yaml` is the one place that says what goes in. To it are added, in a folder of its own
that is gone afterwards: the models, the variant's lock, `packed.json`, which tells the service what
it carries, and the package's metadata, by which vLLM finds the plugin in pyproject.toml.

The version is made from all of this, so that the same sources and models are one Bento, built once.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[2]
MODES = {"both": ("chat", "tool"), "chat": ("chat",), "tool": ("tool",)}
# What a Bento for a GPU has otherwise than bentofile.yaml. Triton compiles its launchers with a C
# compiler while the service runs.
CUDA: dict[str, dict[str, Any]] = {
    "labels": {"accelerator": "cuda"},
    "python": {"requirements_txt": "requirements/cuda.txt"},
    "docker": {"system_packages": ["gcc", "g++", "libc6-dev"]},
}
_SKIPPED = {".git", ".venv", "__pycache__"}


class Refused(Exception):
    """The Bento cannot be built; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What to build: `models` holds a tag for each model of the mode."""

    mode: str
    accelerator: str
    models: Mapping[str, str]


@dataclass(frozen=True)
class Built:
    tag: str
    path: Path
    new: bool


def bentofile(wanted: Wanted, root: Path = ROOT) -> dict[str, Any]:
    """bentofile.yaml with what the variant and the models change."""
    made: dict[str, Any] = yaml.safe_load((root / "bentofile.yaml").read_text(encoding="utf-8"))
    if wanted.accelerator == "cuda":
        for section, values in CUDA.items():
            made[section].update(values)
    made["labels"] |= {"mode": wanted.mode, "version": project(root)["version"]}
    made["models"] = sorted(wanted.models.values())
    return made


def project(root: Path = ROOT) -> dict[str, Any]:
    """Name, version and entry points of the package, from pyproject.toml and `yap.__version__`."""
    told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = (root / "yap" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    if found is None:
        raise Refused('yap/__init__.py has no line __version__ = "...": put it back')
    return {"version": found[1], "name": told["name"], "entry-points": told["entry-points"]}


def stage(wanted: Wanted, folder: Path, root: Path = ROOT) -> None:
    """Fill a folder with all that `bentoml build` is to find there."""
    made = bentofile(wanted, root)
    needed = [
        made["python"]["requirements_txt"],
        made["docker"]["dockerfile_template"],
        made["docker"]["setup_script"],
    ]
    for name in [*included(made["include"], root), *needed]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    write_metadata(folder, project(root))
    packed = {"mode": wanted.mode, **{f"{kind}_model": tag for kind, tag in wanted.models.items()}}
    (folder / "packed.json").write_text(json.dumps(packed, indent=2) + "\n", encoding="utf-8")
    (folder / "bentofile.yaml").write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")


def included(patterns: list[str], root: Path) -> Iterator[str]:
    """Files of the checkout that bentofile.yaml includes."""
    spec = GitIgnoreSpec.from_lines(patterns)
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED and name[0] != "."]
        for file in files:
            name = str((Path(folder) / file).relative_to(root))
            if spec.match_file(name):
                yield name


def write_metadata(folder: Path, told: Mapping[str, Any]) -> None:
    """The package's metadata as an installer writes it, so that its entry points are found."""
    place = folder / f"{told['name']}-{told['version']}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {told['name']}\nVersion: {told['version']}\n",
        encoding="utf-8",
    )
    lines = []
    for group, points in told["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items()), ""]
    (place / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def version_of(wanted: Wanted, folder: Path) -> str:
    """Mode, accelerator, and 12 digits of the SHA-256 of all that is staged."""
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        sha.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return f"{wanted.mode}-{wanted.accelerator}-{sha.hexdigest()[:12]}"


def build(wanted: Wanted) -> Built:
    """The Bento in BentoML's store; built unless it is there."""
    import bentoml

    with tempfile.TemporaryDirectory(prefix="yap-bento-") as work:
        folder = Path(work)
        stage(wanted, folder)
        name = yaml.safe_load((folder / "bentofile.yaml").read_text(encoding="utf-8"))["name"]
        version = version_of(wanted, folder)
        tag = f"{name}:{version}"
        if _is_whole(tag, folder):
            return Built(tag, Path(bentoml.get(tag).path), new=False)
        _bentoml_build(folder, version)
    return Built(tag, Path(bentoml.get(tag).path), new=True)


def _is_whole(tag: str, folder: Path) -> bool:
    """Whether the store has the Bento; what a build that was killed left of it is removed."""
    import bentoml
    from bentoml.exceptions import BentoMLException, NotFound

    try:
        source = Path(bentoml.get(tag).path) / "src"
    except NotFound:
        return False
    except BentoMLException:  # without a bento.yaml
        bentoml.delete(tag)
        return False
    made = yaml.safe_load((folder / "bentofile.yaml").read_text(encoding="utf-8"))
    due = set(included(made["include"], folder)) - {"bentofile.yaml"}  # BentoML writes it anew
    if all(_size(source / name) == _size(folder / name) for name in due):
        return True
    bentoml.delete(tag)
    return False


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _bentoml_build(folder: Path, version: str) -> None:
    """In a process of its own, which imports the service from the staged files alone."""
    environ = {name: value for name, value in os.environ.items() if name not in _settings()}
    command = [sys.executable, "-m", "bentoml", "build", ".", "--version", version, "-o", "tag"]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        sys.stderr.write(done.stdout + done.stderr)
        raise Refused(f"bentoml build failed: {''.join(last)}")


def _settings() -> set[str]:
    """The service's own variables; those of whoever builds must not go into a Bento."""
    from yap.settings import variables

    return set(variables())


def sizes(built: Built, wanted: Wanted) -> list[tuple[str, int]]:
    """What the Bento weighs, part by part, in bytes."""
    import bentoml

    found = [("code, prompts and lock", size_of(built.path))]
    words = {"chat": "chat model", "tool": "screen classifier"}
    for kind, tag in wanted.models.items():
        found.append((f"{words[kind]} {tag}", size_of(Path(bentoml.models.get(tag).path))))
    return found


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def export(built: Built, wanted: Wanted, size: int, target: Path) -> int:
    """Write the Bento with its models to a .tar file, as `bentoml export` does; its size.

    BentoML makes two copies of the models on its way to the file, and leaves half a file when the
    disk is full. Here they go from the store to the file, which appears when it is whole.
    """
    import bentoml

    if target.exists():
        raise Refused(f"{target} exists already; name another file, or remove it")
    folder = target.parent
    if not folder.is_dir():
        raise Refused(f"there is no folder {folder}; make it, or name a file in another one")
    free = shutil.disk_usage(folder).free
    if free < size + (64 << 20):
        raise Refused(
            f"the export takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder}; "
            "make room, or name a file on another disk"
        )
    descriptor, half = tempfile.mkstemp(prefix=f".{target.name}-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(built.path, arcname=".")
            for tag in sorted(wanted.models.values()):
                name, _, version = tag.partition(":")
                tar.add(bentoml.models.get(tag).path, arcname=f"./models/{name}/{version}")
                _add_text(tar, f"./models/{name}/latest", version)
        Path(half).chmod(0o644)
        Path(half).rename(target)
    except OSError as error:
        raise Refused(
            f"{target} cannot be written ({error.strerror}); nothing is left of it"
        ) from None
    finally:
        Path(half).unlink(missing_ok=True)
    return target.stat().st_size


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    tar.addfile(entry, io.BytesIO(text.encode()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build a Bento; scripts/build.sh calls this.")
    parser.add_argument("--mode", choices=tuple(MODES), required=True)
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--chat", metavar="TAG")
    parser.add_argument("--tool", metavar="TAG")
    parser.add_argument("--export", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    models = {kind: getattr(options, kind) for kind in MODES[options.mode]}
    wanted = Wanted(options.mode, options.accelerator, models)
    try:
        built = build(wanted)
        parts = sizes(built, wanted)
        if options.export is not None:
            size = export(built, wanted, sum(size for _, size in parts), options.export)
            parts.append((str(options.export), size))
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for part, size in parts:
        print(f"  {size / 1e6:10,.1f} MB  {part}")
    print(f"{built.tag}{'' if built.new else ' (was built already)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
