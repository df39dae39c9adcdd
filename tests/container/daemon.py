"""A docker daemon of the test's own, where none runs; nothing of it is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Some kernels refuse the daemon's own, higher defaults.
_LIMITS = ("nofile=20000:20000", "nproc=4096:4096")
_START_S = 30.0
_STOP_S = 60.0
_BRIDGE = Path("/sys/class/net/docker0")


@contextmanager
def running(folder: Path, program: str = "/usr/sbin/dockerd") -> Iterator[str]:
    """Run it with all of its files below `folder`; gives what to set DOCKER_HOST to."""
    if _BRIDGE.exists():
        raise RuntimeError("a docker daemon runs here, or left its bridge docker0: use that one")
    host = f"unix://{folder}/docker.sock"
    command = [program, "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
    command += ["--pidfile", str(folder / "docker.pid"), "--host", host]
    for limit in _LIMITS:
        command += ["--default-ulimit", limit]
    folder.mkdir(parents=True)
    rules = _firewall()
    with (folder / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _await_answer(host, daemon, folder / "daemon.log")
        yield host
    finally:
        daemon.terminate()
        daemon.wait(_STOP_S)
        _restore(rules)
        _unmount_below(folder)
        shutil.rmtree(folder)


def _await_answer(host: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    command = ["docker", "--host", host, "version"]
    environ = {**os.environ, "PATH": f"/usr/bin{os.pathsep}{os.environ['PATH']}"}
    while subprocess.run(command, env=environ, capture_output=True, check=False).returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").splitlines()[-3:]
            raise RuntimeError(f"the docker daemon did not start: {' / '.join(last)}")
        time.sleep(0.2)


def _unmount_below(folder: Path) -> None:
    """A daemon leaves the network namespace mounted that builds with the host's network use."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    places = [line.split()[1].replace("\\040", " ") for line in lines]
    for place in reversed(places):
        if Path(place).is_relative_to(folder):
            subprocess.run(["umount", place], check=True)


def _firewall() -> str:
    done = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True)
    return done.stdout


def _restore(rules: str) -> None:
    """Take back the bridge and the firewall's rules that the daemon made."""
    tables = {line[1:] for line in rules.splitlines() if line.startswith("*")}
    for table in ("nat", "filter"):
        if table not in tables:  # it was empty, and iptables-save does not show such a table
            subprocess.run(["iptables", "-t", table, "-F"], check=True)
            subprocess.run(["iptables", "-t", table, "-X"], check=True)
    if "filter" not in tables:
        subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)
    subprocess.run(["iptables-restore"], input=rules, text=True, check=True)
    if _BRIDGE.exists():
        subprocess.run(["ip", "link", "delete", "docker0"], check=True)
