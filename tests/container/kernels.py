"""Compile what a GPU is given while the service runs, without one; tests/container/cuda.py asks.

It runs in the image. Triton makes a kernel's machine code with the assembler it brings, and its
launcher with the image's C compiler and the headers of its Python; then the launcher is loaded.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator"

import importlib.util
import json
import subprocess
import sysconfig
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

WORK = Path("/data")
CAPABILITIES = (80, 89, 90)
MODULE = """
#include <Python.h>
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "launcher", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_launcher(void) { return PyModule_Create(&definition); }
"""


@triton.jit
def add_one(values, size: tl.constexpr):  # type: ignore[no-untyped-def]
    places = values + tl.arange(0, size)
    tl.store(places, tl.load(places) + 1)


def kernel_bytes(capability: int) -> int:
    """Bytes of the kernel's machine code for one compute capability."""
    source = ASTSource(add_one, {"values": "*fp32"}, {"size": 64})
    return len(triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"])


def load_launcher() -> str:
    """Compile a module in C as Triton does it, and import it."""
    source, target = WORK / "launcher.c", WORK / "launcher.so"
    source.write_text(MODULE, encoding="utf-8")
    headers = sysconfig.get_path("include")
    command = ["gcc", "-shared", "-fPIC", f"-I{headers}", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("launcher", target)
    assert spec is not None
    return importlib.util.module_from_spec(spec).__name__


def main() -> None:
    kernels = {f"sm_{capability}": kernel_bytes(capability) for capability in CAPABILITIES}
    print(json.dumps({"kernels": kernels, "launcher": load_launcher()}))


if __name__ == "__main__":
    main()
