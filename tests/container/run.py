"""One run of the container test: the folder it works in, what it made, what it found."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.container.engine import Failed

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "lib"))  # its helpers are scripts, not a package

from builders import Builder  # noqa: E402

IMAGE = "yap-container-test:one"


class Run:
    """One run of the whole: where it works, what it found."""

    def __init__(self, builder: Builder, work: Path, options: list[str]) -> None:
        self.builder = builder
        self.work = work
        self.options = options
        # buildah builds and does not run; podman finds its images.
        self.program = builder.path if builder.kind != "buildah" else "podman"
        self.environ = {
            **os.environ,
            "BENTOML_HOME": str(work / "bentoml home"),
            "BENTOML_DO_NOT_TRACK": "True",
            # These must not get into an image, whoever builds it.
            "TEXT_API_KEY": f"canary-{secrets.token_hex(12)}",
            "HF_TOKEN": f"hf_{secrets.token_hex(17)}",
        }
        self.found: dict[str, Any] = {"builder": builder.kind, "seconds": {}}
        self.images: list[str] = []

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a part of it and note its seconds."""
        print(f"  {name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        result = work()
        self.found["seconds"][name] = round(time.monotonic() - begun, 1)
        return result

    def script(self, *command: str, cwd: Path = ROOT) -> list[str]:
        """Run a command of the project; the lines it printed."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"{' '.join(command[:3])} failed:\n{done.stdout[-4000:]}")
        return done.stdout.splitlines()

    def containerize(self, tag: str, image: str) -> dict[str, Any]:
        """scripts/containerize.sh; the facts that it writes."""
        self.images.append(image)
        facts = self.work / "facts.json"
        command = ["bash", str(ROOT / "scripts" / "containerize.sh"), tag, "--image", image]
        command += ["--builder", self.builder.kind, "--json", str(facts), "--", *self.options]
        self.script(*command)
        found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        return found

    def build(self, accelerator: str) -> str:
        """The first image, cpu or cuda; the Bento it was made from."""
        command = ["bash", str(ROOT / "scripts" / "build.sh"), "both", f"--{accelerator}"]
        tag: str = tag_of(self.step("build.sh", lambda: self.script(*command)))
        facts = self.step("containerize.sh", lambda: self.containerize(tag, IMAGE))
        self.found |= {"bento": tag, "bytes": facts["bytes"], "layers": facts["layers"]}
        return tag


def tag_of(lines: list[str]) -> str:
    """The Bento that scripts/build.sh made: the first word of its last line."""
    return lines[-1].split()[0]


def remove_images(run: Run) -> None:
    """The images of this run; what the builder keeps to build faster next time stays."""
    for image in run.images:
        subprocess.run([run.program, "rmi", "--force", image], capture_output=True, check=False)
