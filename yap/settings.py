"""Every environment variable of the service, once: its name, default, range and meaning.

A field's name is its variable in lower case: ``ws_idle_timeout_s`` is ``WS_IDLE_TIMEOUT_S``.
``Settings(...)`` depends on its arguments alone; ``load_settings`` fills it from an environment.
A variable set to blanks counts as unset. ``docs/configuration.md`` is generated from this file.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from yap.packed import Packed
from yap.packed import read as read_packed
from yap.protocol.fields import MAX_BREAKER_CHARS, MAX_BREAKERS
from yap.retired_settings import misspelling_notices, retired_notices
from yap.setting_kinds import (
    ROOT,
    ApiKeys,
    Breakers,
    CloseCode,
    CloseReason,
    DeployModels,
    EngineArgs,
    Flag,
    IpAddress,
    KvDtype,
    LogFormat,
    LogLevel,
    Model,
    Models,
    Quantization,
    Sentinel,
    Speculation,
    ToolDevice,
    allowed,
    default_text,
    number,
    setting,
)
from yap.settings_checks import problems_together, problems_with_files

TEMPLATE_ROOM_TOKENS = 256  # the chat template's own tokens and the screen prefix
ALIASES: Mapping[str, tuple[str, ...]] = {
    "chat_quantization": ("CHAT_QUANTIZATION", "QUANTIZATION")
}

_HUB_TOKEN = re.compile(r"hf_\w{8,}")

_MODEL = "a folder that holds a config.json, or a Hub id such as org/name"
_CLOSE_CODE = "a WebSocket close code: 1000-1003, 1007-1014 or 3000-4999"
_SENTINEL = "1 to 64 printable characters that do not start with {"


class SettingsError(Exception):
    """The environment cannot be served with; the message has one line for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Group(BaseModel):
    """Some settings that belong together; ``title`` heads their table in the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )
    title: ClassVar[str]


class ServiceSettings(Group):
    """Who may call the service, and where it listens."""

    title = "Service"

    text_api_key: ApiKeys = setting(
        None,
        "The keys that clients present. Several, separated by commas, are all valid, so that keys "
        "can be rotated without a pause.",
        allowed="one or more keys separated by commas, each of 8 to 256 printable ASCII "
        "characters without blanks",
        unset="the service does not start",
    )
    host: IpAddress = setting(
        "127.0.0.1",
        "IP address to listen on; 0.0.0.0 is every IPv4 interface.",
        allowed="an IP address such as 127.0.0.1 or 0.0.0.0, not a name",
    )
    port: int = number(8000, 1, 65535, "", "TCP port to listen on.")
    max_concurrent_connections: int = number(
        32, 1, 10_000, "connections", "WebSocket connections served at once; one more is refused."
    )
    deploy_models: DeployModels = setting(
        "both", "Which models to serve: chat, the screen classifier (tool), or both."
    )


class ModelSettings(Group):
    """Which models are served, in which form, and how much of a GPU each may use."""

    title = "Models"

    chat_model: Model = setting(
        str(ROOT / "models" / "yap-chat-demo"),
        "Chat model. A value that starts with / ./ ../ or ~, or names an existing folder, is a "
        "folder; any other is a Hub id.",
        allowed=_MODEL,
    )
    tool_model: Model = setting(
        str(ROOT / "models" / "yap-screen-demo"),
        "Screen classifier, named as the chat model is.",
        allowed=_MODEL,
    )
    chat_quantization: Quantization = setting(
        "auto",
        "Quantization of the chat model's weights. auto and none leave it to the checkpoint's own "
        "config. QUANTIZATION is read when this is unset.",
    )
    trust_remote_code_models: Models = setting(
        (),
        "Models whose own Python code may run in the service, each named exactly as in CHAT_MODEL "
        "or TOOL_MODEL. For any other model it never runs.",
        allowed="Hub ids or folders separated by commas",
    )
    chat_gpu_frac: float | None = number(
        None,
        0.01,
        0.95,
        "",
        "Share of the GPU's memory for the chat engine: weights, activations and KV cache.",
        unset="0.70 beside the classifier, 0.90 alone",
    )
    tool_gpu_frac: float | None = number(
        None,
        0.01,
        0.95,
        "",
        "Share of the GPU's memory that the classifier may take.",
        unset="0.20 beside the chat model, 0.90 alone",
    )
    kv_dtype: KvDtype = setting(
        "auto",
        "Number format of the KV cache. auto is fp8 where the GPU computes in it (compute "
        "capability 8.9) and the model bears it, else model, which is the model's own. fp8 holds "
        "twice the tokens that 16 bits do.",
    )


class ChatEngineSettings(Group):
    """How the chat engine runs. What has no variable here goes into CHAT_ENGINE_ARGS."""

    title = "Chat engine"

    chat_max_len: int | None = number(
        None,
        128,
        1_048_576,
        "tokens",
        "Context of the chat model, prompt and reply together. Must hold the budgets below.",
        unset=f"the budgets, the reply and {TEMPLATE_ROOM_TOKENS} for the template, "
        "or the model's own limit when that is less",
    )
    max_num_batched_tokens_chat: int | None = number(
        None,
        16,
        1_048_576,
        "tokens",
        "Tokens that one engine step computes at most. More makes prompts faster and the gaps "
        "between other clients' tokens longer.",
        unset="what takes about a tenth of a second; see docs/tuning.md",
    )
    max_num_seqs_chat: int | None = number(
        None,
        1,
        4096,
        "sequences",
        "Replies generated at once.",
        unset="MAX_CONCURRENT_CONNECTIONS and a quarter more",
    )
    chat_tensor_parallel: int | None = number(
        None,
        1,
        1024,
        "GPUs",
        "GPUs that each layer of the chat model is split over.",
        unset="as few as hold the model and a full context for half of the connections",
    )
    chat_pipeline_parallel: int = number(
        1, 1, 1024, "GPUs", "Groups of GPUs that the chat model's layers are divided among."
    )
    chat_data_parallel: int = number(
        1, 1, 1024, "copies", "Copies of the chat model, each with GPUs of its own."
    )
    chat_speculation: Speculation = setting(
        "none",
        "Tokens guessed ahead and checked in one step. ngram repeats what the prompt says; draft "
        "is a smaller model of the same vocabulary, eagle and eagle3 a head made for this model; "
        "mtp is the head that some models bring. Takes CHAT_MIN_P_MAX=0.",
    )
    chat_speculation_model: Model | None = setting(
        None,
        "Draft model or EAGLE head, named as the chat model is.",
        allowed=_MODEL,
        unset="none; draft, eagle and eagle3 need one",
    )
    chat_speculation_tokens: int | None = number(
        None,
        1,
        64,
        "tokens",
        "Tokens guessed at a time.",
        unset="4 for ngram and draft, 3 for eagle and eagle3, 1 for mtp",
    )
    chat_cache_dir: Path | None = setting(
        None,
        "Where compiled kernels are kept, so that the next start is quick. In a container, mount "
        "a volume there.",
        allowed="the path of a folder",
        unset="yap in XDG_CACHE_HOME, else in ~/.cache",
    )
    chat_engine_args: EngineArgs = setting(
        {},
        "More arguments of vLLM's engine, by vLLM's names. Those with a variable of their own are "
        "refused.",
        allowed='a JSON object such as {"enforce_eager": true}',
    )
    chat_cpu_kv_cache_mib: int = number(
        256, 64, 1_048_576, "MiB", "Size of the KV cache when the chat model runs on the CPU."
    )
    chat_cpu_threads: int | None = number(
        None, 1, 512, "threads", "CPU threads of the chat engine.", unset="chosen at start"
    )
    chat_start_timeout_s: float = number(
        900, 10, 7200, "seconds", "Time the chat engine has to load before the start has failed."
    )
    chat_warm_up: Flag = setting(
        True,
        "Before the service is ready, make requests of every size and with every sampling option, "
        "so that no user waits for a kernel to be compiled.",
    )
    chat_warm_up_timeout_s: float = number(
        120, 1, 3600, "seconds", "Time for that; the service is then ready as it is."
    )


class BudgetSettings(Group):
    """How much of each input is taken. Tokens are counted by the chat model's tokenizer."""

    title = "Budgets"

    chat_max_out: int = number(150, 1, 32_768, "tokens", "Longest reply.")
    chat_prompt_max_tokens: int = number(
        1650, 1, 1_048_576, "tokens", "Longest chat_prompt (the persona); a longer one is refused."
    )
    history_max_tokens: int = number(
        3000, 0, 1_048_576, "tokens", "History kept for a session; the oldest part goes first."
    )
    user_utt_max_tokens: int = number(
        350, 1, 1_048_576, "tokens", "Longest utterance; the end of a longer one is cut."
    )
    prompt_sanitize_max_chars: int | None = number(
        None,
        1,
        16_777_216,
        "characters",
        "Longest chat_prompt before it is cleaned and counted in tokens.",
        unset="6 for each token of context",
    )
    personality_max_len: int = number(
        20, 1, 200, "characters", "Longest name of a personality or synonym."
    )
    max_personalities: int = number(50, 1, 1000, "names", "Personalities in one start.")
    max_synonyms_per_personality: int = number(
        10, 0, 1000, "synonyms", "Synonyms of one personality."
    )
    screen_prefix_max_chars: int = number(
        30, 1, 500, "characters", "Longest screen prefix, a client's or one of the two below."
    )
    check_screen_prefix: str = setting(
        "MUST CHECK SCREEN:",
        "Put before the utterance when the screen is to be captured, unless the client names its "
        "own.",
        allowed="text of up to SCREEN_PREFIX_MAX_CHARS characters",
    )
    screen_checked_prefix: str = setting(
        "ON THE SCREEN NOW:",
        "Put before what the client saw on the screen, unless it names its own.",
        allowed="text of up to SCREEN_PREFIX_MAX_CHARS characters",
    )


