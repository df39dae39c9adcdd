"""A base image made on this machine from Debian's packages, for where no registry is reached."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

NAME = "docker.io/library/python:3.11-slim"
SUITE = "bookworm"  # its Python is 3.11
# An image of Python's own has its headers too, which Triton compiles against.
PACKAGES = "ca-certificates,python3,python3-pip,python3-venv,libpython3-dev"
_OWN_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def exists(program: str) -> bool:
    """Whether the base image is there already; `program` is docker or podman."""
    command = [program, "image", "inspect", NAME]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def make(program: str) -> None:
    """Make it: root only, and debootstrap must be installed."""
    place = "/var/tmp" if " " in tempfile.gettempdir() else None  # debootstrap takes no blanks
    with tempfile.TemporaryDirectory(prefix="yap-base-", dir=place) as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        certificates = _trust_what_this_machine_trusts(root)
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()  # an image of Python's own has none
        (root / "usr/bin/python").symlink_to("python3")
        for tidied in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / tidied)
        _import(program, root, certificates)


def _trust_what_this_machine_trusts(root: Path) -> list[str]:
    """Copy the machine's extra certificates; the variables that name the bundle, if there are."""
    own = sorted(_OWN_CERTIFICATES.glob("*.crt"))
    if not own:
        return []
    for certificate in own:
        shutil.copy(certificate, root / "usr/local/share/ca-certificates")
    command = ["chroot", str(root), "update-ca-certificates"]
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}  # not TMPDIR, which is not in there
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return [f"{name}={_BUNDLE}" for name in _CERTIFICATE_VARIABLES]


def _import(program: str, root: Path, variables: list[str]) -> None:
    changes = [f"--change=ENV {variable}" for variable in variables]
    packed = subprocess.Popen(
        ["tar", "--directory", str(root), "--create", "."], stdout=subprocess.PIPE
    )
    command = [program, "import", *changes, "-", NAME]
    subprocess.run(command, stdin=packed.stdout, check=True, capture_output=True)
    if packed.wait() != 0:
        raise RuntimeError(f"tar could not read {root}")
