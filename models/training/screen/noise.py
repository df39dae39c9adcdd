"""Makes clean template text look typed: fillers, missing punctuation, slang, slips of the keys."""

from __future__ import annotations

import re
from random import Random

OPENERS = (
    "hey", "ok", "okay", "so", "um", "uh", "yo", "well", "hmm", "alright", "btw", "anyway",
    "babe", "dude", "haha", "oh", "actually", "and", "but", "also", "honestly", "wait", "right",
    "hi", "ok so", "hey um", "quick one", "lol", "bro", "hey you", "look", "yeah", "omg", "oh and",
)  # fmt: skip
CLOSERS = (
    "lol", "haha", "bro", "man", "thanks", "ok?", "you know", "for real", "tho", "babe", "dude",
    "hehe", "yeah?", "ok", "right now", "now", "thank you", "ty", "sweetie", "honestly",
)  # fmt: skip
# These two would change what a sentence says of the moment; only requests can bear them.
REQUEST_CLOSERS = frozenset({"right now", "now", "thank you", "thanks", "ty", "ok?"})

SHORTHAND = {
    "you": ("u", "ya"), "are": ("r",), "please": ("plz", "pls"), "what": ("wat", "wut"),
    "this": ("dis", "ths"), "see": ("c",), "for": ("4",), "to": ("2",), "why": ("y",),
    "the": ("da", "teh"), "your": ("ur",), "you're": ("ur",), "love": ("luv",), "okay": ("k",),
    "really": ("rly",), "because": ("cuz", "bc"), "about": ("abt",), "think": ("thnk",),
    "with": ("w",), "that": ("dat",), "going": ("goin",), "i'm": ("im",), "don't": ("dont",),
    "my": ("ma", "mi"), "look": ("lok", "luk", "loook"), "screen": ("scren", "scrn"),
    "screenshot": ("screnshot", "screeshot", "sreenshot"), "take": ("tak", "taek", "tke"),
    "picture": ("pictre", "piccy"), "check": ("chek", "ckeck"), "something": ("smth",),
    "can": ("cn",), "could": ("cud",), "have": ("hav",), "good": ("gud",), "want": ("wanna",),
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def surface(text: str, rng: Random, *, is_request: bool) -> str:
    """Wrap a line in an opener or closer and vary its ending; the meaning does not change."""
    if rng.random() < 0.22:
        text = f"{rng.choice(OPENERS)}{rng.choice((' ', ', '))}{text}"
    if rng.random() < 0.12:
        closer = rng.choice(CLOSERS)
        if is_request or closer not in REQUEST_CLOSERS:
            text = f"{text.rstrip('?!.')}{rng.choice((' ', ', '))}{closer}"
    return typed(text, rng)


def typed(text: str, rng: Random, *, careful: bool = False) -> str:
    """Vary punctuation, capitals and spelling as hurried typists and transcribers do.

    careful: leave most question marks alone; in a conversation "better?" asks, "better" tells.
    """
    draw = rng.random()
    if careful:
        if draw < (0.08 if text.endswith("?") else 0.3):
            text = text.rstrip("?!.")
    elif draw < 0.35:
        text = text.rstrip("?!.")
    elif draw < 0.5 and text[-1:].isalnum():
        text += rng.choice((".", "!", "...", "?", "??"))
    if rng.random() < 0.2:
        text = text.replace("'", "")
    if rng.random() < 0.3:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.08:
        text = shorten(text, rng)
    if rng.random() < 0.08:
        text = slip(text, rng)
    return text


def shorten(text: str, rng: Random) -> str:
    """Swap some words for chat shorthand."""
    words = text.split(" ")
    for index, word in enumerate(words):
        options = SHORTHAND.get(word.lower())
        if options and rng.random() < 0.6:
            words[index] = rng.choice(options)
    return " ".join(words)


def slip(text: str, rng: Random) -> str:
    """Misspell one word of four letters or more: swap, drop, double or replace one letter."""
    spots = [m.start() for m in re.finditer(r"(?<=[A-Za-z])[a-z](?=[a-z]{2})", text)]
    if not spots:
        return text
    at = rng.choice(spots)
    letter, after = text[at], text[at + 1]
    change = rng.choice(
        (after + letter, after, letter + letter + after, rng.choice(_LETTERS) + after)
    )
    return text[:at] + change + text[at + 2 :]
