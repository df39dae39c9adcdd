"""Build the image, build it again after a change, run it, talk to it, stop it; report as JSON.

    python -m tests.container.check [--cuda] [--builder KIND] [--json FILE] [--from-scratch]
                                    [-- OPTION...]

scripts/container_test.sh calls this and says what the options mean. It works in folders of its own
and takes away what it made.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.container import base, cuda, daemon
from tests.container.engine import PORT, Container, Failed, ask, outside_probe
from tests.container.run import IMAGE, ROOT, Run, remove_images, tag_of

# scripts/lib, which tests.container.run put on the path
from builders import Builder, BuilderError, find_builder  # isort: skip
from containerize import wheel_places  # isort: skip
from image_parts import layers_by_part  # isort: skip

# What the second Bento is built from: the checkout without what is large or not needed.
_LEFT_OUT = (".*", "__pycache__", "tests", "docs", "training", "yap-*-demo", "server.log*")
_LONG_REPLY = {"CHAT_MAX_OUT": "600"}  # some seconds, and less than DRAIN_TIMEOUT_S
_COMPLETE = ("stop", "length")
_STOP_REACHES_S = 0.3  # by then the signal of `docker stop` has come
_PACKAGES = ("debootstrap", "iptables", "iproute2")


def build_with_other_code(run: Run, tag: str) -> None:
    """A changed source file must change the code's layers and no other."""
    other = run.work / "other checkout"
    shutil.copytree(ROOT, other, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    with (other / "yap" / "app.py").open("a", encoding="utf-8") as source:
        source.write("# another version\n")
    listed = run.script(sys.executable, "-c", _MODELS_OF, tag)
    chat = next(model for model in listed if "chat" in model)
    tool = next(model for model in listed if "screen" in model)
    command = [sys.executable, str(other / "scripts/lib/bento.py"), "--mode", "both"]
    lines = run.script(*command, "--accelerator", "cpu", "--chat", chat, "--tool", tool)
    image = "yap-container-test:two"
    facts = run.step(
        "containerize.sh, code changed", lambda: run.containerize(tag_of(lines), image)
    )
    same = [part for part, layers in run.found["layers"].items() if layers == facts["layers"][part]]
    run.found["same_layers_after_a_change_of_code"] = same
    if same != ["base", "environment", "weights"]:
        raise Failed(f"after a change of code these layers are the same: {same}")


_MODELS_OF = """
import bentoml, sys
print(*(model.tag for model in bentoml.get(sys.argv[1]).info.all_models), sep="\\n")
"""


def serve_without_network(run: Run) -> None:
    """Nothing is fetched, nothing is written, nobody is root."""
    with Container(run.program, IMAGE, "--network=none") as container:
        run.found["healthy_s"] = round(container.wait_healthy(), 1)
        answers = run.step("turns without a network", lambda: container.probe("turns"))
        run.found["offline"] = check_turns(answers)
        if answers["network"]:
            raise Failed("the container without a network reaches one")
        run.found["user"] = check_confinement(container)
        seconds, code = container.stop()
        run.found["stop_idle"] = {"seconds": round(seconds, 2), "exit": code}
        if code != 0:
            raise Failed(f"stopped while idle, it exits with {code}:\n{container.logs()}")


def check_turns(answers: dict[str, Any]) -> dict[str, Any]:
    """Each way in must have answered in full."""
    spoken = {name: dict(answers[name]) for name in ("websocket", "http")}
    for name, turn in spoken.items():
        if turn["ended"] not in _COMPLETE or not turn["text"]:
            raise Failed(f"the {name} turn was not answered: {turn}")
        del turn["ended_at"]
    if answers["http"]["status"] != 200 or answers["classify"]["status"] != "yes":
        raise Failed(f"HTTP answers {answers['http']} and {answers['classify']}")
    return {**spoken, "classify": answers["classify"]}


def check_confinement(container: Container) -> str:
    """Process 1 is the server, not root, and can write where it should and nowhere else."""
    status = container.execute("cat", "/proc/1/status")
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    uid = facts["Uid"].split()[0]
    if uid == "0" or int(facts["CapEff"], 16) != 0:
        raise Failed(f"the server runs as user {uid} with capabilities {facts['CapEff'].strip()}")
    if "python" not in container.execute("readlink", "/proc/1/exe"):
        raise Failed("process 1 is not the server, so that signals do not reach it")
    for folder in ("/home/bentoml/bento", "/app/.venv", "/usr", "/etc"):
        if container.succeeds("touch", f"{folder}/written"):
            raise Failed(f"{folder} can be written to")
    return uid


def stop_while_streaming(run: Run) -> None:
    """`docker stop` lets replies finish, over both ways in, and the server exits with 0."""
    options = ("--publish", f"127.0.0.1::{PORT}")
    with Container(run.program, IMAGE, *options, **_LONG_REPLY) as container:
        container.wait_healthy()
        address = container.address()
        clients = outside_probe("streams", address)
        if clients.stdout is None or clients.stdout.readline().strip() != "streaming":
            raise Failed(f"no reply began:\n{container.logs()}")
        begun = time.time()
        seconds, code = run.step("docker stop while streaming", container.stop)
        told = json.loads(clients.communicate(timeout=60)[0])
        for turn in told.values():
            turn["went_on_for_s"] = round(turn.pop("ended_at") - begun, 2)
            turn.pop("text")
        found = {"seconds": round(seconds, 2), "exit": code, **told}
        run.found["stop_streaming"] = found
        complete = all(turn["ended"] in _COMPLETE for turn in told.values())
        drained = all(turn["went_on_for_s"] > _STOP_REACHES_S for turn in told.values())
        if code != 0 or not complete or not drained:
            raise Failed(f"stopped while streaming: {found}\n{container.logs()}")


def bentoml_containerize(run: Run, tag: str) -> None:
    """BentoML's own command builds the same image from the same Dockerfile."""
    image = "yap-container-test:bentoml"
    run.images.append(image)
    with serving_wheels() as link:
        options = ["network=host", *([f"build-arg=PIP_FIND_LINKS={link}"] if link else [])]
        options += [option.removeprefix("--") for option in run.options if option[:2] == "--"]
        command = [sys.executable, "-m", "bentoml", "containerize", tag, "--image-tag", image]
        command += ["--backend", run.builder.kind]
        for option in dict.fromkeys(options):
            command += ["--opt", option]
        if run.builder.kind != "docker":
            command += ["--opt", "format=docker"]
        folder = str(Path(run.builder.path).parent)
        run.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
        # BentoML reads its own copy of the template only from below the current folder.
        place = Path(tempfile.gettempdir())
        run.step("bentoml containerize", lambda: run.script(*command, cwd=place))
    layers = layers_by_part(run.builder.layers(image))
    same = [part for part in layers if layers[part] == run.found["layers"][part]]
    run.found["same_layers_by_bentoml_containerize"] = same
    with Container(run.program, image, "--network=none") as container:
        container.wait_healthy()
        check_turns(container.probe("turns"))


@contextmanager
def serving_wheels() -> Iterator[str | None]:
    """PyTorch's CPU wheel over HTTP on the loopback, where it lies on this machine's disk."""
    places = [place for place in wheel_places(None) if list(place.glob("torch-*.whl"))]
    if not places:
        yield None
        return
    handler = functools.partial(_Quiet, directory=str(places[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def install_packages(kind: str) -> None:
    """What a machine that has nothing needs, from Debian's packages."""
    wanted = [*_PACKAGES, "docker.io"] if kind == "docker" else [*_PACKAGES, kind, "podman", "runc"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *wanted]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failed(f"apt-get {command[0]} failed: {done.stderr[-1000:]}")


def prepare(options: argparse.Namespace, stack: ExitStack, work: Path) -> Builder:
    """A builder that works, with a base image."""
    kind = options.builder
    if options.from_scratch:
        kind = kind or "docker"
        print("  installing Debian's packages ...", file=sys.stderr, flush=True)
        install_packages(kind)
        if kind == "docker":
            os.environ["DOCKER_HOST"] = stack.enter_context(daemon.running(work / "docker"))
    builder = find_builder(kind)
    program = builder.path if builder.kind != "buildah" else "podman"
    if options.from_scratch and not base.exists(program):
        print("  making a base image ...", file=sys.stderr, flush=True)
        base.make(program)
        stack.callback(ask, program, "rmi", base.NAME)
    return builder


def check_cpu(run: Run) -> None:
    """The image for CPUs, which can be served here."""
    tag = run.build("cpu")
    build_with_other_code(run, tag)
    serve_without_network(run)
    stop_while_streaming(run)
    bentoml_containerize(run, tag)


def check(options: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    begun = time.monotonic()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yap container-")))
        builder = prepare(options, stack, work)
        run = Run(builder, work, options.options)
        stack.callback(remove_images, run)
        if options.cuda:
            cuda.check(run)
        else:
            check_cpu(run)
    run.found["seconds"]["in all"] = round(time.monotonic() - begun, 1)
    return run.found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="scripts/container_test.sh calls this.")
    parser.add_argument("--builder", choices=("docker", "podman", "buildah"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("options", nargs="*")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    try:
        found = check(options)
    except (Failed, BuilderError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    told = json.dumps(found, indent=2)
    if options.json is not None:
        options.json.write_text(told + "\n", encoding="utf-8")
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