class SamplingSettings(Group):
    """How replies are drawn: the defaults, and the range each client may choose from."""

    title = "Sampling"

    chat_temperature: float = number(0.8, 0, 2, "", "Temperature; 0 always takes the likeliest.")
    chat_temperature_min: float = number(0, 0, 2, "", "Least temperature a client may ask for.")
    chat_temperature_max: float = number(1.2, 0, 2, "", "Greatest temperature, likewise.")
    chat_top_p: float = number(0.95, 0.01, 1, "", "Share of probability that is drawn from.")
    chat_top_p_min: float = number(0.6, 0.01, 1, "", "Least top_p a client may ask for.")
    chat_top_p_max: float = number(1, 0.01, 1, "", "Greatest top_p, likewise.")
    chat_top_k: int = number(30, 0, 100_000, "tokens", "Likeliest tokens drawn from; 0 is all.")
    chat_top_k_min: int = number(0, 0, 100_000, "tokens", "Least top_k a client may ask for.")
    chat_top_k_max: int = number(60, 0, 100_000, "tokens", "Greatest top_k, likewise.")
    chat_min_p: float = number(
        0, 0, 1, "", "Tokens less likely than this share of the likeliest are not drawn."
    )
    chat_min_p_min: float = number(0, 0, 1, "", "Least min_p a client may ask for.")
    chat_min_p_max: float = number(0.2, 0, 1, "", "Greatest min_p, likewise.")
    chat_repetition_penalty: float = number(
        1, 0.01, 2, "", "Divides the score of tokens seen in prompt or reply; 1 is off."
    )
    chat_repetition_penalty_min: float = number(
        1, 0.01, 2, "", "Least repetition_penalty a client may ask for."
    )
    chat_repetition_penalty_max: float = number(
        1.3, 0.01, 2, "", "Greatest repetition_penalty, likewise."
    )
    chat_presence_penalty: float = number(
        0, -2, 2, "", "Subtracted from the score of tokens already in the reply."
    )
    chat_presence_penalty_min: float = number(
        0, -2, 2, "", "Least presence_penalty a client may ask for."
    )
    chat_presence_penalty_max: float = number(
        0.5, -2, 2, "", "Greatest presence_penalty, likewise."
    )
    chat_frequency_penalty: float = number(
        0, -2, 2, "", "Subtracted from a token's score for each time it is in the reply."
    )
    chat_frequency_penalty_min: float = number(
        0, -2, 2, "", "Least frequency_penalty a client may ask for."
    )
    chat_frequency_penalty_max: float = number(
        0.5, -2, 2, "", "Greatest frequency_penalty, likewise."
    )
    chat_samplers: Flag | None = setting(
        None,
        "Give the chat engine the DRY and XTC samplers. Off, the options below must be off. With "
        "speculative decoding they are left out.",
        allowed="on or off",
        unset="on a CPU, where they are measured; elsewhere if one of the options below is on",
    )
    chat_dry_multiplier: float = number(
        0, 0, 10, "", "Strength of DRY, which keeps replies from repeating themselves; 0 is off."
    )
    chat_dry_multiplier_min: float = number(
        0, 0, 10, "", "Least dry_multiplier a client may ask for."
    )
    chat_dry_multiplier_max: float = number(5, 0, 10, "", "Greatest dry_multiplier, likewise.")
    chat_dry_base: float = number(
        1.75, 1, 4, "", "How much each further token of a repetition adds to DRY's penalty."
    )
    chat_dry_base_min: float = number(1, 1, 4, "", "Least dry_base a client may ask for.")
    chat_dry_base_max: float = number(4, 1, 4, "", "Greatest dry_base, likewise.")
    chat_dry_allowed_length: int = number(
        2, 1, 50, "tokens", "Longest repetition that DRY lets be."
    )
    chat_dry_allowed_length_min: int = number(
        1, 1, 50, "tokens", "Least dry_allowed_length a client may ask for."
    )
    chat_dry_allowed_length_max: int = number(
        20, 1, 50, "tokens", "Greatest dry_allowed_length, likewise."
    )
    chat_dry_range: int = number(
        0, 0, 1_048_576, "tokens", "Newest tokens in which DRY looks for repetitions; 0 is all."
    )
    chat_dry_range_min: int = number(
        0, 0, 1_048_576, "tokens", "Least dry_range a client may ask for."
    )
    chat_dry_range_max: int = number(
        1_048_576, 0, 1_048_576, "tokens", "Greatest dry_range, likewise."
    )
    chat_dry_sequence_breakers: Breakers = setting(
        ("\n", ":", '"', "*"),
        "Texts that end a repetition; of each its last token counts. The chat template's own "
        "tokens always do.",
        allowed=f"a JSON list of at most {MAX_BREAKERS} strings of 1 to {MAX_BREAKER_CHARS} "
        "characters",
    )
    chat_xtc_probability: float = number(
        0, 0, 1, "", "How often XTC excludes the top choices of a token; 0 is off."
    )
    chat_xtc_probability_min: float = number(
        0, 0, 1, "", "Least xtc_probability a client may ask for."
    )
    chat_xtc_probability_max: float = number(1, 0, 1, "", "Greatest xtc_probability, likewise.")
    chat_xtc_threshold: float = number(
        0.1, 0.01, 1, "", "Probability from which XTC counts a token as a top choice."
    )
    chat_xtc_threshold_min: float = number(
        0.05, 0.01, 1, "", "Least xtc_threshold a client may ask for."
    )
    chat_xtc_threshold_max: float = number(1, 0.01, 1, "", "Greatest xtc_threshold, likewise.")
    chat_template_enable_thinking: Flag = setting(
        False, "Passed to the model's chat template as enable_thinking."
    )
    chat_logit_bias_file: Path | None = setting(
        None,
        "JSON object of phrase to bias: -100 bans the phrase, between slashes as a regular "
        "expression; any other number is added to the score of a phrase that is one token.",
        allowed="the path of a file",
        unset="no phrase is banned",
    )
    chat_max_rewinds: int = number(
        16,
        0,
        1000,
        "rewinds",
        "How often a reply is taken back to say something else than a banned phrase; after that "
        "the phrase is left out.",
    )


