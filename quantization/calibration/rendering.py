"""From documents to token ids, by the model's own tokenizer and chat template."""

from __future__ import annotations

from typing import Any, Final

from quantization.calibration.rows import Document, Message, Talk, Text, alternating

# A token is rarely more than a few characters; what is far behind the cut need not be encoded.
_CHARS_A_TOKEN: Final = 64


class Renderer:
    """Encodes documents, each by itself.

    A talk goes through the tokenizer's chat template. Where that takes no system message, its
    words are put before the first user message; where it wants the user to begin, what the
    assistant says before is left out. Without a template a talk is a line `role: content` for each
    message. A text gets the special tokens that the tokenizer puts around texts, or EOS at its end
    where that puts none.

    Args:
        tokenizer: of transformers, 4.51 or newer.
        most: tokens that are wanted of a document; ids are sliced behind them. The tokenizer's own
            truncation stays off: it would be written into an export's tokenizer.json.
    """

    def __init__(self, tokenizer: Any, most: int) -> None:
        self._tokenizer = tokenizer
        self._most = most
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        # What ends a text, where the tokenizer marks no beginning that parts it from the next.
        self._end: list[int] = []
        end = getattr(tokenizer, "eos_token_id", None)
        if isinstance(end, int) and self._encode("a", special=True) == self._encode("a"):
            self._end = [end]

    def ids(self, document: Document) -> list[int] | None:
        """The token ids, `most` at most; None where the template takes no such talk."""
        if isinstance(document, Text):
            return self._plain(document.text)
        if not self.has_template:
            return self._plain(str(document))
        text = self._templated(document)
        # The template writes the tokens at the beginning itself.
        return None if text is None else self._encode(text)

    def count(self, text: str) -> int:
        """The number of tokens of a whole text, without special ones."""
        return len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _plain(self, text: str) -> list[int]:
        return [*self._encode(text, special=True), *self._end][: self._most]

    def _encode(self, text: str, *, special: bool = False) -> list[int]:
        cut = text[: self._most * _CHARS_A_TOKEN]
        ids = self._tokenizer(cut, add_special_tokens=special, verbose=False)["input_ids"]
        return [int(one) for one in ids[: self._most]]

    def _templated(self, talk: Talk) -> str | None:
        from jinja2.exceptions import TemplateError

        for form in _forms(talk):
            messages = [{"role": one.role, "content": one.content} for one in form.messages]
            try:
                text = self._tokenizer.apply_chat_template(messages, tokenize=False)
            except (TemplateError, TypeError, ValueError):
                continue  # it says so by raising; the next form may do
            return str(text)
        return None


def _forms(talk: Talk) -> list[Talk]:
    """The talk, then as templates take it that are stricter."""
    folded = _without_system(talk.messages)
    opened = _from_user(folded)
    forms = [talk]
    forms += [found for one in (folded, opened) if (found := alternating(one)) is not None]
    return forms


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    turns = [message for message in messages if message.role != "system"]
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    if not system:
        return tuple(turns)
    if turns and turns[0].role == "user":
        return (Message("user", f"{system}\n\n{turns[0].content}"), *turns[1:])
    return (Message("user", system), *turns)


def _from_user(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    start = next((n for n, one in enumerate(messages) if one.role == "user"), len(messages))
    return messages[start:]
