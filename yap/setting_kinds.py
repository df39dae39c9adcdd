"""The kinds of setting: how each is declared, read from text, checked, and put into words."""

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr
from pydantic.fields import FieldInfo

from yap.protocol.fields import MAX_BREAKERS, is_breaker

ROOT = Path(__file__).resolve().parent.parent

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_API_KEY = re.compile(r"[!-+\--~]{8,256}")  # printable ASCII but the blank and the comma
_ARGS_WITH_A_VARIABLE = {
    "model": "CHAT_MODEL",
    "tokenizer": "CHAT_MODEL",
    "quantization": "CHAT_QUANTIZATION",
    "trust_remote_code": "TRUST_REMOTE_CODE_MODELS",
    "hf_token": "HF_TOKEN",
    "gpu_memory_utilization": "CHAT_GPU_FRAC",
    "kv_cache_dtype": "KV_DTYPE",
    "max_model_len": "CHAT_MAX_LEN",
    "max_num_batched_tokens": "MAX_NUM_BATCHED_TOKENS_CHAT",
    "max_num_seqs": "MAX_NUM_SEQS_CHAT",
    "tensor_parallel_size": "CHAT_TENSOR_PARALLEL",
    "pipeline_parallel_size": "CHAT_PIPELINE_PARALLEL",
    "data_parallel_size": "CHAT_DATA_PARALLEL",
}


# Declaring.


def number(
    default: float | None, low: float, high: float, unit: str, meaning: str, **extra: str
) -> Any:
    """A number from ``low`` to ``high``, ends included; ``extra`` as for ``setting``."""
    return Field(
        default, ge=low, le=high, description=meaning, json_schema_extra={"unit": unit, **extra}
    )


def setting(default: Any, meaning: str, **extra: str) -> Any:
    """A setting that is not a number.

    ``extra``: ``allowed`` (what to give, in words), ``unset`` (what happens without a value).
    """
    return Field(default, description=meaning, json_schema_extra={**extra})


# Reading and checking. A ValueError's text, if any, says what is wrong with the value.