class TurnSettings(Group):
    """How long the parts of a turn may take, and how its text is sent."""

    title = "Turn"

    stream_flush_ms: float = number(
        0, 0, 2000, "milliseconds", "Text is gathered this long before it is sent; 0 sends at once."
    )
    gen_timeout_s: float = number(60, 0.1, 3600, "seconds", "Time a reply may take in all.")
    first_token_timeout_s: float = number(
        30,
        0.1,
        3600,
        "seconds",
        "Time until a reply's first token, waiting for the engine included.",
    )
    tool_timeout_s: float = number(
        10, 0.05, 600, "seconds", "Time for the screen decision; after it the answer is no."
    )
    drain_timeout_s: float = number(
        20, 0, 600, "seconds", "Time that running turns have to end when the service stops."
    )


class ScreenSettings(Group):
    """How it is decided whether an utterance asks for a look at the screen."""

    title = "Screen classifier"

    tool_decision_threshold: float = number(
        0.66, 0, 1, "", "Probability from which the answer is yes."
    )
    tool_device: ToolDevice = setting("auto", "Where the classifier runs; auto is a GPU if any.")
    tool_cpu_threads: int = number(
        1, 1, 512, "threads", "CPU threads of the classifier when it runs on the CPU."
    )
    tool_history_tokens: int = number(
        1536, 0, 131_072, "tokens", "Earlier utterances that the classifier sees, newest kept."
    )
    tool_max_length: int = number(
        1536,
        8,
        131_072,
        "tokens",
        "Longest input of the classifier, its model's own limit permitting; the start is cut.",
    )
    tool_queue_max: int = number(
        256,
        1,
        100_000,
        "requests",
        "Requests waiting for the classifier; over it the answer is no.",
    )
    tool_microbatch_max_size: int = number(32, 1, 1024, "requests", "Most requests in one batch.")
    tool_microbatch_max_tokens: int = number(
        8192, 16, 1_048_576, "tokens", "Most tokens in one batch, padding included."
    )
    tool_language_filter: Flag = setting(
        True,
        "Answer no to utterances that are not English, without asking the classifier. Turn it off "
        "for a classifier that knows other languages.",
    )
    tool_overlap: Flag = setting(
        True, "Begin the reply while the classifier decides; it is not sent before the decision."
    )
    tool_compile: Flag = setting(True, "Capture the classifier as CUDA graphs at start, on a GPU.")
    tool_int8: Flag = setting(
        False, "Quantize the classifier's linear layers to 8 bits at start, on a CPU."
    )


