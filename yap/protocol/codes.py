"""Error codes, close codes, and the error of a frame that is refused."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """`error_code` of an error frame, and what it means. Codes are never renamed."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> ErrorCode:
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    AUTHENTICATION_FAILED = (
        "authentication_failed",
        "The API key is missing or wrong; close 1008 follows.",
    )
    SERVER_AT_CAPACITY = (
        "server_at_capacity",
        "Every connection is taken; see `capacity`. Close 1013 follows.",
    )
    SERVER_DRAINING = "server_draining", "The server is about to stop; connect again in a moment."
    INVALID_MESSAGE = (
        "invalid_message",
        "The frame is blank, binary, no JSON object, or has no type.",
    )
    UNKNOWN_MESSAGE_TYPE = "unknown_message_type", "The type is none of this document's."
    MESSAGE_RATE_LIMITED = (
        "message_rate_limited",
        "Too many messages in the window; wait `retry_in` seconds.",
    )
    CANCEL_RATE_LIMITED = (
        "cancel_rate_limited",
        "Too many cancels in the window; wait `retry_in` seconds.",
    )
    INTERNAL_ERROR = "internal_error", "The server failed; try again."
    ENGINE_UNAVAILABLE = (
        "engine_unavailable",
        "The models are loading or have stopped; try again in a moment.",
    )
    ENGINE_ERROR = "engine_error", "The engine lost this one request; try again."
    TURN_TIMEOUT = "turn_timeout", "The reply did not come in time; try again."
    PROMPT_TOO_LONG = "prompt_too_long", "The prompt does not fit into the model's context."
    # what a message needs and is not there
    CHAT_NOT_DEPLOYED = "chat_not_deployed", "The message needs a chat model and none is deployed."
    CLASSIFIER_NOT_DEPLOYED = (
        "classifier_not_deployed",
        "The request needs a screen classifier and none is deployed.",
    )
    NO_SESSION = "no_session", "The message needs a session; send `start` first."
    UNKNOWN_PERSONA = "unknown_persona", "The library has no persona of this name."
    MISSING_ANALYSIS_TEXT = (
        "missing_analysis_text",
        "`analysis_text` is not there or holds no visible text.",
    )
    INVALID_ANALYSIS_TEXT = "invalid_analysis_text", "`analysis_text` is not a string."
    MISSING_HISTORY_TEXT = "missing_history_text", "`history_text` is not there."
    CHAT_PROMPT_RATE_LIMITED = (
        "chat_prompt_rate_limited",
        "Too many persona changes; wait `retry_in` seconds.",
    )
    # start, in the order in which its fields are checked
    MISSING_SESSION_ID = (
        "missing_session_id",
        "`session_id` is not there or empty; the connection goes on.",
    )
    INVALID_SESSION_ID = (
        "invalid_session_id",
        "`session_id` is no string or finite number; the connection goes on.",
    )
    MISSING_GENDER = "missing_gender", "`gender` is not there."
    INVALID_GENDER = "invalid_gender", "`gender` is neither female nor male."
    MISSING_PERSONALITY = "missing_personality", "`personality` is not there."
    INVALID_PERSONALITY = (
        "invalid_personality",
        "`personality` is not one word of ASCII letters, or is too long.",
    )
    MISSING_CHAT_PROMPT = "missing_chat_prompt", "`chat_prompt` is not there."
    INVALID_CHAT_PROMPT = (
        "invalid_chat_prompt",
        "`chat_prompt` is no string, has too many characters or no text.",
    )
    CHAT_PROMPT_TOO_LONG = "chat_prompt_too_long", "`chat_prompt` has too many tokens."
    INVALID_SAMPLING_PAYLOAD = "invalid_sampling_payload", "`sampling` is not an object."
    INVALID_TEMPERATURE = "invalid_temperature", "`temperature` is not a number."
    TEMPERATURE_OUT_OF_RANGE = (
        "temperature_out_of_range",
        "`temperature` is outside the operator's range.",
    )
    INVALID_TOP_P = "invalid_top_p", "`top_p` is not a number."
    TOP_P_OUT_OF_RANGE = "top_p_out_of_range", "`top_p` is outside the operator's range."
    INVALID_TOP_K = "invalid_top_k", "`top_k` is not a whole number."
    TOP_K_OUT_OF_RANGE = "top_k_out_of_range", "`top_k` is outside the operator's range."
    INVALID_MIN_P = "invalid_min_p", "`min_p` is not a number."
    MIN_P_OUT_OF_RANGE = "min_p_out_of_range", "`min_p` is outside the operator's range."
    INVALID_REPETITION_PENALTY = (
        "invalid_repetition_penalty",
        "`repetition_penalty` is not a number.",
    )
    REPETITION_PENALTY_OUT_OF_RANGE = (
        "repetition_penalty_out_of_range",
        "`repetition_penalty` is outside the operator's range.",
    )
    INVALID_PRESENCE_PENALTY = "invalid_presence_penalty", "`presence_penalty` is not a number."
    PRESENCE_PENALTY_OUT_OF_RANGE = (
        "presence_penalty_out_of_range",
        "`presence_penalty` is outside the operator's range.",
    )
    INVALID_FREQUENCY_PENALTY = "invalid_frequency_penalty", "`frequency_penalty` is not a number."
    FREQUENCY_PENALTY_OUT_OF_RANGE = (
        "frequency_penalty_out_of_range",
        "`frequency_penalty` is outside the operator's range.",
    )
    INVALID_DRY_MULTIPLIER = "invalid_dry_multiplier", "`dry_multiplier` is not a number."
    DRY_MULTIPLIER_OUT_OF_RANGE = (
        "dry_multiplier_out_of_range",
        "`dry_multiplier` is outside the operator's range.",
    )
    INVALID_DRY_BASE = "invalid_dry_base", "`dry_base` is not a number."
    DRY_BASE_OUT_OF_RANGE = "dry_base_out_of_range", "`dry_base` is outside the operator's range."
    INVALID_DRY_ALLOWED_LENGTH = (
        "invalid_dry_allowed_length",
        "`dry_allowed_length` is not a whole number.",
    )
    DRY_ALLOWED_LENGTH_OUT_OF_RANGE = (
        "dry_allowed_length_out_of_range",
        "`dry_allowed_length` is outside the operator's range.",
    )
    INVALID_DRY_RANGE = "invalid_dry_range", "`dry_range` is not a whole number."
    DRY_RANGE_OUT_OF_RANGE = (
        "dry_range_out_of_range",
        "`dry_range` is outside the operator's range.",
    )
    INVALID_DRY_SEQUENCE_BREAKERS = (
        "invalid_dry_sequence_breakers",
        "`dry_sequence_breakers` is no list of short strings, or is too long.",
    )
    INVALID_XTC_PROBABILITY = "invalid_xtc_probability", "`xtc_probability` is not a number."
    XTC_PROBABILITY_OUT_OF_RANGE = (
        "xtc_probability_out_of_range",
        "`xtc_probability` is outside the operator's range.",
    )
    INVALID_XTC_THRESHOLD = "invalid_xtc_threshold", "`xtc_threshold` is not a number."
    XTC_THRESHOLD_OUT_OF_RANGE = (
        "xtc_threshold_out_of_range",
        "`xtc_threshold` is outside the operator's range.",
    )
    SAMPLERS_NOT_DEPLOYED = (
        "samplers_not_deployed",
        "`dry_multiplier` or `xtc_probability` is not 0, and the engine has neither sampler.",
    )
    INVALID_SANITIZE_OUTPUT = (
        "invalid_sanitize_output",
        "`sanitize_output` is neither true nor false.",
    )
    INVALID_LOGIT_BIAS = (
        "invalid_logit_bias",
        "`logit_bias` is no object of token ids or texts to -100..100, has too many, or has what "
        "the chat model cannot be given.",
    )
    INVALID_BANNED_STRINGS = (
        "invalid_banned_strings",
        "`banned_strings` is no list of short texts, or is too long.",
    )
    INVALID_CHECK_SCREEN_PREFIX = (
        "invalid_check_screen_prefix",
        "`check_screen_prefix` is no string, or too long.",
    )
    INVALID_SCREEN_CHECKED_PREFIX = (
        "invalid_screen_checked_prefix",
        "`screen_checked_prefix` is no string, or too long.",
    )
    MISSING_PERSONALITIES = (
        "missing_personalities",
        "`personalities` is not there, and the classifier is deployed.",
    )
    INVALID_PERSONALITIES_FORMAT = (
        "invalid_personalities_format",
        "`personalities` is not an object.",
    )
    EMPTY_PERSONALITIES = "empty_personalities", "`personalities` has no names."
    TOO_MANY_PERSONALITIES = "too_many_personalities", "`personalities` has too many names."
    INVALID_PERSONALITY_NAME = (
        "invalid_personality_name",
        "A name is not one word of ASCII letters, or is too long.",
    )
    DUPLICATE_PERSONALITY = (
        "duplicate_personality",
        "A name is there twice, or is another one's synonym.",
    )
    INVALID_PERSONALITY_SYNONYMS = (
        "invalid_personality_synonyms",
        "The synonyms of a name are not a list.",
    )
    TOO_MANY_SYNONYMS = "too_many_synonyms", "A name has too many synonyms."
    INVALID_PERSONALITY_SYNONYM = (
        "invalid_personality_synonym",
        "A synonym is no string, empty or too long.",
    )
    DUPLICATE_PERSONALITY_SYNONYM = (
        "duplicate_personality_synonym",
        "A synonym is there twice, or is a name.",
    )
    PERSONALITY_NOT_IN_LIST = (
        "personality_not_in_list",
        "`personality` is no name or synonym of `personalities`.",
    )
    INVALID_HISTORY = "invalid_history", "`history` is not a list of messages, or is too long."
    INVALID_HISTORY_TEXT = "invalid_history_text", "`history_text` is not a string."
    INVALID_USER_UTTERANCE = "invalid_user_utterance", "`user_utterance` is not a string."
    INVALID_HEARD_CHARS = "invalid_heard_chars", "`heard_chars` is not a whole number from 0."
    INVALID_HEARD_TEXT = "invalid_heard_text", "`heard_text` is not a string."
    # another connection of the same client has the session now
    SESSION_TAKEN_OVER = (
        "session_taken_over",
        "Another connection uses the session now; `start` takes it back.",
    )


CODES = frozenset(code.value for code in ErrorCode)


class CloseCode(IntEnum):
    """Close codes that no setting changes. The others are `WS_CLOSE_*` settings."""

    INTERNAL_ERROR = 1011
    SLOW_CLIENT = 4001


class ProtocolError(ValueError):
    """A client frame was refused. `code` is the wire code; `message` is for the client."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
