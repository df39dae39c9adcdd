"""The image for GPUs, as far as a machine without a GPU goes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.container.engine import HARDENED, KEY, Failed, ask
from tests.container.run import IMAGE, Run

# Compiled kernels are loaded from there, which a plain tmpfs of docker's does not permit.
_KERNELS = "--tmpfs=/data:exec,mode=1777"
_PROGRAM = Path(__file__).with_name("kernels.py")
_REFUSAL = "Yap could not start: The vLLM that is installed is for GPUs, and it finds none"
_REFUSED_WITHIN_S = 180
_IMPORTS = """
import json, os, service, bentoml, torch, vllm, yap
print(json.dumps({
    "user": os.getuid(), "bentoml": bentoml.__version__, "torch": torch.__version__,
    "cuda": torch.version.cuda, "vllm": vllm.__version__, "yap": os.path.dirname(yap.__file__),
}))
"""

# Triton reads the source of a kernel from a file.
_FROM_FILE = """
import runpy, sys
open("/tmp/kernels.py", "w").write(sys.stdin.read())
runpy.run_path("/tmp/kernels.py", run_name="__main__")
"""


def check(run: Run) -> None:
    """Build it, look into it, see it refuse to start."""
    run.build("cuda")
    run.found["holds"] = run.step("imports", lambda: imports(run))
    run.found["kernels"] = run.step("kernels are compiled", lambda: kernels(run))
    run.found["without_a_gpu"] = run.step("start without a GPU", lambda: refusal(run))


def imports(run: Run) -> dict[str, Any]:
    """What it runs on, imported as the server does it."""
    found = _python(run, ["-c", _IMPORTS], "--workdir=/home/bentoml/bento/src")
    if not found["cuda"] or found["user"] == 0 or not found["yap"].startswith("/home/bentoml"):
        raise Failed(f"the image for GPUs holds {found}")
    return found


def kernels(run: Run) -> dict[str, Any]:
    """What Triton does while the service runs: a kernel for a GPU, and a launcher in C."""
    text = _PROGRAM.read_text(encoding="utf-8")
    return _python(run, ["-c", _FROM_FILE], given=text)


def refusal(run: Run) -> dict[str, Any]:
    """Without a GPU the server ends by itself, and says in one sentence what to do."""
    command = ["run", "--rm", "--network=none", *HARDENED, f"--env=TEXT_API_KEY={KEY}", IMAGE]
    begun = time.monotonic()
    done = subprocess.run(
        [run.program, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_REFUSED_WITHIN_S,
    )
    last = done.stdout.strip().splitlines()[-1]
    if done.returncode != 1 or not last.startswith(_REFUSAL) or "--gpus all" not in last:
        raise Failed(f"without a GPU it exits with {done.returncode}:\n{done.stdout[-4000:]}")
    return {"exit": 1, "seconds": round(time.monotonic() - begun, 1)}


def _python(
    run: Run, arguments: list[str], *options: str, given: str | None = None
) -> dict[str, Any]:
    """The JSON that a program prints at last in a confined container of the image."""
    confined = [option for option in HARDENED if option != "--tmpfs=/data"]
    command = [run.program, "run", "--rm", "--interactive", "--network=none", *confined, _KERNELS]
    command += [*options, "--entrypoint=python", IMAGE, *arguments]
    found: dict[str, Any] = json.loads(ask(*command, given=given).splitlines()[-1])
    return found
