"""A reply as it grows: its tokens, its text, and how much of it may go out.

Text that may still become a banned phrase is held back, and with it the whole token that it begins
in: whoever takes tokens back later must not have sent a part of one.

The text is made here and not by the engine, which makes it anew for each request and takes what
came before for finished. Behind tokens that end in the middle of a character (an emoji is several
tokens) it would repeat the whole prompt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

from yap.chat.phrases import MAX_PATTERN_CHARS, Found, Search

_CONTEXT_TOKENS: Final = 8  # that decide how those behind them read
_LONGEST_CHARACTER: Final = 8  # tokens; with more, it is none and stays as it is


class Reply:
    """The tokens and the text of a reply so far, and how much of it may go out."""

    def __init__(self, prompt_ids: Sequence[int], search: Search, tokenizer: Any) -> None:
        """
        Args:
            prompt_ids: the tokens that it answers.
            tokenizer: a Hugging Face tokenizer.
        """
        self.token_ids: list[int] = []
        self.text = ""
        self._search = search
        self._tokenizer = tokenizer
        self._before = list(prompt_ids[-_CONTEXT_TOKENS:])
        self._ends: list[int] = []  # of each token, in the text
        self._read = 0  # tokens whose text is complete
        self._clear = 0  # characters that no phrase to come begins in
        self._sent = 0  # characters that went out; always whole tokens

    def add(self, token_ids: Sequence[int], *, stopped: bool) -> None:
        """Take what the engine has made; where it `stopped`, the last one is only a sign."""
        for number, token in enumerate(token_ids, 1):
            self.token_ids.append(token)
            if not (stopped and number == len(token_ids)):
                self.text += self._completed()
            self._ends.append(len(self.text))

    def find(self, *, final: bool) -> Found | None:
        """The next banned phrase, if there is one."""
        found, self._clear = self._search.look(self.text, self._clear, final=final)
        return found

    def take(self, *, final: bool) -> tuple[str, int]:
        """What may go out now, and how many tokens the reply has up to there."""
        sent = len(self.text) if final else self._end_of(self.tokens_before(self._clear))
        text = self.text[self._sent : sent]
        self._sent = max(self._sent, sent)
        return text, len(self.token_ids) if final else self.tokens_before(self._sent)

    def tokens_before(self, char: int) -> int:
        """How many tokens stand before the one that has `char`; at least those that went out.

        Tokens without text of their own are the beginning of the one behind them.
        """
        count = bisect_right(self._ends, max(char, self._sent))
        while count and self._ends[count - 1] == self._end_of(count - 1):
            count -= 1
        return count

    def word(self, token: int) -> str:
        """The text of a token."""
        return self.text[self._end_of(token) : self._ends[token]]

    def rewind(self, tokens: int) -> None:
        """Forget all but so many tokens, as `tokens_before` counts them."""
        self.text = self.text[: self._end_of(tokens)]
        self._clear = self._open_from(len(self.text))
        self._read = min(self._read, tokens)
        del self.token_ids[tokens:], self._ends[tokens:]

    def leave_out(self, found: Found) -> None:
        """Take a phrase out of the text; its tokens stay, without text."""
        start = max(found.start, self._sent)
        length = found.end - start
        self.text = self.text[:start] + self.text[found.end :]
        self._ends = [end if end <= start else max(start, end - length) for end in self._ends]
        self._clear = self._open_from(start)

    def _open_from(self, end: int) -> int:
        """Where a phrase may begin that what comes after `end` completes.

        It may be in what went out: another text followed when that was clear.
        """
        phrases = self._search.phrases
        reach = max(2 * phrases.longest + 16, MAX_PATTERN_CHARS if phrases.patterns else 0)
        return self._search.look(self.text[:end], max(0, end - reach), final=False)[1]

    def _end_of(self, tokens: int) -> int:
        """How many characters so many tokens have."""
        return self._ends[tokens - 1] if tokens else 0

    def _completed(self) -> str:
        """The text that the last token completes; nothing in the middle of a character."""
        read = self._read
        before = self.token_ids[max(0, read - _CONTEXT_TOKENS) : read]
        before = (self._before + before)[-_CONTEXT_TOKENS:]
        fresh = self.token_ids[read:]
        text = self._decode(before + fresh)
        if text.endswith("\ufffd") and len(fresh) < _LONGEST_CHARACTER:
            return ""
        self._read = len(self.token_ids)
        return text[len(self._decode(before)) :]

    def _decode(self, token_ids: list[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text
