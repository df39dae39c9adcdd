"""Remove what this project has made in its own folder: print it with its size first.

    cleaning.py --root FOLDER [--dry-run] KIND...

KIND is caches, models, environment or all. Nothing outside the project's folder is touched: not
when a variable names it, and not when a link inside leads there. Standard library only.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KERNELS = ("vllm", "inductor", "triton", "cuda", ".cache/flashinfer", "flashinfer")
TOOL_CACHES = (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Item:
    """A file or folder that this project makes, and what it is."""

    path: Path
    what: str


@dataclass(frozen=True)
class Places:
    """Where things are: their defaults are in the project, variables may say otherwise."""

    root: Path
    environ: Mapping[str, str]

    def named(self, variable: str, default: Path) -> Path:
        said = self.environ.get(variable, "").strip()
        return Path(said).expanduser().absolute() if said else default

    @property
    def run(self) -> Path:
        return self.named("YAP_RUN_DIR", self.root / ".run")

    @property
    def log(self) -> Path:
        return self.named("YAP_LOG_FILE", self.root / "server.log")

    @property
    def venv(self) -> Path:
        return self.named("YAP_VENV", self.root / ".venv")

    @property
    def quantization(self) -> Path:
        return self.named("YAP_QUANTIZATION_DIR", self.root / ".cache" / "quantization")

    @property
    def kernels(self) -> Path:
        home = Path(self.environ.get("HOME") or "~").expanduser()
        caches = self.named("XDG_CACHE_HOME", home / ".cache")
        return self.named("CHAT_CACHE_DIR", caches / "yap")

    @property
    def hub(self) -> Path:
        home = Path(self.environ.get("HOME") or "~").expanduser()
        caches = self.named("XDG_CACHE_HOME", home / ".cache")
        return self.named("HF_HUB_CACHE", self.named("HF_HOME", caches / "huggingface") / "hub")


def caches(places: Places) -> Iterator[Item]:
    for name in KERNELS:
        yield Item(places.kernels / name, "compiled kernels")
    yield Item(places.quantization / "work", "unfinished quantizations")
    yield Item(places.run / "bentoml" / "prometheus_multiproc_dir", "metrics of the last run")
    for name in TOOL_CACHES:
        yield Item(places.root / name, "what checks and tests keep")
    for folder, names, _ in os.walk(places.root):
        if "__pycache__" in names:
            yield Item(Path(folder) / "__pycache__", "compiled Python")
        # Environments hold their own, and hidden folders none of ours.
        names[:] = [name for name in names if not name.startswith((".", "__"))]


def models(places: Places) -> Iterator[Item]:
    yield Item(places.quantization / "exports", "quantized models")
    yield Item(places.hub, "models downloaded from the Hub")


def environment(places: Places) -> Iterator[Item]:
    # A virtual environment that install.sh has not made, or not taken over, is not ours.
    if (places.venv / ".yap-variant").is_file():
        yield Item(places.venv, "the Python environment")
    elif places.venv.exists():
        print(f"Left alone: {places.venv} was not made by scripts/install.sh.")
    yield Item(places.quantization / "environments", "the quantizers' environments")


def everything(places: Places) -> Iterator[Item]:
    yield from caches(places)
    yield from models(places)
    yield from environment(places)
    yield Item(places.quantization, "what quantization has made")
    yield Item(places.run, "the API key, the last start, BentoML's store")
    yield from (Item(log, "a log") for log in logs(places.log))


def logs(log: Path) -> Iterator[Path]:
    yield log
    for path in sorted(log.parent.glob(f"{log.name}.*")):
        if path.name.removeprefix(f"{log.name}.").isdecimal():
            yield path


KINDS: Mapping[str, Callable[[Places], Iterator[Item]]] = {
    "caches": caches,
    "models": models,
    "environment": environment,
    "all": everything,
}


def reason_to_leave(root: Path, path: Path) -> str:
    """Why this must not be removed; empty when it may be."""
    inside = Path(os.path.normpath(path))
    if not inside.is_relative_to(root) or inside == root:
        return "it is outside this project's folder"
    if inside.resolve() != root.resolve() / inside.relative_to(root):
        return "a link leads from there to somewhere else"
    if any(Path(mount).is_relative_to(inside.resolve()) for mount in mounts()):
        return "a file system is mounted there"
    if (inside / ".git").exists():
        return "it holds a repository"
    return ""


def mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]


def size(path: Path) -> int:
    """Bytes on the disk, a file with several names counted once. Links are not followed."""
    seen: dict[tuple[int, int], int] = {}

    def add(entry: str | Path) -> None:
        try:
            found = os.lstat(entry)
        except OSError:
            return
        seen[found.st_dev, found.st_ino] = found.st_blocks * 512

    add(path)
    for folder, names, files in os.walk(path):
        for name in [*names, *files]:
            add(f"{folder}/{name}")
    return sum(seen.values())


def human(count: float) -> str:
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def chosen(root: Path, kinds: Sequence[str], environ: Mapping[str, str]) -> list[Item]:
    """What is there and may be removed, nothing twice. Says what is left alone, and why."""
    places = Places(root, environ)
    items: list[Item] = []
    for item in (item for kind in kinds for item in KINDS[kind](places)):
        if not os.path.lexists(item.path):
            continue
        if any(item.path.is_relative_to(other.path) for other in items):
            continue
        if reason := reason_to_leave(root, item.path):
            print(f"Left alone: {item.path} ({item.what}): {reason}.")
        else:
            items = [other for other in items if not other.path.is_relative_to(item.path)]
            items.append(item)
    return items


def remove(item: Item) -> bool:
    """Whether it has gone."""
    try:
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        print(f"error: {item.path} cannot be removed: {error.strerror}", file=sys.stderr)
        return False
    return True


def clean(root: Path, kinds: Sequence[str], environ: Mapping[str, str], *, dry_run: bool) -> int:
    """Print what there is with its size, then remove it; 1 when something could not be."""
    items = chosen(root, kinds, environ)
    if not items:
        print("There is nothing to remove.")
        return 0
    print("Would remove:" if dry_run else "Removing:")
    width = max(len(str(item.path.relative_to(root))) for item in items)
    total = 0
    for item in items:
        taken = size(item.path)
        total += taken
        shown = str(item.path.relative_to(root)).ljust(width)
        print(f"  {shown}  {human(taken):>8}  {item.what}", flush=True)
    print(f"  {'in all'.ljust(width)}  {human(total):>8}", flush=True)
    left = [] if dry_run else [item for item in items if not remove(item)]
    return 1 if left else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Remove what this project has made.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true", help="only print it")
    parser.add_argument("kinds", nargs="+", choices=tuple(KINDS), metavar="KIND")
    arguments = parser.parse_args()
    root = arguments.root.absolute()
    return clean(root, arguments.kinds, os.environ, dry_run=arguments.dry_run)


if __name__ == "__main__":
    sys.exit(main())
