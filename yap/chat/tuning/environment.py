"""What vLLM and the processes that it starts read from the environment."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.errors import StartupError
from yap.settings import Settings

log = logging.getLogger(__name__)

# Below this many parameters one thread is fastest on a CPU: a second one only spins.
_ONE_THREAD_PARAMETERS: Final = 100_000_000


def environment(
    settings: Settings, hardware: Hardware, parameters: int | None
) -> tuple[Decision, ...]:
    """The variables to set.

    Args:
        parameters: the model's size, where it is known.
    """
    decisions = [
        Decision("VLLM_NO_USAGE_STATS", "1", "The server reports to nobody."),
        Decision(
            "VLLM_ENGINE_READY_TIMEOUT_S",
            str(int(settings.chat_start_timeout_s)),
            "Set by CHAT_START_TIMEOUT_S.",
        ),
        *_caches(settings),
    ]
    if hardware.cpu:
        decisions += [
            Decision(
                "VLLM_ENABLE_V1_MULTIPROCESSING",
                "0",
                "Permits the model to run inside the engine core: one process less, and none that "
                "spins on shared memory.",
            ),
            _threads(settings, hardware, parameters),
        ]
    elif not _has_cuda_compiler():
        decisions.append(
            Decision(
                "VLLM_USE_FLASHINFER_SAMPLER",
                "0",
                "FlashInfer would compile its sampler by nvcc and ninja, which are not here; vLLM "
                "would take it without a look, and its core die of it.",
            )
        )
    return tuple(decisions)


def prepare(settings: Settings, decisions: Iterable[Decision], *, compiles: bool = False) -> None:
    """Set the variables that the operator has not set himself, and make the cache's folder.

    Must run before the engine is built.

    Args:
        compiles: kernels are compiled into the cache's folder, and loaded from it.

    Raises:
        StartupError: CHAT_CACHE_DIR is set, and cannot be made or written to; or what is compiled
            into the folder could not be run.
    """
    for decision in decisions:
        os.environ.setdefault(decision.name, decision.value)
    folder = cache_folder(settings)
    _make(folder, must=settings.chat_cache_dir is not None)
    if compiles and folder.is_dir() and os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise StartupError(
            f"What is compiled for the GPU into {folder} could not be run: its file system is "
            "mounted noexec: name a folder elsewhere in CHAT_CACHE_DIR, or mount a volume there "
            "(docker: -v yap-data:/data, or --tmpfs /data:exec,mode=1777)."
        )


def look_up_anew() -> None:
    """Undo `look_up_once`: an engine is going to be built."""
    from vllm.envs import disable_envs_cache

    disable_envs_cache()


def look_up_once() -> None:
    """Let vLLM remember its variables, now that an engine is built.

    It looks some of them up for every token and for every request: a tenth of what its front end
    takes. Its core does so in its own process.
    """
    from vllm.envs import enable_envs_cache

    enable_envs_cache()


def _make(folder: Path, *, must: bool) -> None:
    """Make the folder for its owner alone, since what lies in it is run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if writable:
        return
    if must:
        raise StartupError(
            f"CHAT_CACHE_DIR={folder} is no folder that can be written to: make it, or name one "
            "that can."
        )
    log.warning("Compiled kernels cannot be kept in %s; every start compiles them anew", folder)


def cache_folder(settings: Settings) -> Path:
    """CHAT_CACHE_DIR, or its default."""
    if settings.chat_cache_dir is not None:
        return settings.chat_cache_dir.expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "yap"


def _caches(settings: Settings) -> list[Decision]:
    folder = cache_folder(settings)
    places = {
        "VLLM_CACHE_ROOT": (folder / "vllm", "torch.compile's output and CUDA graph plans"),
        "TORCHINDUCTOR_CACHE_DIR": (folder / "inductor", "what torch compiles beside vLLM"),
        "TRITON_CACHE_DIR": (folder / "triton", "Triton's kernels"),
        "FLASHINFER_WORKSPACE_BASE": (folder, "FlashInfer's kernels"),
        "CUDA_CACHE_PATH": (folder / "cuda", "what the driver compiles"),
    }
    return [
        Decision(name, str(place), f"Where a restart finds {what} again.")
        for name, (place, what) in places.items()
    ]


def _has_cuda_compiler() -> bool:
    """Whether FlashInfer finds what it compiles with; it looks for nvcc in the same places."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        nvcc = shutil.which(str(Path(home) / "bin" / "nvcc"))
    else:
        nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    return nvcc is not None and shutil.which("ninja") is not None


def _threads(settings: Settings, hardware: Hardware, parameters: int | None) -> Decision:
    name = "OMP_NUM_THREADS"
    if settings.chat_cpu_threads is not None:
        return Decision(name, str(settings.chat_cpu_threads), "Set by CHAT_CPU_THREADS.")
    if parameters is not None and parameters < _ONE_THREAD_PARAMETERS:
        return Decision(name, "1", "A model this small is fastest in one thread.")
    threads = max(1, hardware.cores - 1)
    return Decision(name, str(threads), "All cores but the one that the server needs.")