class WebSocketSettings(Group):
    """Frames, waiting times, and how connections close."""

    title = "WebSocket"

    ws_idle_timeout_s: float = number(
        150, 1, 86_400, "seconds", "Time without a message from the client before it is closed."
    )
    ws_watchdog_tick_s: float = number(
        5, 0.05, 600, "seconds", "How often idleness is looked at; a close may be this much late."
    )
    ws_handshake_acquire_timeout_s: float = number(
        0.5, 0, 60, "seconds", "How long a new connection waits for a place before it is refused."
    )
    ws_max_frame_bytes: int = number(
        1_048_576, 1024, 16_777_216, "bytes", "Longest frame taken from a client."
    )
    http_max_body_bytes: int = number(
        4_194_304, 1024, 268_435_456, "bytes", "Longest HTTP body taken from a client."
    )
    ws_send_queue_max: int = number(
        512, 8, 100_000, "frames", "Frames waiting for a client that reads slowly."
    )
    ws_send_timeout_s: float = number(
        10, 0.1, 600, "seconds", "Time a client has to read before it is closed as too slow."
    )
    ws_max_sessions_per_connection: int = number(
        8,
        1,
        1000,
        "sessions",
        "Sessions of one connection; over it, the one used longest ago is let go.",
    )
    ws_end_sentinel: Sentinel = setting(
        "__END__", "Frame that ends the connection, beside the end message.", allowed=_SENTINEL
    )
    ws_cancel_sentinel: Sentinel = setting(
        "__CANCEL__", "Frame that cancels the turn, beside the cancel message.", allowed=_SENTINEL
    )
    ws_close_unauthorized_code: CloseCode = setting(
        1008, "Sent when the key is missing or wrong, or a start is refused.", allowed=_CLOSE_CODE
    )
    ws_close_busy_code: CloseCode = setting(
        1013, "Sent when every place is taken.", allowed=_CLOSE_CODE
    )
    ws_close_idle_code: CloseCode = setting(
        4000, "Sent when the client was idle too long.", allowed=_CLOSE_CODE
    )
    ws_close_client_request_code: CloseCode = setting(
        1000, "Sent when the client asked to end.", allowed=_CLOSE_CODE
    )
    ws_close_idle_reason: CloseReason = setting(
        "idle_timeout",
        "Reason sent with WS_CLOSE_IDLE_CODE.",
        allowed="text of up to 123 bytes in UTF-8",
    )


