"""What the engine is told at start, from the settings and the hardware that is there."""

from __future__ import annotations

import os
from typing import Any, Final

from yap.errors import StartupError
from yap.settings import Settings

# Below this many parameters one thread is fastest on a CPU: a second one only spins.
_ONE_THREAD_PARAMETERS: Final = 100_000_000
# A small block wastes little of a short prompt's prefix; CPUs want a multiple of 32.
_CPU_BLOCK_SIZE: Final = 32
# vLLM takes any cache dtype on a CPU, and with all but these the text comes out wrong.
_CPU_KV_DTYPES: Final = frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2"})


def prepare_environment(settings: Settings, *, cpu: bool, parameters: int | None) -> None:
    """Set what vLLM and its child processes read from the environment.

    Must run before the engine is built. Whatever the operator has set himself stays.

    Args:
        parameters: the model's size, where it is known.
    """
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_ENGINE_READY_TIMEOUT_S", str(int(settings.chat_start_timeout_s)))
    if not cpu:
        return
    # Permits the executor that runs the model inside the engine core: one process less, and
    # none that spins on shared memory.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    threads = settings.chat_cpu_threads
    if threads is None:
        small = parameters is not None and parameters < _ONE_THREAD_PARAMETERS
        threads = 1 if small else max(1, (os.cpu_count() or 2) - 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def engine_args(settings: Settings, *, cpu: bool, context: int) -> dict[str, Any]:
    """Keyword arguments for vLLM's `AsyncEngineArgs`.

    Args:
        context: the most tokens that prompt and reply may have together.

    Raises:
        StartupError: settings that do not go together on this hardware.
    """
    model = settings.chat_model
    args: dict[str, Any] = {
        "model": model,
        "max_model_len": context,
        "trust_remote_code": settings.trusts_remote_code(model),
        "scheduling_policy": "priority",
        "enable_prefix_caching": True,
        "kv_cache_dtype": settings.kv_dtype,
        "gpu_memory_utilization": settings.chat_gpu_share,
        # Lets running requests finish when the engine core is told to stop together with us.
        "shutdown_timeout": int(settings.drain_timeout_s),
    }
    if settings.chat_quantization not in ("auto", "none"):
        args["quantization"] = settings.chat_quantization
    if settings.max_num_seqs_chat is not None:
        args["max_num_seqs"] = settings.max_num_seqs_chat
    if settings.max_num_batched_tokens_chat is not None:
        args["max_num_batched_tokens"] = settings.max_num_batched_tokens_chat
    if cpu:
        if settings.kv_dtype not in _CPU_KV_DTYPES:
            raise StartupError(
                f'KV_DTYPE="{settings.kv_dtype}" gives wrong text on a CPU: '
                f"use one of {', '.join(sorted(_CPU_KV_DTYPES))}."
            )
        args |= {
            "enforce_eager": True,
            "distributed_executor_backend": "uni",
            "block_size": _CPU_BLOCK_SIZE,
            "kv_cache_memory_bytes": settings.chat_cpu_kv_cache_mib << 20,
        }
    return args | settings.chat_engine_args
