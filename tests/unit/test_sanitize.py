"""A streamed reply is cleaned the same however it is cut, at once, and nothing said is lost."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yap.sanitize import Sanitizer


def clean(text: str, *cuts: int) -> str:
    """`text` cleaned in one piece, or in the pieces that end at `cuts`."""
    sanitizer = Sanitizer()
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    starts = [0, *ends]
    pieces = [sanitizer.feed(text[a:b]) for a, b in zip(starts, ends, strict=False)]
    return "".join(pieces) + sanitizer.finish()


def char_by_char(text: str) -> str:
    return clean(text, *range(len(text)))


CLEANED = {
    "markup": [
        ("A <b>bold</b> move", "A bold move"),
        ("<B>Hi</B>, you", "Hi, you"),
        ("One<br/>two<br>three</p>four", "One two three four"),
        ('See <a href="https://x.y/?a=1>2" class=big>this</a>', "See this"),
        ("<img alt='a b' src=x />Look", "Look"),
        ("Tom &amp; Ann &lt;b&gt; &#39;so&#x27; &quot;on&quot;", "Tom & Ann <b> 'so' \"on\""),
        ("Wait&hellip; I&nbsp;know &eacute;", "Wait... I\xa0know é"),
        ("So &amp;lt; &amp;amp;", "So &lt; &amp;"),  # decoded once
        ("A&#7;b&#10;c&#x1F600;d", "Ab c d"),
        ("I &lt;3 you", "I you"),
    ],
    "line breaks": [
        ("Hi!\n\n\r\nYou", "Hi! You"),
        (r"Hi!\nYou there?\n\nYes", "Hi! You there? Yes"),
        (r"Hi!\r\nYou\\nthere", "Hi! You there"),
        ("Hi! /n You?/n/nYes./nNo/n", "Hi! You? Yes. No/n"),
        ("Hi!/n\n/nYou! /n", "Hi! You!"),
        ("你好。/n我很好", "你好。 我很好"),
        ("a\u2028b\tc\x0bd\x85e", "A b c d e"),
    ],
    "quotes": [(r"So \"fun\", isn\'t it", "So 'fun', isn't it"), (r"\\\"Hi\\\"", r"\'Hi\'")],
    "emoji": [
        ("Hi 👋🏽, you", "Hi, you"),
        ("Yes 👩‍💻👨‍👩‍👧‍👦 ok", "Yes ok"),
        ("Flags 🇩🇪🇫🇷 🏳️‍🌈 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🏴‍☠️ end", "Flags end"),
        ("Press 1️⃣ or #️⃣ or 2⃣ now", "Press or or now"),
        ("I❤️you ❤ ☺️ ✨", "I you"),
        ("Ok™ but not ™️ or ↔️ or ©️", "Ok™ but not or or"),
        ("Nod 🙂‍↔️!", "Nod!"),
        ("😀", ""),
    ],
    "emoticons": [
        ("hey :) you", "Hey you"),
        ("Hey:) you", "Hey you"),
        ("Great!:) Ha ;-) and :))) or :-( or :'( or >:(", "Great! Ha and or or or"),
        ("Lol xD XDD :D :P :p :o :3 :/ :| =) =D 8-)", "Lol"),
        ("Love <3 and <333, no </3", "Love and, no"),
        ("Oh ^_^ -_- o_O T_T >_< ^^ \\o/", "Oh"),
        (":) :( hey", "Hey"),
        ("Bye :)", "Bye"),
        ("So :):) fun", "So fun"),
    ],
    "oohs": [
        ("Ohhhh, nice", "Ooh, nice"),
        ("oooh oooohhh ohh OOOHHH", "Ooh ooh ooh Ooh"),
        ("oh ooh Oh", "Oh ooh Oh"),
    ],
    "blanks": [
        ("So  sweet , yes ! really ?", "So sweet, yes! really?"),
        ("  \n So \t so \n ", "So so"),
        ("Où ça\u202f? 日本\u3000語", "Où ça? 日本\u3000語"),
        (" , hm", ", Hm"),
    ],
    "dots": [
        ("Well.. I… see... .", "Well... I... see..."),
        ("So...... what……. then.…", "So... what... then..."),
        ("Hm... . . ok. Yes . no", "Hm... ok. Yes . no"),
        ("It is... .5", "It is... .5"),
    ],
    "label": [
        ("Freestyle mode: hey", "Hey"),
        ("freestyle mode. hey", "Hey"),
        ("FREESTYLE MODE hey", "Hey"),
        (" Freestyle  mode .. : \n hey", "Hey"),
        ("Freestyle mode…hey", "Hey"),
        ("Freestyle mode:\u3000hey", "Hey"),
        ("<b>Freestyle mode.</b>hey. Freestyle mode: on", "Hey. Freestyle mode: on"),
        ("Freestyle mode", ""),  # nothing but the label was said
        ("Freestyle mode. ", ""),
    ],
    "capital": [
        ("hey", "Hey"),
        ("'hey'", "'Hey'"),
        ("¿qué?", "¿Qué?"),
        ("étage", "Étage"),
        ("ǆ", "ǅ"),
        ("3 apples", "3 apples"),
        ("ßa", "ßa"),
        ("გამარჯობა", "გამარჯობა"),
    ],
    "controls": [("H\x00e\x07\x1b\x7f\x9fllo", "Hello"), ("A\ud800b", "A\ufffdb"), ("\x07", "")],
}


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param(*pair, id=f"{rule}-{n}")
        for rule in CLEANED
        for n, pair in enumerate(CLEANED[rule])
    ],
)
def test_each_rule(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert char_by_char(text) == cleaned


LEFT_ALONE = [
    "",
    *("Free", "F", "Freestyle", "Freestyle mod", "Free as a bird", "Freestyle modern dance"),
    *("Freestyle modes", "Freestyle mode, you say?", "Freestyle mode's on"),
    *("If a < b and c > d", "If a<b and c>d", "5<6", "2<3", "<3.5", "<your name>", "<https://x.y>"),
    *("I <b", '<a href="x', "</", "<", "<>", "< b>", "<b c>"),
    *("R&B", "AT&T", "Q&A;", "&nosuch;", "&amp", "Fish & chips", "A?b=1&copy=2", "&#x;", "&#;"),
    *("And/nor", "http://x/n", "Y/n", "1/n", "/name", "/n/x", "./n.txt", "Path /né"),
    *("C:/notes/n", "Back\\slash", "\\", "/"),
    *("10:30", "At 10:3", "John 3:16", "https://a.b", "8) next", "A) B) c)", "X:D", "Foo:Dx"),
    *("Note: (yes)", "Ingredients:(optional)", "C:/x", "Plan D: go", "A :3pm", "Cost :$5", "X :/y"),
    *(
        "Snake_case",
        "To_o",
        "Well-known - yes",
        "A -> b",
        "A => b",
        "2^^3",
        "Box",
        "Xylo",
        ":",
        "8",
    ),
    *("Cooool", "Book", "Ohm", "School", "Pooohs", "Aoooh", "Ooooh_", "Ooooo", "Oooohé"),
    *("../up", "A/../b", "..\\up", "End.", "1.5", ".", "One. Two."),
    *("Ok ™ © ® ℹ ↔ ❶", "1 # *", "5"),
]
LANGUAGES = [
    "Größe und Maß, ça va, à bientôt; ¡señor!",
    "Žluťoučký kůň – «да, конечно», Ελληνικά;",
    "你好，世界。「はい」한국어 입니다",
    "مرحبا بالعالم، שלום עולם \u200fא\u200e",
    "می\u200cخواهم क्\u200dष ක්\u200dර ไทยไม่มีช่องว่าง",
    "E\u0301tude, i\u0307 — “quoted” ‘so’",
]


@pytest.mark.parametrize("text", LEFT_ALONE + LANGUAGES)
def test_text_that_only_looks_like_it_is_left_alone(text: str) -> None:
    later = f"So {text}".rstrip()
    assert clean(later) == char_by_char(later) == later
    assert clean(text).casefold() == text.casefold()  # but for the capital that begins it


FRAGMENTS = st.sampled_from(
    'freestyle mode|Freestyle|mode|.|..|…|...|:|;|)|(|:)|:D|xD|<3|<|>|/|</|<b>|<br/>|<a b="c">'
    "|<a b='|\"|'|=|&|&amp;|&lt;|&#39;|&#x1f600;|&#10;|#|x27;|\\|\\n|\\r|/n|n|\n| |\t"
    "|\u3000|\xa0|,|?|!|o|oo|O|h|hh|oooh|😀|👋🏽|👩\u200d💻|\u200d|\ufe0f|\u20e3|1|3|8|B|-|_|^|T|u|x|X|D|P|ℹ|™|a|é|日"
    "|\x07|\ud800".split("|")
)
NASTY = st.lists(FRAGMENTS, max_size=25).map("".join)
ANY_TEXT = NASTY | st.text(st.characters(exclude_categories=[]))  # surrogates too
CUTS = st.lists(st.integers(0, 120), max_size=12)


@settings(max_examples=500)
@given(ANY_TEXT, CUTS)
@example("freestyle mode: " + "o" * 30, [3, 14, 20])
def test_the_result_does_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    whole = clean(text)
    assert clean(text, *cuts) == whole
    assert char_by_char(text) == whole


@settings(max_examples=300)
@given(ANY_TEXT, ANY_TEXT)
def test_what_was_sent_stands_whatever_follows(text: str, more: str) -> None:
    assert clean(text + more).startswith(Sanitizer().feed(text))


@settings(max_examples=300)
@given(ANY_TEXT)
def test_the_result_can_be_sent_and_read_aloud(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert cleaned == cleaned.strip()
    assert not [c for c in cleaned if unicodedata.category(c) in {"Cc", "Zl", "Zp"}]
    assert "  " not in cleaned


LONGEST_HELD = {
    "_Tags": (256, '<a href="' + "u" * 300),
    "_Entities": (32, "&" + "a" * 40),
    "_Escapes": (5, "\\\\r\\\\r"),
    "_Slashes": (15, "/n" * 7 + "/x"),
    "_Emoji": (2, "1\ufe0f."),
    "_Emoticons": (13, ">:'-)))))))).5"),
    "_Oohs": (48, "o" * 30 + " " + "o" * 24 + "h" * 30),
    "_Blanks": (1, "a" + " " * 50),
    "_Dots": (2, "../x"),
    "_Label": (15, "freestyle mode. . . hey"),
    "_Capital": (0, "..."),
}


def held(sanitizer: Sanitizer) -> dict[str, int]:
    """Characters that each stage holds back."""
    return {type(stage).__name__: len(getattr(stage, "_held", "")) for stage in sanitizer._stages}


@pytest.mark.parametrize("stage", LONGEST_HELD)
def test_each_rule_holds_back_so_much_and_no_more(stage: str) -> None:
    most, text = LONGEST_HELD[stage]
    sanitizer = Sanitizer()
    longest = 0
    for char in text:
        sanitizer.feed(char)
        longest = max(longest, held(sanitizer)[stage])
    assert longest == most


@settings(max_examples=300)
@given(ANY_TEXT)
def test_no_text_makes_a_rule_hold_back_more(text: str) -> None:
    sanitizer = Sanitizer()
    assert held(sanitizer).keys() == LONGEST_HELD.keys()
    for char in text:
        sanitizer.feed(char)
        for stage, size in held(sanitizer).items():
            assert size <= LONGEST_HELD[stage][0]


@pytest.mark.parametrize("text", ["Hey", "Hey you", "Hey you, a", "Yes, 10:30 an", "I like b"])
def test_plain_words_are_sent_at_once(text: str) -> None:
    assert Sanitizer().feed(text) == text


WORDS = st.sampled_from(
    "Hello|42|Größe|日本|مرحبا|School|Cooool|X:D|AT&T|10:30|https://a.b/n|5<6|<3.5|And/nor|Y/n|Z"
    "|E\u0301|क्\u200dष|Box|7.5|(so)|Free|8)|Ohm|R2-D2".split("|")
)
REMOVED = st.sampled_from(
    ' |\n|\\n| /n |<b>|</b>|<br/>|<a b="c d">|&#7;|&nbsp; |\x07 |\t|:)|;-)|:(|xD|<3|^_^|:\'('
    "|😀|👋🏽|👩\u200d💻|❤️|🇩🇪|1️⃣|™️".split("|")
)


@settings(max_examples=300)
@given(st.lists(st.tuples(WORDS, st.lists(REMOVED, max_size=3)), min_size=1), CUTS)
def test_every_word_between_constructs_is_said(
    parts: list[tuple[str, list[str]]], cuts: list[int]
) -> None:
    text = "".join(f" {word} {' '.join(removed)}" for word, removed in parts)
    assert clean(f"So{text}", *cuts) == " ".join(["So", *(word for word, _ in parts)])


# Letters and digits that some emoticon or an exaggerated ooh may take with it.
IN_CONSTRUCTS = frozenset("ohdpsxcbtu38")
PLAIN = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="<&\\/\ufe0f\u20e3")
    | st.sampled_from(" .…,?!:;)(-_^~\n\"'*ohD3x")
)


@settings(max_examples=500)
@given(PLAIN.filter(lambda text: not text.strip().lower().startswith("freestyle")))
def test_no_letter_or_digit_of_plain_text_is_lost(text: str) -> None:
    def said(part: str) -> list[str]:
        plain = part.upper().casefold()  # so that a capital makes no difference
        return [c for c in plain if c.isalnum() and c not in IN_CONSTRUCTS]

    assert said(clean(text)) == said(text)


def seconds(run: Callable[[], object], limit: float) -> float:
    """CPU time of the best of three runs, or of the first within `limit`."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        run()
        best = min(best, time.process_time() - begun)
        if best < limit:
            break
    return best