class LimitSettings(Group):
    """Rate limits over a sliding window. A window or a count of 0 turns the limit off."""

    title = "Limits"

    ws_message_window_seconds: float = number(
        60, 0, 86_400, "seconds", "Window of the message limit, which is for each connection."
    )
    ws_max_messages_per_window: int = number(
        25, 0, 1_000_000, "messages", "Messages in it; cancel, ping, pong and end are not counted."
    )
    ws_cancel_window_seconds: float | None = number(
        None,
        0,
        86_400,
        "seconds",
        "Window of the cancel limit, which is for each connection.",
        unset="WS_MESSAGE_WINDOW_SECONDS",
    )
    ws_max_cancels_per_window: int | None = number(
        None, 0, 1_000_000, "cancels", "Cancels in it.", unset="WS_MAX_MESSAGES_PER_WINDOW"
    )
    chat_prompt_update_window_seconds: float = number(
        60,
        0,
        86_400,
        "seconds",
        "Window of the persona limit, which is for each session.",
    )
    chat_prompt_update_max_per_window: int = number(
        4, 0, 1_000_000, "changes", "Persona changes in it."
    )


class SessionSettings(Group):
    """How long conversations are kept."""

    title = "Sessions"

    session_idle_ttl_seconds: float = number(
        1800,
        0,
        2_592_000,
        "seconds",
        "Time that an idle session is kept; 0 keeps it for good.",
    )


