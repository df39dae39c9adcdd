"""Checks of settings that need more than one variable, or the files that a variable names."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from yap.settings import Settings

MAX_GPU_SHARE = 0.95  # of the GPU's memory; the driver and the CUDA contexts need the rest
SAMPLING_PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_range",
    "xtc_probability",
    "xtc_threshold",
)


class Problem(NamedTuple):
    """One thing that is wrong with settings, and the variables that it comes from."""

    variables: frozenset[str]
    sentence: str


def problems_together(settings: "Settings") -> Iterator[Problem]:
    """What is wrong with values that are each allowed alone."""
    yield from _sampling_problems(settings)
    yield from _sampler_problems(settings)
    yield from _gpu_problems(settings)
    yield from _length_problems(settings)
    yield from _batch_problems(settings)
    yield from _prefix_problems(settings)
    yield from _sentinel_problems(settings)


def problems_with_files(settings: "Settings") -> Iterator[Problem]:
    """Folders and files that are named but are not there; models only where deployed."""
    if settings.chat_enabled:
        yield from _model_problems("CHAT_MODEL", settings.chat_model)
    if settings.tool_enabled:
        yield from _model_problems("TOOL_MODEL", settings.tool_model)
    bias = settings.chat_logit_bias_file
    lack = _lack_of_file(bias) if bias else ""
    if lack:
        yield _problem(
            f"CHAT_LOGIT_BIAS_FILE is {bias}, which {lack}: give the path of a file, or unset it",
            "CHAT_LOGIT_BIAS_FILE",
        )


def _problem(sentence: str, *variables: str) -> Problem:
    return Problem(frozenset(variables), sentence)


def _sampling_problems(settings: "Settings") -> Iterator[Problem]:
    for parameter in SAMPLING_PARAMETERS:
        field = f"chat_{parameter}"
        least, default, most = (getattr(settings, field + end) for end in ("_min", "", "_max"))
        if not least <= default <= most:
            name = field.upper()
            yield _problem(
                f"{name} {default:g} is not from {name}_MIN {least:g} to {name}_MAX {most:g}: "
                "change one of the three",
                name,
                f"{name}_MIN",
                f"{name}_MAX",
            )


def _sampler_problems(settings: "Settings") -> Iterator[Problem]:
    for name in ("CHAT_DRY_MULTIPLIER", "CHAT_XTC_PROBABILITY"):
        value = getattr(settings, name.lower())
        if value and settings.chat_samplers is False:
            yield _problem(
                f"{name} is {value:g} and CHAT_SAMPLERS is off: turn it on, or set {name} to 0",
                name,
                "CHAT_SAMPLERS",
            )


def _gpu_problems(settings: "Settings") -> Iterator[Problem]:
    chat, tool = settings.chat_gpu_share, settings.tool_gpu_share
    if settings.deploy_models == "both" and chat + tool > MAX_GPU_SHARE + 1e-9:
        yield _problem(
            f"CHAT_GPU_FRAC {chat:g} and TOOL_GPU_FRAC {tool:g} are {chat + tool:g} together, "
            f"more than {MAX_GPU_SHARE:g}: lower one, or serve one model with DEPLOY_MODELS",
            "CHAT_GPU_FRAC",
            "TOOL_GPU_FRAC",
            "DEPLOY_MODELS",
        )


def _length_problems(settings: "Settings") -> Iterator[Problem]:
    needed, parts = settings.chat_len_needed, settings.chat_len_parts
    missing = needed - settings.chat_max_len_wanted
    if settings.chat_enabled and missing > 0:
        total = " + ".join(f"{name} {tokens}" for name, tokens in parts.items())
        yield _problem(
            f"CHAT_MAX_LEN {settings.chat_max_len} is {missing} tokens short of {needed} = {total} "
            f"+ the template's {needed - sum(parts.values())}: raise it, lower one of these, or "
            "unset it",
            "CHAT_MAX_LEN",
            "DEPLOY_MODELS",
            *parts,
        )


def _batch_problems(settings: "Settings") -> Iterator[Problem]:
    replies, tokens = settings.max_num_seqs_chat, settings.max_num_batched_tokens_chat
    if replies and tokens and replies > tokens:
        yield _problem(
            f"MAX_NUM_SEQS_CHAT {replies} is more than MAX_NUM_BATCHED_TOKENS_CHAT {tokens}, but "
            "each reply takes a token of every step: lower the first or raise the second",
            "MAX_NUM_SEQS_CHAT",
            "MAX_NUM_BATCHED_TOKENS_CHAT",
        )


def _prefix_problems(settings: "Settings") -> Iterator[Problem]:
    limit = settings.screen_prefix_max_chars
    prefixes = {
        "CHECK_SCREEN_PREFIX": settings.check_screen_prefix,
        "SCREEN_CHECKED_PREFIX": settings.screen_checked_prefix,
    }
    for name, prefix in prefixes.items():
        if len(prefix) > limit:
            yield _problem(
                f'{name}="{prefix}" has {len(prefix)} characters and SCREEN_PREFIX_MAX_CHARS is '
                f"{limit}: shorten the first or raise the second",
                name,
                "SCREEN_PREFIX_MAX_CHARS",
            )


def _sentinel_problems(settings: "Settings") -> Iterator[Problem]:
    if settings.ws_end_sentinel == settings.ws_cancel_sentinel:
        yield _problem(
            f'WS_END_SENTINEL and WS_CANCEL_SENTINEL are both "{settings.ws_end_sentinel}": '
            "make them differ",
            "WS_END_SENTINEL",
            "WS_CANCEL_SENTINEL",
        )


def _model_problems(variable: str, model: str) -> Iterator[Problem]:
    folder = Path(model)
    lack = _lack_of_file(folder / "config.json") if folder.is_absolute() else ""
    if lack:
        yield _problem(
            f"{variable} is the folder {folder}, whose config.json {lack}: give a folder that "
            "holds a model, or a Hub id such as org/name",
            variable,
            "DEPLOY_MODELS",
        )


def _lack_of_file(path: Path) -> str:
    """What keeps ``path`` from being read, as a verb; empty when nothing does."""
    try:
        return "" if path.is_file() else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
