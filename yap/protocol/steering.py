"""How a client's wishes about words are read: which are banned, which are more or less likely.

Validators as those of `yap.protocol.fields`. Texts are taken as they are: a blank at an end
matters.
"""

from __future__ import annotations

from yap.protocol.codes import ErrorCode
from yap.protocol.fields import refuse
from yap.text import clean_text

MAX_LOGIT_BIASES = 256
MAX_BANNED_STRINGS = 64
MAX_PHRASE_CHARS = 100
# No vocabulary comes near it; Python takes its time over numbers of many digits.
_MAX_ID_DIGITS = 9


def logit_bias(value: object) -> object:
    """An object of token id or text to a number from -100 to 100."""
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > MAX_LOGIT_BIASES:
        refuse(
            ErrorCode.INVALID_LOGIT_BIAS,
            f"logit_bias must be an object of at most {MAX_LOGIT_BIASES} fields.",
        )
    if not all(_is_key(key) for key in value):
        refuse(
            ErrorCode.INVALID_LOGIT_BIAS,
            "each name in logit_bias must be a token id in decimal digits, or a visible text of at "
            f"most {MAX_PHRASE_CHARS} characters.",
        )
    if not all(_is_bias(bias) for bias in value.values()):
        refuse(
            ErrorCode.INVALID_LOGIT_BIAS, "each value in logit_bias must be a number, -100 to 100."
        )
    return value


def banned_strings(value: object) -> object:
    """A list of texts."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) > MAX_BANNED_STRINGS:
        refuse(
            ErrorCode.INVALID_BANNED_STRINGS,
            f"banned_strings must be a list of at most {MAX_BANNED_STRINGS} strings.",
        )
    if not all(_is_phrase(item) for item in value):
        refuse(
            ErrorCode.INVALID_BANNED_STRINGS,
            "each of banned_strings must be a visible text of at most "
            f"{MAX_PHRASE_CHARS} characters.",
        )
    return tuple(value)


def is_token_id(key: str) -> bool:
    """Whether a name in `logit_bias` means a token by its number; all others are texts."""
    return key.isascii() and key.isdecimal()


def _is_key(key: object) -> bool:
    if isinstance(key, str) and is_token_id(key):
        return len(key) <= _MAX_ID_DIGITS
    return _is_phrase(key)


def _is_phrase(text: object) -> bool:
    """Whether it is a short text with something to see. Lone surrogates are no text."""
    if not isinstance(text, str) or len(text) > MAX_PHRASE_CHARS:
        return False
    if any("\ud800" <= char <= "\udfff" for char in text):
        return False
    return 0 < len(clean_text(text)) <= MAX_PHRASE_CHARS


def _is_bias(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -100 <= value <= 100  # type: ignore[operator]  # NaN is not