class LoggingSettings(Group):
    """What the service writes about itself."""

    title = "Logging"

    app_log_level: LogLevel = setting("INFO", "Least severity that is written.")
    app_log_format: LogFormat = setting(
        "text", "text is for people, json is one object a line for a collector."
    )


class Settings(
    ServiceSettings,
    ModelSettings,
    ChatEngineSettings,
    BudgetSettings,
    SamplingSettings,
    TurnSettings,
    ScreenSettings,
    WebSocketSettings,
    LimitSettings,
    SessionSettings,
    LoggingSettings,
):
    """All settings, flat and frozen."""

    title = "Settings"
    _notices: tuple[str, ...] = PrivateAttr(())

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about variables that are set but not read; to be logged at start."""
        return self._notices

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Keys that are let in; with none, nobody is."""
        if self.text_api_key is None:
            return ()
        return tuple(key.strip() for key in self.text_api_key.get_secret_value().split(","))

    @property
    def chat_enabled(self) -> bool:
        """Whether the chat model is deployed."""
        return self.deploy_models != "tool"

    @property
    def tool_enabled(self) -> bool:
        """Whether the screen classifier is deployed."""
        return self.deploy_models != "chat"

    @property
    def chat_gpu_share(self) -> float:
        """CHAT_GPU_FRAC, or its default for the models deployed."""
        return self.chat_gpu_frac or (0.70 if self.deploy_models == "both" else 0.90)

    @property
    def tool_gpu_share(self) -> float:
        """TOOL_GPU_FRAC, or its default for the models deployed."""
        return self.tool_gpu_frac or (0.20 if self.deploy_models == "both" else 0.90)

    @property
    def chat_max_len_wanted(self) -> int:
        """Tokens of context to ask of the chat model: CHAT_MAX_LEN, or what the budgets need."""
        return self.chat_max_len or self.chat_len_needed

    @property
    def chat_len_parts(self) -> dict[str, int]:
        """The variables that the context must hold, with their tokens."""
        return {
            "CHAT_PROMPT_MAX_TOKENS": self.chat_prompt_max_tokens,
            "HISTORY_MAX_TOKENS": self.history_max_tokens,
            "USER_UTT_MAX_TOKENS": self.user_utt_max_tokens,
            "CHAT_MAX_OUT": self.chat_max_out,
        }

    @property
    def chat_len_needed(self) -> int:
        """Tokens of context that the longest prompt with the longest reply needs."""
        return sum(self.chat_len_parts.values()) + TEMPLATE_ROOM_TOKENS

    @property
    def prompt_max_chars(self) -> int:
        """Characters of a chat_prompt before it is cleaned."""
        return self.prompt_sanitize_max_chars or 6 * self.chat_max_len_wanted

    @property
    def cancel_window_seconds(self) -> float:
        """Window of the cancel limit; 0 is no limit."""
        if self.ws_cancel_window_seconds is None:
            return self.ws_message_window_seconds
        return self.ws_cancel_window_seconds

    @property
    def max_cancels_per_window(self) -> int:
        """Count of the cancel limit; 0 is no limit."""
        if self.ws_max_cancels_per_window is None:
            return self.ws_max_messages_per_window
        return self.ws_max_cancels_per_window

    def trusts_remote_code(self, model: str) -> bool:
        """Whether the operator let this very model bring Python code."""
        return model in self.trust_remote_code_models