def _parse_flag(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _parse_object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, {error.msg} at character {error.pos + 1}") from None
    if isinstance(parsed, dict):
        return parsed
    raise ValueError("JSON, but not an object")


def _parse_texts(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, {error.msg} at character {error.pos + 1}") from None
    if isinstance(parsed, list):
        return tuple(parsed)
    raise ValueError("JSON, but not a list")


def _check_breakers(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > MAX_BREAKERS:
        raise ValueError(f"it has {len(values)} strings")
    for position, value in enumerate(values, start=1):
        if not is_breaker(value):
            raise ValueError(f"string {position} of {len(values)} is empty or too long")
    return values


def _check_keys(value: SecretStr | None) -> SecretStr | None:
    keys = value.get_secret_value().split(",") if value else []
    for position, key in enumerate((key.strip() for key in keys), start=1):
        which = f"key {position} of {len(keys)}"
        if not 8 <= len(key) <= 256:
            raise ValueError(f"{which} has {len(key)} characters")
        if not _API_KEY.fullmatch(key):
            raise ValueError(f"{which} has a blank or a character that is not printable ASCII")
    return value


def _check_ip(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError from None
    return value


def _check_close_code(value: int) -> int:
    if 1000 <= value <= 1003 or 1007 <= value <= 1014 or 3000 <= value <= 4999:
        return value
    raise ValueError


def _check_close_reason(value: str) -> str:
    size = len(value.encode())
    if size > 123:  # RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code
        raise ValueError(f"it has {size} bytes")
    return value


def _check_sentinel(value: str) -> str:
    if len(value) > 64 or value.startswith("{") or not value.isprintable():
        raise ValueError
    return value


def _check_kv_dtype(value: object) -> object:
    if isinstance(value, str) and value.lower() == "int8":
        raise ValueError("the engine has no int8 KV cache, fp8 is as small")
    return _lower(value)


def _check_log_format(value: object) -> object:
    if isinstance(value, str) and "%" in value:
        raise ValueError("a format string is no longer taken")
    return _lower(value)


def _check_engine_args(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name in value:
        variable = _ARGS_WITH_A_VARIABLE.get(name.replace("-", "_"))
        if variable:
            raise ValueError(f"{name} is set by {variable}")
    return value


def _normalize_model(value: str) -> str:
    """A Hub id as it is; a folder (``/ ./ ../ ~``, or one that exists) as an absolute path."""
    if value.startswith(("/", "./", "../", "~")) or _is_folder(Path(value)):
        try:
            return str(Path(value).expanduser().resolve())
        except RuntimeError:
            raise ValueError("no such user has a home folder") from None
    if not _HUB_ID.fullmatch(value):
        raise ValueError("neither a folder here nor a Hub id")
    return value


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long for a name, or in a folder that may not be read
        return False


def _normalize_models(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_normalize_model(value) for value in values)


Flag = Annotated[bool, BeforeValidator(_parse_flag)]
ApiKeys = Annotated[SecretStr | None, AfterValidator(_check_keys)]
IpAddress = Annotated[str, AfterValidator(_check_ip)]
Model = Annotated[str, AfterValidator(_normalize_model)]
Models = Annotated[tuple[str, ...], BeforeValidator(_split_list), AfterValidator(_normalize_models)]
EngineArgs = Annotated[
    dict[str, JsonValue], BeforeValidator(_parse_object), AfterValidator(_check_engine_args)
]
Breakers = Annotated[
    tuple[str, ...], BeforeValidator(_parse_texts), AfterValidator(_check_breakers)
]
CloseCode = Annotated[int, AfterValidator(_check_close_code)]
CloseReason = Annotated[str, AfterValidator(_check_close_reason)]
Sentinel = Annotated[str, AfterValidator(_check_sentinel)]
DeployModels = Annotated[Literal["both", "chat", "tool"], BeforeValidator(_lower)]
Quantization = Annotated[
    Literal[
        "auto", "none", "fp8", "awq", "awq_marlin", "gptq", "gptq_marlin", "compressed-tensors"
    ],
    BeforeValidator(_lower),
]
KvDtype = Annotated[
    Literal["auto", "model", "fp8", "fp8_e4m3", "fp8_e5m2"], BeforeValidator(_check_kv_dtype)
]
Speculation = Annotated[
    Literal["none", "ngram", "draft", "eagle", "eagle3", "mtp"], BeforeValidator(_lower)
]
ToolDevice = Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(_lower)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_check_log_format)]


# In words, for messages and for the documentation.


def extra(field: FieldInfo) -> dict[str, str]:
    """What a declaration says beside type and range: unit, allowed, unset."""
    given = field.json_schema_extra
    return {key: str(value) for key, value in given.items()} if isinstance(given, dict) else {}


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field takes, for one that takes a few; else none."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def bounds(field: FieldInfo) -> tuple[str, str] | None:
    """Least and greatest value of a number, as text; None for other fields."""
    least = [f"{item.ge:.12g}" for item in field.metadata if isinstance(item, Ge)]
    most = [f"{item.le:.12g}" for item in field.metadata if isinstance(item, Le)]
    return (least[0], most[0]) if least and most else None


def is_whole(field: FieldInfo) -> bool:
    """Whether a number must be an integer."""
    return int in (field.annotation, *get_args(field.annotation))


def allowed(field: FieldInfo) -> str:
    """What may be given, as the object of the verb "give"."""
    span, unit = bounds(field), extra(field).get("unit")
    if span:
        kind = "a whole number" if is_whole(field) else "a number"
        return f"{kind}{f' of {unit}' if unit else ''} from {span[0]} to {span[1]}"
    if field.annotation is bool:
        return "1, true, yes or on, or 0, false, no or off"
    if choices(field):
        return "one of " + ", ".join(choices(field))
    return extra(field)["allowed"]


def default_text(field: FieldInfo) -> str:
    """The default as it is written in an environment; empty when there is none."""
    value = field.default
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return json.dumps(value)
    text = str(value)
    return os.path.relpath(text, ROOT) if text.startswith(f"{ROOT}{os.sep}") else text
