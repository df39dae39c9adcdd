"""The programs that build container images, and what each wants said differently."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KINDS = ("docker", "podman", "buildah")
_ANSWER_S = 30.0
# The first docker whose `build` is the buildx plugin's; older ones have BuildKit in the daemon.
_BUILDX_SINCE = 23


class BuilderError(Exception):
    """No image can be built, or a builder failed; the message says what to do."""


@dataclass(frozen=True)
class Builder:
    """A builder that answered; `path` is its program."""

    kind: str
    path: str
    has_buildx: bool = False

    def build_command(
        self,
        context: Path,
        image: str,
        labels: Mapping[str, str],
        build_args: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> list[str]:
        """The command that builds `image` from a folder; `build_args` are names of variables."""
        command = [self.path, "build", "--file", str(context / "env/docker/Dockerfile")]
        command += ["--tag", image]
        if self.kind != "docker":
            command += ["--format", "docker", "--layers"]  # the OCI format has no HEALTHCHECK
        elif self.has_buildx:
            command += ["--load"]
        for name, value in labels.items():
            command += ["--label", f"{name}={value}"]
        for name in build_args:
            command += ["--build-arg", name]
        return [*command, *options, str(context)]

    def environment(self) -> dict[str, str]:
        """What the build command runs with."""
        wanted = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        return {**os.environ, **(wanted if self.kind == "docker" else {})}

    def layers(self, image: str) -> list[str]:
        """Digests of the layers' contents, the base's first."""
        if self.kind == "buildah":
            told = json.loads(self._ask("inspect", "--type", "image", image))
            return list(told["OCIv1"]["rootfs"]["diff_ids"])
        return list(json.loads(self._inspect(image, "{{json .RootFS.Layers}}")))

    def variables(self, image: str) -> list[str]:
        """The image's environment, as NAME=value."""
        if self.kind == "buildah":
            told = json.loads(self._ask("inspect", "--type", "image", image))
            return list(told["OCIv1"]["config"].get("Env") or [])
        return list(json.loads(self._inspect(image, "{{json .Config.Env}}")) or [])

    def history(self, image: str) -> str:
        """The instructions that the image was made by, with their arguments."""
        if self.kind == "buildah":
            told = json.loads(self._ask("inspect", "--type", "image", image))
            return json.dumps(told["OCIv1"].get("history"))
        return self._ask("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)

    def run_python(self, image: str, program: str, given: str = "") -> str:
        """What a Python program prints that runs in the image as root, without a network.

        `given` is its standard input, so that it is in nobody's list of processes.
        """
        with self._place(image) as command:
            return self._ask(*command, "python3", "-I", "-S", "-c", program, given=given)

    @contextmanager
    def _place(self, image: str) -> Iterator[list[str]]:
        if self.kind != "buildah":
            run = ["run", "--rm", "--interactive", "--network", "none", "--user", "0"]
            yield [*run, "--entrypoint", "/usr/bin/env", image]
            return
        container = self._ask("from", "--pull-never", image).strip()
        try:
            yield ["run", "--user", "0", container, "--"]
        finally:
            self._ask("rm", container)

    def _inspect(self, image: str, template: str) -> str:
        return self._ask("image", "inspect", "--format", template, image)

    def _ask(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [self.path, *arguments], input=given, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise BuilderError(f"{self.kind} {arguments[0]} failed: {''.join(said)}")
        return done.stdout


def find_builder(kind: str | None, passed_over: list[str] | None = None) -> Builder:
    """The first builder that works, of one kind or of all; into `passed_over` goes why others not.

    Raises:
        BuilderError: there is none.
    """
    reasons: list[str] = [] if passed_over is None else passed_over
    for wanted in (kind,) if kind else KINDS:
        for path in programs(wanted):
            found = check(wanted, path)
            if isinstance(found, Builder):
                return found
            reasons.append(f"{path}: {found}")
    known = "; ".join(reasons) or f"there is no {kind or ', '.join(KINDS)} on the PATH"
    raise BuilderError(
        f"nothing here builds images ({known}); install docker with buildx and start it, or "
        "install podman or buildah"
    )


def programs(name: str) -> list[str]:
    """Every program of this name on the PATH, each once."""
    found: dict[Path, str] = {}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(folder or ".") / name
        if path.is_file() and os.access(path, os.X_OK):
            found.setdefault(path.resolve(), str(path))
    return list(found.values())


def check(kind: str, path: str) -> Builder | str:
    """The builder, or why the program is none."""
    try:
        return _check_docker(path) if kind == "docker" else _check_daemonless(kind, path)
    except subprocess.TimeoutExpired:
        return f"does not answer within {_ANSWER_S:.0f} s"
    except OSError as error:
        return f"cannot be run ({error.strerror})"


def _check_docker(path: str) -> Builder | str:
    client = _try(path, "version", "--format", "{{.Client.Version}}")
    server = _try(path, "version", "--format", "{{.Server.Version}}")
    version = re.match(r"\d+", client.stdout.strip() or _try(path, "--version").stdout[15:])
    if server.returncode != 0 or not re.match(r"\d", server.stdout.strip()):
        return "its daemon does not answer"
    if version is None or int(version[0]) < _BUILDX_SINCE:
        return Builder("docker", path)
    if _try(path, "buildx", "version").returncode != 0:
        return "it has no buildx"
    return Builder("docker", path, has_buildx=True)


def _check_daemonless(kind: str, path: str) -> Builder | str:
    done = _try(path, "info")
    if done.returncode == 0:
        return Builder(kind, path)
    said = done.stderr.strip().splitlines()[-1:]
    return f"does not work ({''.join(said)})"


def _try(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_ANSWER_S,
    )