GROUPS = tuple(base for base in Settings.__bases__ if issubclass(base, Group))
FIELDS: dict[str, FieldInfo] = {n: f for group in GROUPS for n, f in group.model_fields.items()}


# Reading the environment.


def load_settings(
    environ: Mapping[str, str] = os.environ, *, serving: bool = True, packed: Packed | None = None
) -> Settings:
    """The settings that ``environ`` asks for; in a Bento, what it does not name is ``packed``.

    ``serving=False`` is for tools that open no port: TEXT_API_KEY may then be missing, and the
    models need not be there yet. Raises ``SettingsError`` with every problem found.
    """
    packed = packed or read_packed()
    names = _variables_set(environ)
    values: dict[str, Any] = packed.defaults() if packed else {}
    values |= {field: environ[name].strip() for field, name in names.items()}
    wrong: dict[str, str] = {}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        for details in error.errors():
            field = str(details["loc"][0])
            wrong[field] = _sentence(names[field], values[field], FIELDS[field], details)
        settings = Settings(**{field: values[field] for field in values.keys() - wrong.keys()})
    sentences = [wrong[field] for field in FIELDS if field in wrong]
    if serving and "text_api_key" not in names:
        sentences.insert(0, f"TEXT_API_KEY is not set: give {allowed(FIELDS['text_api_key'])}")
    lack = packed.lacks(settings.deploy_models, names.keys()) if packed and serving else ""
    problems = [*problems_together(settings)]
    if lack:
        sentences.append(lack)
    elif serving:
        problems += problems_with_files(settings)
    told = {field.upper() for field in wrong}
    sentences += [problem.sentence for problem in problems if problem.variables.isdisjoint(told)]
    if sentences:
        raise SettingsError(sentences)
    settings._notices = _notices(environ)
    return settings


def variables() -> dict[str, str]:
    """Every variable that is read, aliases included, with the field that it fills."""
    return {name: field for field in FIELDS for name in ALIASES.get(field, (field.upper(),))}


def _variables_set(environ: Mapping[str, str]) -> dict[str, str]:
    """Field -> the variable that fills it, for variables that are not blank."""
    found: dict[str, str] = {}
    for name, field in variables().items():
        if environ.get(name, "").strip():
            found.setdefault(field, name)
    return found


def _notices(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = variables()
    return (*retired_notices(environ, known), *misspelling_notices(environ, known))


def _sentence(name: str, value: str, field: FieldInfo, details: ErrorDetails) -> str:
    shown = "****" if name == "TEXT_API_KEY" else _shown(value)
    cause = str(details["ctx"]["error"]) if details["type"] == "value_error" else ""
    default = default_text(field)
    return (
        f"{name}={json.dumps(shown, ensure_ascii=False)} is not allowed: "
        f"{f'{cause}; ' if cause else ''}give {allowed(field)}"
        f"{f' (default {default})' if default else ''}"
    )


def _shown(value: str) -> str:
    """A value as a message may show it: one line, not endless, no Hub token in it."""
    text = _HUB_TOKEN.sub("hf_****", value).encode(errors="replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
