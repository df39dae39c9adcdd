"""Makes a clean user line look typed: lower case, missing punctuation, short forms, typos."""

from __future__ import annotations

import re
from random import Random

from models.training.chat.grammar import sentence_case

_SHORT_FORMS = {
    "you": "u",
    "your": "ur",
    "are": "r",
    "please": "pls",
    "because": "cuz",
    "i'm": "im",
    "don't": "dont",
    "what's": "whats",
    "can't": "cant",
    "i've": "ive",
    "it's": "its",
    "going to": "gonna",
    "thanks": "thx",
    "really": "rly",
}
_SHORT_PATTERN = re.compile(r"\b(" + "|".join(map(re.escape, _SHORT_FORMS)) + r")\b")
_TYPOS = (0, 0, 0, 0, 0, 0, 0, 1, 1, 2)
_LONE_I = re.compile(r"\bi\b")


def roughen(rng: Random, text: str, bound: dict[str, str], reply: str) -> str:
    """Return `text` in one of several typing styles.

    `bound` holds the words that the reply may copy: typos stay out of them, and their capitals
    survive most lower-casing. Text from which `reply` copies nothing is at times all capitals.
    """
    style = rng.random()
    if style > 0.93 and not any(value.lower() in reply.lower() for value in bound.values()):
        return text.rstrip(".!").upper() + rng.choice(("", "", "!", "!!", "!!!"))
    if style < 0.5:
        return _polish(text)
    names = [value for value in bound.values() if value != value.lower()]
    if style < 0.8:
        text = text.lower()
        if rng.random() < 0.6:
            for name in names:
                text = text.replace(name.lower(), name)
    if rng.random() < 0.35:
        text = text.rstrip(".!?,")
    if rng.random() < 0.2:
        text = _SHORT_PATTERN.sub(lambda match: _SHORT_FORMS[match.group(1)], text)
    elif rng.random() < 0.3:
        text = text.replace("'", "")
    for _ in range(rng.choice(_TYPOS)):
        text = _typo(rng, text, " ".join(bound.values()).lower())
    return text


def _polish(text: str) -> str:
    text = sentence_case(_LONE_I.sub("I", text))
    return text + "." if text and text[-1].isalnum() and " " in text else text


def _typo(rng: Random, text: str, kept: str) -> str:
    words = text.split(" ")
    at = rng.randrange(len(words))
    word = words[at]
    if len(word) < 4 or word.lower().strip(".,!?") in kept:
        return text
    cut = rng.randrange(1, len(word) - 2)
    roll = rng.random()
    if roll < 0.4:
        word = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
    elif roll < 0.75:
        word = word[:cut] + word[cut + 1 :]
    else:
        word = word[:cut] + word[cut] + word[cut:]
    words[at] = word
    return " ".join(words)