CHAT = "Well, that sounds lovely, and I think we should go there at 10:30. What do you say? "


def test_a_long_reply_takes_little_time() -> None:
    text = (CHAT * 2500)[:200_000]
    assert seconds(lambda: char_by_char(text), 1.0) < 1.0
    assert seconds(lambda: clean(text), 0.2) < 0.2


UNITS = "<|<a b='|<a b=c |&|&a|\\|/n| /n|:|:)|-|😀|1|\u200d|o|oh | |\n|.|… |freestyle ".split("|")


@pytest.mark.parametrize("unit", [*UNITS, "<a " + " " * 250, '<a b="' + "x" * 245, "o" * 24 + "h"])
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    assert seconds(lambda: char_by_char(text), 0.5) < 0.5
    assert seconds(lambda: clean(text), 0.5) < 0.5
    # Twice the text, about twice the time; a square would be four times.
    once = seconds(lambda: clean(text * 5), 0)
    assert seconds(lambda: clean(text * 10), 3 * once + 0.05) < 3 * once + 0.05


class ThroughAllStages(Sanitizer):
    """Lets nothing past the stages."""

    def feed(self, text: str) -> str:
        self._rests = False
        return super().feed(text)


PIECES = st.sampled_from(
    [
        *" .,!?:;-_/\\<>&=^*#0978noOuTxXDBh",
        *("oh", " word", " to", " you", "...", "/n", "\\n", "\n", "8)", ":)", "<3", "<b>", "&amp;"),
        *("é", "🙂", "\ufe0f", "freestyle mode", "a", "  ", " a b, c", " !"),
    ]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=40))
def test_what_goes_past_the_stages_is_what_they_would_give(pieces: list[str]) -> None:
    fast, slow = Sanitizer(), ThroughAllStages()
    for piece in pieces:
        assert fast.feed(piece) == slow.feed(piece)
    slow._rests = False
    assert fast.finish() == slow.finish()


def test_a_plain_word_goes_past_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    sanitizer = Sanitizer()
    assert sanitizer.feed("Hello") == "Hello"
    monkeypatch.setattr(sanitizer, "_stages", ())
    assert sanitizer.feed(" there, my") == " there, my"
    assert sanitizer.finish() == ""
