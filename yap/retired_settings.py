"""Variables that older deployments export and this service does not read, and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Retired:
    """Variables (``*`` matches anything) that went for the same reason."""

    names: tuple[str, ...]
    advice: str


_SEQS = "replies generated at once are chosen at start, or set MAX_NUM_SEQS_CHAT"
_BATCH = "memory is set by CHAT_GPU_FRAC alone, and nothing is scaled down silently"
_AUTOMATIC = "nothing is set in the environment on import, so there is nothing to switch"

RETIRED: tuple[Retired, ...] = (
    Retired(
        ("CACHE_RESET_INTERVAL_SECONDS", "CACHE_RESET_MIN_SESSION_SECONDS"),
        "the prefix cache is never reset on a timer or after a session",
    ),
    Retired(("MAX_NUM_SEQS",), "it is now MAX_NUM_SEQS_CHAT"),
    Retired(("MAX_NUM_SEQS_*",), _SEQS),
    Retired(("BATCH_SCALE_*",), _BATCH),
    Retired(("MAX_NUM_BATCHED_TOKENS_TOOL",), "the classifier batches whole requests"),
    Retired(
        ("TOOL_MICROBATCH_MAX_DELAY_MS",),
        "a request for the classifier never waits for others; batches form while it is busy",
    ),
    Retired(("PREBUFFER_MAX_CHARS",), "text is sent as it is generated; see STREAM_FLUSH_MS"),
    Retired(("EXACT_TOKEN_TRIM",), "budgets are always counted in exact tokens"),
    Retired(("ENFORCE_EAGER",), 'use CHAT_ENGINE_ARGS with {"enforce_eager": true}'),
    Retired(("VLLM_USE_V1",), "vLLM has one engine now"),
    Retired(
        ("VLLM_ATTENTION_BACKEND",),
        'vLLM chooses; to overrule it use CHAT_ENGINE_ARGS with {"attention_backend": "..."}',
    ),
    Retired(("VLLM_FP8_KV_CACHE_ENABLE",), "use KV_DTYPE=fp8"),
    Retired(
        ("SKIP_FLASHINFER", "FLASHINFER_ENABLE_AOT", "FLASHINFER_VERSION_SPEC"),
        "FlashInfer comes with vLLM, in the version that vLLM needs",
    ),
    Retired(("FLASHINFER_CACHE_DIR",), "FlashInfer reads FLASHINFER_WORKSPACE_BASE"),
    Retired(("VLLM_CACHE_DIR",), "vLLM reads VLLM_CACHE_ROOT"),
    Retired(("YAP_AUTO_CONFIGURE_ENV", "YAP_SKIP_ENV_AUTOCONFIG"), _AUTOMATIC),
    Retired(("AWQ_CHAT_TOTAL_LEN",), "it had no effect; calibration has a length of its own"),
    Retired(("AWQ_CALIB_DATASET_DEFAULT",), "use AWQ_CALIB_DATASET"),
    Retired(("HARD_RESET",), "stopping the service stops what it started and deletes nothing"),
    Retired(("PERSONA_STYLE",), "the clients read PERSONALITY"),
)

# Read by the scripts, the quantization pipeline or the clients, so neither retired nor misspelt.
KNOWN_ELSEWHERE = frozenset(
    {
        "HF_TOKEN",
        "HUGGINGFACE_HUB_TOKEN",
        "HF_HOME",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HUB_ENABLE_HF_TRANSFER",
        "HF_HUB_DISABLE_TELEMETRY",
        "AWQ_CALIB_DATASET",
        "AWQ_NSAMPLES",
        "AWQ_SEQLEN",
        "HF_AWQ_PUSH",
        "HF_AWQ_CHAT_REPO",
        "HF_AWQ_BRANCH",
        "HF_AWQ_PRIVATE",
        "HF_AWQ_ALLOW_CREATE",
        "HF_AWQ_COMMIT_MSG_CHAT",
        "SERVER_WS_URL",
        "GENDER",
        "PERSONALITY",
        "RECV_TIMEOUT_SEC",
        "TEST_WS_PING_INTERVAL",
        "TEST_WS_PING_TIMEOUT",
        "POST_TOOL_IDLE_MIN_S",
        "TOOL_WS_MESSAGE_WINDOW_SECONDS",
        "TOOL_WS_MAX_MESSAGES_PER_WINDOW",
        "NUKE_ALL",
        "FORCE_REINSTALL",
        "DOCKER_USERNAME",
        "DOCKER_PASSWORD",
        "DOCKER_TOKEN",
        "PLATFORM",
    }
)


def retired_notices(environ: Mapping[str, str], known: Iterable[str] = ()) -> list[str]:
    """A sentence for each retired variable in ``environ`` that is not ``known``."""
    known = frozenset(known)
    notices = []
    for name in sorted(environ):
        advice = _advice(name)
        if advice is not None and name not in known:
            notices.append(f"{name} is not read: {advice}. Remove it.")
    return notices


def misspelling_notices(environ: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """A sentence for each variable that is one slip away from a known one that is not set."""
    known = frozenset(known)
    unset = sorted(known - environ.keys())
    notices = []
    for name in sorted(environ.keys() - known - KNOWN_ELSEWHERE):
        if len(name) >= 8 and "_" in name and _advice(name) is None:
            matches = get_close_matches(name.upper(), unset, n=1, cutoff=0.86)
            notices += [f"{name} is not read: did you mean {match}?" for match in matches]
    return notices


def _advice(name: str) -> str | None:
    for retired in RETIRED:
        if any(fnmatchcase(name, pattern) for pattern in retired.names):
            return retired.advice
    return None
