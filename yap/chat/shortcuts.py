"""What a Hugging Face tokenizer does with text, by shorter ways.

Its `encode` takes four times what the tokenizer behind it takes for a line of talk, and its
`apply_chat_template` three times what the template takes; every turn does both. A shortcut is taken
only where it does the same: it is tried when a model is loaded, on texts and conversations that
would show a difference, and the long way is taken wherever one shows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

Encode = Callable[[str], list[int]]
Conversation = list[dict[str, str]]
Apply = Callable[[Conversation], str]

_TEXTS: Final = (
    "",
    " ",
    "word",
    " word",
    "Two words, and more!",
    "\n\n line\tand tab \r\n",
    "é e\u0301 ﬁ Ä ß 你好 👩‍👩‍👧 \u200b\ufeff",
    "1234 5 678.90 a1b2",
    "don't we'll I'M \"quoted\" «so» …",
    "<a> [b] {c} |d| <|e|> \\n ##",
    "long " * 3_000,
)
_PERSONA: Final = {"role": "system", "content": " You are {{ kind }}.\n"}
_USER: Final = {"role": "user", "content": "Hello <b>there</b> & 'you' {% if %} é🙂 "}
_ASSISTANT: Final = {"role": "assistant", "content": "\nHi.\n\nHow are you? <think>"}
_CONVERSATIONS: Final = (
    [_USER],
    [_USER, _ASSISTANT, _USER],
    [_PERSONA, _USER],
    [_PERSONA, _USER, _ASSISTANT, _USER, _ASSISTANT, _USER],
    [_ASSISTANT, _USER],
)


def encoder_of(tokenizer: Any) -> Encode:
    """A function that gives `tokenizer.encode(text, add_special_tokens=False)`.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def wrapper(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    own = _own_backend(tokenizer)
    if own is None:
        return wrapper

    def bare(text: str) -> list[int]:
        ids: list[int] = own.encode(text, add_special_tokens=False).ids
        return ids

    controls = "".join(f"{token} a" for token in tokenizer.get_added_vocab())
    texts = (*_TEXTS, controls, *tokenizer.all_special_tokens)
    return bare if _agree(bare, wrapper, texts) else wrapper


def _own_backend(tokenizer: Any) -> Any | None:
    """A copy of the tokenizer's fast backend that neither cuts nor pads; None if it has none."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    try:
        own = Tokenizer.from_str(backend.to_str())
    except Exception:  # parts that are written in Python cannot be copied so
        log.debug("The tokenizer's backend cannot be copied", exc_info=True)
        return None
    own.no_truncation()
    own.no_padding()
    return own


def renderer_of(tokenizer: Any, template: str | None, *, enable_thinking: bool) -> Apply:
    """A function that gives `tokenizer.apply_chat_template` as text, with a generation prompt.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: in place of its own.
        enable_thinking: passed to the template.
    """

    def wrapper(messages: Conversation) -> str:
        text: str = tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=enable_thinking,
        )
        return text

    try:
        direct = _direct_renderer(tokenizer, template, enable_thinking)
    except Exception:  # another transformers, or a tokenizer that is not a template's
        log.debug("The chat template cannot be rendered directly", exc_info=True)
        return wrapper
    return direct if _agree(direct, wrapper, _CONVERSATIONS) else wrapper


def _direct_renderer(tokenizer: Any, template: str | None, enable_thinking: bool) -> Apply:
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled = _compile_jinja_template(tokenizer.get_chat_template(template, None))
    # Jinja gathers all of this anew for every rendering, out of layers of mappings.
    given = {
        **compiled.globals,
        **tokenizer.special_tokens_map,
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "enable_thinking": enable_thinking,
    }

    def direct(messages: Conversation) -> str:
        context = compiled.new_context({**given, "messages": messages}, shared=True)
        return "".join(compiled.root_render_func(context))

    return direct


def _agree(short: Callable[[Any], Any], long: Callable[[Any], Any], tried: Sequence[Any]) -> bool:
    """Whether both ways give the same for all that is tried, or refuse it alike."""
    for each in tried:
        expected = _outcome(long, each)
        # What depends on the time of day may change once in between.
        if _outcome(short, each) != expected and _outcome(short, each) != _outcome(long, each):
            log.warning("The tokenizer takes its long way: the short one differs for %.60r", each)
            return False
    return True


def _outcome(way: Callable[[Any], Any], tried: Any) -> Any:
    try:
        return way(tried)
    except Exception as error:  # noqa: BLE001 - templates refuse what they do not know
        return type(error), str(error)
