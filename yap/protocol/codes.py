"""Error codes, close codes, and the error of a frame that is refused."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """`error_code` of an error frame. Codes are never renamed."""

    AUTHENTICATION_FAILED = "authentication_failed"
    SERVER_AT_CAPACITY = "server_at_capacity"
    SERVER_DRAINING = "server_draining"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_MESSAGE_TYPE = "unknown_message_type"
    MESSAGE_RATE_LIMITED = "message_rate_limited"
    CANCEL_RATE_LIMITED = "cancel_rate_limited"
    INTERNAL_ERROR = "internal_error"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    ENGINE_ERROR = "engine_error"
    TURN_TIMEOUT = "turn_timeout"
    PROMPT_TOO_LONG = "prompt_too_long"
    # what a message needs and is not there
    CHAT_NOT_DEPLOYED = "chat_not_deployed"
    NO_SESSION = "no_session"
    UNKNOWN_PERSONA = "unknown_persona"
    MISSING_ANALYSIS_TEXT = "missing_analysis_text"
    INVALID_ANALYSIS_TEXT = "invalid_analysis_text"
    MISSING_HISTORY_TEXT = "missing_history_text"
    CHAT_PROMPT_RATE_LIMITED = "chat_prompt_rate_limited"
    # start, in the order in which its fields are checked
    MISSING_SESSION_ID = "missing_session_id"
    INVALID_SESSION_ID = "invalid_session_id"
    MISSING_GENDER = "missing_gender"
    INVALID_GENDER = "invalid_gender"
    MISSING_PERSONALITY = "missing_personality"
    INVALID_PERSONALITY = "invalid_personality"
    MISSING_CHAT_PROMPT = "missing_chat_prompt"
    INVALID_CHAT_PROMPT = "invalid_chat_prompt"
    CHAT_PROMPT_TOO_LONG = "chat_prompt_too_long"
    INVALID_SAMPLING_PAYLOAD = "invalid_sampling_payload"
    INVALID_TEMPERATURE = "invalid_temperature"
    TEMPERATURE_OUT_OF_RANGE = "temperature_out_of_range"
    INVALID_TOP_P = "invalid_top_p"
    TOP_P_OUT_OF_RANGE = "top_p_out_of_range"
    INVALID_TOP_K = "invalid_top_k"
    TOP_K_OUT_OF_RANGE = "top_k_out_of_range"
    INVALID_MIN_P = "invalid_min_p"
    MIN_P_OUT_OF_RANGE = "min_p_out_of_range"
    INVALID_REPETITION_PENALTY = "invalid_repetition_penalty"
    REPETITION_PENALTY_OUT_OF_RANGE = "repetition_penalty_out_of_range"
    INVALID_PRESENCE_PENALTY = "invalid_presence_penalty"
    PRESENCE_PENALTY_OUT_OF_RANGE = "presence_penalty_out_of_range"
    INVALID_FREQUENCY_PENALTY = "invalid_frequency_penalty"
    FREQUENCY_PENALTY_OUT_OF_RANGE = "frequency_penalty_out_of_range"
    INVALID_SANITIZE_OUTPUT = "invalid_sanitize_output"
    INVALID_CHECK_SCREEN_PREFIX = "invalid_check_screen_prefix"
    INVALID_SCREEN_CHECKED_PREFIX = "invalid_screen_checked_prefix"
    MISSING_PERSONALITIES = "missing_personalities"
    INVALID_PERSONALITIES_FORMAT = "invalid_personalities_format"
    EMPTY_PERSONALITIES = "empty_personalities"
    TOO_MANY_PERSONALITIES = "too_many_personalities"
    INVALID_PERSONALITY_NAME = "invalid_personality_name"
    DUPLICATE_PERSONALITY = "duplicate_personality"
    INVALID_PERSONALITY_SYNONYMS = "invalid_personality_synonyms"
    TOO_MANY_SYNONYMS = "too_many_synonyms"
    INVALID_PERSONALITY_SYNONYM = "invalid_personality_synonym"
    DUPLICATE_PERSONALITY_SYNONYM = "duplicate_personality_synonym"
    PERSONALITY_NOT_IN_LIST = "personality_not_in_list"
    INVALID_HISTORY = "invalid_history"
    INVALID_HISTORY_TEXT = "invalid_history_text"
    INVALID_USER_UTTERANCE = "invalid_user_utterance"
    INVALID_HEARD_CHARS = "invalid_heard_chars"
    INVALID_HEARD_TEXT = "invalid_heard_text"
    # another connection of the same client has the session now
    SESSION_TAKEN_OVER = "session_taken_over"


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
