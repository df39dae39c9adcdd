r"""Cleaning of a streamed reply, so that a voice can read it aloud.

A reply passes these rules in this order; each is a stage that takes and gives text piece by piece:

    controls go                              `He\x07llo`             -> `Hello`
    tags go                                  `A <b>bold</b> move`    -> `A bold move`
    entities, once                           `Tom &amp; R&B`         -> `Tom & R&B`
    `\n`, `/n`, and escaped quotes           `Hi!\n\"You\" /n`       -> `Hi! 'You'`
    emoji                                    `Hi 👋🏽, you`           -> `Hi, you`
    emoticons                                `Hey :) you <3`         -> `Hey you`
    ooh and oh, exaggerated                  `Ohhhh, nice`           -> `Ooh, nice`
    blanks: one, none before , ? ! and ends  `So  sweet , yes ! `    -> `So sweet, yes!`
    dots: two or more are three              `Well.. I… see... .`    -> `Well... I... see...`
    a leading label goes                     `Freestyle mode: hey`   -> `Hey`
    a capital to begin with                  `hey you`               -> `Hey you`

What does not look the part on both sides is text: `a < b and c > d`, `<your name>` (a tag's
attributes have a `=`), `AT&T` (an entity ends in `;`), `10:30`, `https://`, `8)`, `x:D` (emoticons
stand between blanks or punctuation; a round smile may touch a word), `cooool`, `../up`. Backslash
and n are a line break anywhere, as speech has no other use for them. `/n` must not be part of a
path or word: it follows a blank or a sentence's punctuation, and no small letter, digit, `_` or `/`
follows it. So `and/nor`, `y/n`, `http://x/n` and `/name` stay.

However the text is cut into pieces, the result is the same. A stage decides about a construct only
when no further text could change the decision, and never looks again at what it gave out. It sees
`max_held + 1` characters at most, so no more than `max_held` are held back and time is linear. What
is unfinished at the end is text. Cleaning twice may do more: `&amp;lt;b>` is `&lt;b>`, then `<b>`.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import ClassVar

# Controls but those that part words, and lone surrogates, which no frame can carry.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Sanitizer:
    """Cleans one reply: feed its pieces in order, then finish once."""

    def __init__(self) -> None:
        markup = (_Tags(), _Entities(), _Escapes(), _Slashes())
        words = (_Emoji(), _Emoticons(), _Oohs())
        layout = (_Blanks(), _Dots(), _Label(), _Capital())
        self._stages: tuple[_Stage, ...] = (*markup, *words, *layout)
        self._rests = False  # no stage holds anything, or does what only a beginning needs
        self._passed = ""  # the last character that went past the stages

    def feed(self, text: str) -> str:
        """Take the next piece; returns what may be sent now, or nothing."""
        # Most pieces are a plain word, which no stage would change.
        if self._rests and text.isascii() and text.isprintable() and not _NOTABLE.search(text):
            self._passed = text[-1:] or self._passed
            return text
        if self._passed:
            for stage in self._stages:
                stage._before = self._passed
            self._passed = ""
        text = _without_controls(text)
        for stage in self._stages:
            if not text:
                break
            text = stage.feed(text)
        self._rests = all(stage.rests() for stage in self._stages)
        return text

    def finish(self) -> str:
        """The rest, when the reply is over."""
        if self._rests:
            return ""
        rest = ""
        for stage in self._stages:
            rest = stage.feed(rest) + stage.finish()
        return rest


def _without_controls(text: str) -> str:
    if text.isprintable():  # nearly always, and faster to ask
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


class _Stage:
    """One rule. Its outputs, joined, depend on its inputs only as joined."""

    max_held: ClassVar[int] = 0  # characters
    _held = ""
    _before = ""  # what was given out last: a replacement, or a character of plain text

    def feed(self, text: str) -> str:
        raise NotImplementedError

    def rests(self) -> bool:
        """Whether plain text would pass as it is, now and later."""
        return not self._held

    def finish(self) -> str:
        return ""


class _Construct:
    """What a scanner replaces: `whole`, with what must follow it, and every beginning of that."""

    def __init__(self, whole: str, opening: str) -> None:
        self.whole, self.opening = re.compile(whole), re.compile(opening)


def _opening(*atoms: str) -> str:
    """A pattern for every beginning of `atoms` in a row; each must match its own beginnings."""
    return "(?:".join(atoms) + ")?" * (len(atoms) - 1)


class _Scanner(_Stage):
    """A stage that replaces constructs, looked for where `triggers` matches."""

    triggers: ClassVar[re.Pattern[str]]
    construct: ClassVar[_Construct]

    def feed(self, text: str) -> str:
        if self._held or not text or self.triggers.search(text):
            return self._scan(self._held + text, final=False)
        self._before = text[-1]
        return text

    def finish(self) -> str:
        return self._scan(self._held, final=True)

    def _scan(self, text: str, final: bool) -> str:
        out: list[str] = []
        at = 0
        while trigger := self.triggers.search(text, at):
            start = trigger.start()
            if start > at:
                out.append(text[at:start])
                self._before = text[start - 1]
            window = text[start : start + self.max_held + 1]
            if (decision := self._decide(window, final)) is None:
                self._held = text[start:]
                return "".join(out)
            piece, length = decision
            if piece:
                out.append(piece)
                self._before = piece
            at = start + length
        if at < len(text):
            out.append(text[at:])
            self._before = text[-1]
        self._held = ""
        return "".join(out)

    def _decide(self, window: str, final: bool) -> tuple[str, int] | None:
        """What to give out, and for how many characters of `window`; None to wait for more."""
        if sought := self._sought():
            complete = final or len(window) > self.max_held
            if not complete and sought.opening.fullmatch(window):
                return None
            if found := sought.whole.match(window):
                return self._replacement(found), found.end()
        return window[0], 1

    def _sought(self) -> _Construct | None:
        """What may begin after what was given out last."""
        return self.construct

    def _replacement(self, found: re.Match[str]) -> str:  # noqa: ARG002
        return " "

    def _in_word(self) -> bool:
        return self._before.isalnum() or self._before == "_"


class _Tags(_Scanner):
    max_held = 256
    triggers = re.compile("<")
    _name = "[A-Za-z][A-Za-z0-9-]{0,31}"
    _key = (r"\s+", r"[A-Za-z_:][\w:.-]*", r"\s*", "=", r"\s*")
    _attributes = rf"""(?:{"".join(_key)}(?:"[^"]*"|'[^']*'|[^\s"'<>=`]+))*"""
    _last = _opening(*_key, "(?:\"[^\"]*|'[^']*)")
    construct = _Construct(
        rf"</?({_name}){_attributes}\s*/?>",
        _opening("<", "/?", _name, _attributes, rf"(?:{_last}|\s*/)"),
    )
    _parting = re.compile("(?i)br|p|div|li|[uo]l|t[rdh]|hr|h[1-6]")  # these leave a blank

    def _replacement(self, found: re.Match[str]) -> str:
        return " " if self._parting.fullmatch(found[1]) else ""


class _Entities(_Scanner):
    max_held = 32  # the longest name that HTML has is 31 letters
    triggers = re.compile("&")
    construct = _Construct(
        "&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});",
        "&(?:#(?:[0-9]{0,7}|[xX][0-9A-Fa-f]{0,6})|[A-Za-z][A-Za-z0-9]{0,30})?",
    )

    def _replacement(self, found: re.Match[str]) -> str:
        known = found[0][1] == "#" or found[0][1:] in html5
        return _without_controls(html.unescape(found[0])) if known else found[0]


class _Escapes(_Scanner):
    max_held = 5
    triggers = re.compile(r"\\")
    construct = _Construct(r"(?:\\{1,2}r)?\\{1,2}n|\\{1,2}[\"']", r"\\{1,2}(?:r\\{0,2})?")

    def _replacement(self, found: re.Match[str]) -> str:
        return "\n" if found[0].endswith("n") else "'"


class _Slashes(_Scanner):
    max_held = 15
    triggers = re.compile(r"/(?=n|\Z)")
    construct = _Construct(r"(?:/n){8}|(?:/n){1,7}(?![a-zß-öø-ÿ\d_/]|\.\w)", "/?|(?:/n){1,7}[/.]?")
    _may_precede = re.compile(r"[\s.,!?;:…\"'”’»)\]}*。！？，、」]?")

    def _sought(self) -> _Construct | None:
        return self.construct if self._may_precede.fullmatch(self._before) else None


class _Emoji(_Scanner):
    max_held = 2
    # Blocks that are emoji throughout; circled digits (U+2776 to U+2793) are not.
    _symbol = (
        "\u231a\u231b\u23e9-\u23fa\u25fd\u25fe\u2600-\u2767\u2794-\u27bf\u2b1b\u2b1c\u2b50\u2b55"
        "\U0001f004\U0001f0cf\U0001f170-\U0001f251\U0001f300-\U0001f6ff\U0001f7e0-\U0001f7ff"
        "\U0001f900-\U0001faff"
    )
    _text = "©®‼⁉™ℹ↔-↪⌨⏏Ⓜ▪-◼⤴⤵⬅-⬇〰〽㊗㊙"  # unless U+FE0F follows
    _mark = "\ufe0e\ufe0f\u20e3\U000e0020-\U000e007f"  # selectors, keycap, tags
    triggers = re.compile(
        rf"[{_symbol}{_mark}\u200d]|[{_text}](?=\ufe0f|\Z)|[0-9#*](?=[\ufe0f\u20e3]|\Z)"
    )
    construct = _Construct(
        f"([{_symbol}]|[{_text}]\ufe0f|[0-9#*]\ufe0f?\u20e3)|[{_mark}\u200d]",
        f"[{_text}]|[0-9#*]\ufe0f?",
    )

    def _replacement(self, found: re.Match[str]) -> str:
        if found[0] == "\u200d" and self._before not in {"", " "}:
            return found[0]  # many scripts shape their letters with joiners
        return " " if found[1] else ""


class _Emoticons(_Scanner):
    max_held = 13
    triggers = re.compile(r"[:;=<>^-]|\\(?=o|\Z)|[xX](?=D|\Z)|[oOTu](?=_|\Z)|[8B](?=-|\Z)")
    _round = r"(?:\){1,8}|\({1,8})"
    _shapes = (
        (">?", "[:;]", "['^-]{0,2}", rf"(?:{_round}|D{{1,8}}|P{{1,8}}|[]\[|/\\@$*<>pOoSsXxCc3])"),
        ("=", "['^-]?", f"(?:{_round}|D{{1,8}}|P)"),
        ("[8B]", "-", "[)D]"),
        ("[xX]", "D{1,8}"),
        ("<", "/?", "3{1,8}"),
        ("[-^oOTu;>]", "_{1,3}", "[-^oOTu;<]"),
        (r"\^", r"\^"),
        (r"\\", "o", "/"),
    )
    # No emoticon runs into a word, a path or a number such as `<3.5`.
    _after = r"(?![\w/\\]|[.,:]\d)"
    construct = _Construct(
        f"(?:{'|'.join(map(''.join, _shapes))}){_after}",
        "|".join(_opening(*shape, "[.,:]") for shape in _shapes),
    )
    _smile = _Construct(f"[:;]-?{_round}{_after}", _opening("[:;]", "-?", _round, "[.,:]"))

    def _sought(self) -> _Construct | None:
        if not self._in_word():
            return self.construct
        return self._smile if self._before.isalpha() else None


class _Oohs(_Scanner):  # with more than two o or more than one h
    max_held = 48
    triggers = re.compile(r"[oO](?=[oOhH]|\Z)")
    construct = _Construct(
        r"(?:[oO]{3,24}[hH]{1,24}|[oO]{1,2}[hH]{2,24})(?!\w)", "[oO]{1,24}[hH]{0,24}"
    )

    def _sought(self) -> _Construct | None:
        return None if self._in_word() else self.construct

    def _replacement(self, found: re.Match[str]) -> str:
        return found[0][0] + "oh"


class _Blanks(_Stage):
    """A run of blanks becomes one; a no-break or wide blank that stands alone stays as it is."""

    max_held = 1
    _run = re.compile(r"\s+|\S+")
    _line_ends = frozenset("\t\n\v\f\r\x85\u2028\u2029")
    _begun = False

    def rests(self) -> bool:
        return self._begun and not self._held

    def feed(self, text: str) -> str:
        out: list[str] = []
        for run in self._run.findall(text):
            if run.isspace():
                gap = self._held + run
                self._held = " " if len(gap) > 1 or gap in self._line_ends else gap
                continue
            if self._begun and run[0] not in ",?!":
                out.append(self._held)
            out.append(run)
            self._begun = True
            self._held = ""
        return "".join(out)


class _Dots(_Scanner):
    """Two dots or more and `…` become three, and swallow dots after them, or after a blank."""

    max_held = 2
    triggers = re.compile(r"[.…]|\s(?=[.…]|\Z)")
    construct = _Construct(r"…|\.…|\.\.(?![/\\])", r"\.\.?")
    _more = _Construct(r"\s?…|\.|\s\.(?!\d)", r"\s\.?")  # `... .5` is a number

    def _sought(self) -> _Construct | None:
        return self._more if self._before == "..." else self.construct

    def _replacement(self, found: re.Match[str]) -> str:  # noqa: ARG002
        return "" if self._before == "..." else "..."


class _Label(_Stage):
    """A leading `freestyle mode` goes, if blanks, dots, colons or nothing follow; they go too."""

    max_held = 15
    _label = _Construct(r"(?i)freestyle mode[\s.:]+", "(?i)" + _opening(*"freestyle mode"))
    _done = False

    def rests(self) -> bool:
        return self._done

    def feed(self, text: str) -> str:
        if self._done or not text:
            return text
        text = self._held + text
        if self._label.opening.fullmatch(text):
            self._held = text
            return ""
        if found := self._label.whole.match(text):
            text = text[found.end() :]
        # With nothing after it, the label is kept, so that it takes more dots and blanks along.
        self._held = "" if text else "freestyle mode:"
        self._done = bool(text)
        return text

    def finish(self) -> str:
        return "" if self._label.whole.fullmatch(self._held + ":") else self._held


class _Capital(_Stage):
    """The first letter becomes a capital, unless a digit comes before it."""

    _letter_or_digit = re.compile(r"[^\W_]")
    _done = False

    def rests(self) -> bool:
        return self._done

    def feed(self, text: str) -> str:
        if self._done or not (found := self._letter_or_digit.search(text)):
            return text
        self._done, at = True, found.start()
        capital = text[at].title()  # not upper(): Georgian capitals do not begin sentences
        return text[:at] + capital + text[at + 1 :] if len(capital) == 1 else text


_SCANNERS = (_Tags, _Entities, _Escapes, _Slashes, _Emoji, _Emoticons, _Oohs, _Dots)
# What some stage would look at twice, in printable ASCII; blanks are `_Blanks`' concern.
_NOTABLE = re.compile(
    "|".join((r" (?=[ ,?!]|\Z)", *(f"(?:{stage.triggers.pattern})" for stage in _SCANNERS)))
)
