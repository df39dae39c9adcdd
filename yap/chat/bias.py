"""What replies are steered by: banned phrases and biases of single tokens.

They come from the operator (`CHAT_LOGIT_BIAS_FILE`) and from each client (`logit_bias` and
`banned_strings` of its sampling). In the file and in `logit_bias` a text with the bias -100 is
banned as a phrase, see `yap.chat.phrases`: to ban each of its tokens would take common words away
from everything else. Any other bias is added to the score of one token, and so works on texts that
the model has as one token, with or without a blank before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from yap.chat.phrases import Phrases, compile_pattern
from yap.errors import RequestError, StartupError
from yap.protocol import ErrorCode, SamplingOptions
from yap.protocol.steering import is_token_id

BAN: Final = -100.0
_VARIABLE: Final = "CHAT_LOGIT_BIAS_FILE"
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_ENTRIES: Final = 2000
_MAX_PATTERNS: Final = 64
_MAX_CHARS: Final = 256
# Clients send the same wishes turn after turn.
_WISHES_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class BiasFile:
    """The operator's wishes: what is banned, and the bias of other texts."""

    phrases: Phrases = field(default_factory=Phrases)
    biases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steered:
    """What one reply is steered by: the bias of token ids, and what is banned."""

    bias: Mapping[int, float] = field(default_factory=dict)
    phrases: Phrases = field(default_factory=Phrases)


NOTHING: Final = Steered()


def read_bias_file(path: Path | None) -> BiasFile:
    """Read a JSON object of phrase to bias, from -100 (banned) to 100.

    A phrase between slashes is a regular expression; it can only be banned.

    Raises:
        StartupError: it cannot be read, or holds what is not allowed.
    """
    if path is None:
        return BiasFile()
    strings: list[str] = []
    patterns: dict[str, Any] = {}
    biases: dict[str, float] = {}
    for phrase, bias in _entries(path).items():
        problem = _problem(phrase, bias)
        if problem:
            raise _bad_file(path, f'"{phrase[:_MAX_CHARS]}" {problem}')
        if _is_pattern(phrase):
            try:
                patterns[phrase] = compile_pattern(phrase[1:-1])
            except ValueError as error:
                raise _bad_file(path, f'"{phrase}" cannot be used: {error}') from None
        elif bias == BAN:
            strings.append(phrase)
        else:
            biases[phrase] = float(bias)
    if len(patterns) > _MAX_PATTERNS:
        raise _bad_file(path, f"it has {len(patterns)} expressions; at most {_MAX_PATTERNS} may be")
    return BiasFile(Phrases(strings, patterns.values()), biases)


def _entries(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _bad_file(path, f"it is larger than {_MAX_FILE_BYTES >> 20} MiB")
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad_file(path, f"it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _bad_file(path, "it is not JSON in UTF-8") from None
    if not isinstance(entries, dict):
        raise _bad_file(path, 'it is not a JSON object such as {"as an AI": -100}')
    if len(entries) > _MAX_ENTRIES:
        raise _bad_file(path, f"it has {len(entries)} phrases; at most {_MAX_ENTRIES} may be")
    return entries


def _problem(phrase: str, bias: object) -> str:
    """What is wrong with an entry, as a verb; empty where nothing is."""
    if not phrase.strip() or len(phrase) > _MAX_CHARS:
        return f"must have 1 to {_MAX_CHARS} characters, not all of them blanks"
    if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
        return "must have a number from -100 (banned) to 100"
    if _is_pattern(phrase) and bias != BAN:
        return "is a regular expression and can only have -100 (banned)"
    return ""


def _is_pattern(phrase: str) -> bool:
    return len(phrase) > 2 and phrase[0] == phrase[-1] == "/"


def _bad_file(path: Path, problem: str) -> StartupError:
    return StartupError(f"{_VARIABLE} {path}: {problem}.")


class Steering:
    """Makes wishes of the operator and of clients into what the engine works with.

    `of` may tokenize, which takes up to milliseconds; it may be called from any thread.
    """

    def __init__(
        self, tokenizer: Any, vocabulary: int, file: BiasFile, *, takes_bias: bool
    ) -> None:
        """
        Args:
            tokenizer: a Hugging Face tokenizer.
            vocabulary: token ids are below it.
            takes_bias: whether the engine can bias tokens; with speculative decoding it cannot.

        Raises:
            StartupError: the file has a bias that this model or engine cannot be given.
        """
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._takes_bias = takes_bias
        try:
            own = Steered(self._biases(file.biases), file.phrases)
        except RequestError as error:
            raise StartupError(f"{_VARIABLE}: {error.message}") from None
        self._own = own
        self._wished = lru_cache(_WISHES_KEPT)(self._combine)

    @staticmethod
    def is_quick(options: SamplingOptions) -> bool:
        """Whether `of` these options takes microseconds: nothing has to be tokenized."""
        return not options.banned_strings and all(map(is_token_id, options.logit_bias or ()))

    def of(self, options: SamplingOptions) -> Steered:
        """What a reply with these options is steered by. A client's bias replaces the operator's
        of the same token; what the operator bans stays banned.

        Raises:
            RequestError: `invalid_logit_bias`; this model or engine cannot be given it.
        """
        if not options.logit_bias and not options.banned_strings:
            return self._own
        return self._wished(
            tuple((options.logit_bias or {}).items()), tuple(options.banned_strings or ())
        )

    def _combine(self, wishes: tuple[tuple[str, float], ...], banned: tuple[str, ...]) -> Steered:
        ids = {int(key): bias for key, bias in wishes if is_token_id(key)}
        texts = {key: bias for key, bias in wishes if not is_token_id(key)}
        outside = [key for key in ids if key >= self._vocabulary]
        if outside:
            raise _refusal(f"{outside[0]} is no token id; those are below {self._vocabulary}.")
        if ids and not self._takes_bias:
            raise _refusal(_NO_BIAS)
        phrases = [*banned, *(text for text, bias in texts.items() if bias == BAN)]
        soft = self._biases({text: bias for text, bias in texts.items() if bias != BAN})
        return Steered(
            {**self._own.bias, **soft, **ids},
            self._own.phrases.with_strings(phrases) if phrases else self._own.phrases,
        )

    def _biases(self, texts: Mapping[str, float]) -> dict[int, float]:
        if texts and not self._takes_bias:
            raise _refusal(_NO_BIAS)
        return {token: bias for text, bias in texts.items() for token in self._tokens(text)}

    def _tokens(self, text: str) -> Iterable[int]:
        """The tokens that are `text`, with or without a blank before it."""
        encodings = [
            self._tokenizer.encode(form, add_special_tokens=False) for form in (text, f" {text}")
        ]
        found = {encoding[0] for encoding in encodings if len(encoding) == 1}
        if not found:
            raise _refusal(
                f'"{text}" is {len(encodings[0])} tokens of this model, and a bias works on one; '
                "ban it with -100, or leave it out."
            )
        return found


_NO_BIAS: Final = (
    "Tokens cannot be biased while the engine decodes speculatively; only -100 for a text works."
)


def _refusal(message: str) -> RequestError:
    return RequestError(f"logit_bias: {message}", ErrorCode.INVALID_LOGIT_BIAS)
