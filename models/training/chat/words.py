"""Word lists, held-out names and invented words.

Invented names and nouns make up a good share of what the dialogues mention, so that the model
learns to copy a word it has not met instead of choosing from a list. One name in eight is held
out by hash and appears only in the evaluation.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.training.chat.grammar import GRAMMAR_DIR

_ONSETS = (
    "b br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st "
    "str sw t th tr v vl w wh y z"
).split()
_VOWELS = "a e i o u a e i o u ai au ea ee ei ia ie io oa oo ou y".split()
_CODAS = "b ck d ff g l ll m n nd ng nk nt p r rd rk rm rn rt s sh sk ss st t th v x z".split()
_NAME_ENDS = (
    "a a a ia ina elle ette ika ora iel an en on in us o io ius ek ov ar or is ys eth".split()
)

# A letter three times over: a model that meets it learns to draw words out without an end.
_DRAWN_OUT = re.compile(r"(.)\1\1")
_COMPOUND_SHARE = 0.08
_INVENTED_NOUN_SHARE = 0.14
_INVENTED_NOUN_SHARE_HELD_OUT = 0.7
_INVENTED_NAME_SHARE = 0.45
_MODIFIED_SHARE = 0.18


def is_held_out(word: str) -> bool:
    """Whether a name or an invented word is kept out of training (one in eight, by CRC-32)."""
    return zlib.crc32(word.lower().encode()) % 8 == 0


def _syllable(rng: Random, *, closed: float) -> str:
    coda = rng.choice(_CODAS) if rng.random() < closed else ""
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + coda


def invent_noun(rng: Random) -> str:
    """An invented noun of two or three syllables, lower case."""
    word = _syllable(rng, closed=0.4) + _syllable(rng, closed=0.75)
    return word + _syllable(rng, closed=0.5) if rng.random() < 0.25 else word


def invent_name(rng: Random) -> str:
    """An invented first name, capitalised."""
    stem = _syllable(rng, closed=0.25)
    if rng.random() < 0.45:
        stem += _syllable(rng, closed=0.2)
    return (stem + rng.choice(_CODAS if rng.random() < 0.3 else _NAME_ENDS)).capitalize()


@dataclass(frozen=True, slots=True)
class Action:
    """A verb with its object, as in "bake / baked / baking", "sourdough"."""

    base: str
    past: str
    ing: str
    obj: str
    kind: str


class Words:
    """Draws words by category.

    `held_out` draws names and invented words from the part kept out of training, and makes most
    nouns invented ones.
    """

    def __init__(self, *, held_out: bool = False) -> None:
        self.held_out = held_out
        self._invented = _INVENTED_NOUN_SHARE_HELD_OUT if held_out else _INVENTED_NOUN_SHARE
        self.lists = _read_lists("lexicon.txt", " | ")
        names = _read_lists("names.txt", " ")
        self.first = self._split(names["female"] + names["male"])
        self.pets = self._split(names["pet"])
        self.surnames = names["surname"]
        self.actions = [
            tuple(line.split("/"))
            for line in (GRAMMAR_DIR / "acts.txt").read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        self._made: dict[str, Callable[[Random], str]] = {
            "firstname": self.name,
            "petname": self.pet_name,
            "place_name": self._place_name,
            "foodname": self._food,
            "foodplain": lambda rng: _bare(self._food(rng)),
            "jobname": self._job,
            "hobbyname": lambda rng: self._plain(rng, "hobby"),
            "eventname": lambda rng: self._plain(rng, "event"),
            "colorname": lambda rng: self._plain(rng, "color"),
            "thingword": lambda rng: self._modified(rng, "thing", "adjthing"),
            "anything": self._anything,
            "anynoun": self._any_noun,
            "anyplaceevent": self._place_or_event,
            "screenthing": self._screen_thing,
            "creature": self._creature,
            "anycreature": self._any_creature,
            "detail": self._detail,
            "fooditem": lambda rng: _bare(self._food(rng)),
            "doc": lambda rng: rng.choice(
                ["document", "page", "file", "slide", "report", "spreadsheet", "note", "draft"]
            ),
            "screendoc": lambda rng: rng.choice(
                "spreadsheet table document list chart note form page email chat slide".split()
            ),
            "film": self._film,
            "musicword": lambda rng: self._plain(rng, "music"),
            "gameword": lambda rng: self._plain(rng, "game"),
            "adjany": self._adjective,
            "num": lambda rng: str(rng.randint(2, 999)),
            "playq": lambda rng: rng.choice(
                ["animal", "season", "snack", "song", "colour", "game"]
            ),
            "playq2": self._play_topic,
        }

    def _split(self, names: list[str]) -> list[str]:
        return [name for name in dict.fromkeys(names) if is_held_out(name) == self.held_out]

    def draw(self, rng: Random, category: str) -> str:
        """One word of the category; raises KeyError for an unknown one."""
        made = self._made.get(category)
        if made is not None:
            return made(rng)
        options = self.lists[category]
        return options[int(rng.random() * len(options))]

    def _accept(self, rng: Random, make: Callable[[Random], str]) -> str:
        while True:
            word = make(rng)
            if is_held_out(word) == self.held_out and not _DRAWN_OUT.search(word.lower()):
                return word

    def name(self, rng: Random) -> str:
        """A first name, real or invented."""
        if rng.random() < _INVENTED_NAME_SHARE:
            return self._accept(rng, invent_name)
        return rng.choice(self.first)

    def pet_name(self, rng: Random) -> str:
        """A pet's name: a usual one, a person's name or an invented one."""
        return rng.choice(self.pets) if rng.random() < 0.6 else self.name(rng)

    def noun(self, rng: Random) -> str:
        """An invented noun of this half of the word space."""
        return self._accept(rng, invent_noun)

    def act(self, rng: Random, fill: Callable[[str], str]) -> Action:
        """A verb frame with its object filled in by `fill` (a slot name to its word)."""
        base, past, ing, obj, kind = rng.choice(self.actions)
        while "<" in obj:
            head, _, rest = obj.partition("<")
            slot, _, tail = rest.partition(">")
            obj = head + fill(slot) + tail
        return Action(base, past, ing, obj, kind)

    def _plain(self, rng: Random, category: str) -> str:
        if rng.random() < 0.05:
            return self.noun(rng)
        return rng.choice(self.lists[category])

    def _modified(self, rng: Random, category: str, adjective: str) -> str:
        roll = rng.random()
        if roll < self._invented:
            word = self.noun(rng)
        elif roll < self._invented + _COMPOUND_SHARE:
            word = f"{rng.choice(self.lists['animal'])} {rng.choice(self.lists['thing'])}"
        else:
            word = rng.choice(self.lists[category])
        if rng.random() < _MODIFIED_SHARE and not word.startswith("a "):
            word = f"{rng.choice(self.lists[adjective])} {word}"
        return word

    def _place_name(self, rng: Random) -> str:
        roll = rng.random()
        if roll < 0.2:
            return self._accept(rng, invent_name)
        if roll < 0.25:
            return f"{rng.choice(['New', 'Port', 'San', 'Lake', 'Saint'])} {self.name(rng)}"
        return rng.choice(self.lists["city" if roll < 0.85 else "country"])

    def _food(self, rng: Random) -> str:
        return self._modified(rng, "food", "adjfood")

    def _job(self, rng: Random) -> str:
        if rng.random() < 0.08:
            return f"{rng.choice(self.lists['thing'])} maker"
        return rng.choice(self.lists["job"])

    def _anything(self, rng: Random) -> str:
        return self._modified(rng, "animal" if rng.random() < 0.35 else "thing", "adjthing")

    def _any_noun(self, rng: Random) -> str:
        category = rng.choice(
            ["food", "hobby", "music", "game", "season", "subject", "place_name", "drink", "plural"]
        )
        if category == "plural":
            return _plural(_bare(self._anything(rng)))
        if category == "food":
            return _bare(self._food(rng))
        return _bare(self.draw(rng, category))

    def _place_or_event(self, rng: Random) -> str:
        category = rng.choice(["event", "event", "place", "noun", "film"])
        if category == "noun":
            return self.noun(rng)
        if category == "film":
            return rng.choice(
                ["film", "concert", "book", "lesson", "trip", "show", "flight", "hike"]
            )
        return rng.choice(self.lists[category])

    def _screen_thing(self, rng: Random) -> str:
        if rng.random() < 0.5:
            return rng.choice(
                "picture photo email message drawing essay code spreadsheet recipe map video "
                "website page article outfit design logo painting homework chart slide form "
                "profile post comment game score playlist error document".split()
            )
        return self._modified(rng, "thing", "adjthing")

    def _creature(self, rng: Random) -> str:
        roll = rng.random()
        if roll < 0.15:
            return self.noun(rng)
        if roll < 0.3:
            return rng.choice(
                "dragon knight robot wizard pirate ghost goblin astronaut elf".split()
            )
        return rng.choice(self.lists["animal" if roll < 0.6 else "breed"])

    def _any_creature(self, rng: Random) -> str:
        if rng.random() < self._invented:
            return self.noun(rng)
        return rng.choice(self.lists[rng.choice(("animal", "wild"))])

    def _detail(self, rng: Random) -> str:
        if rng.random() < 0.3:
            return rng.choice(
                "colour taste view people music smell price story size ending sound light "
                "crust sauce weather quiet noise waiting cost food company".split()
            )
        return self._modified(rng, "thing", "adjthing")

    def _film(self, rng: Random) -> str:
        adjective, noun = rng.choice(self.lists["filmadj"]), rng.choice(self.lists["filmnoun"])
        return rng.choice(
            [f"The {adjective} {noun}", f"{adjective} {noun}", f"The {noun} of {self.name(rng)}"]
        )

    def _adjective(self, rng: Random) -> str:
        return rng.choice(self.lists[rng.choice(["adjgood", "adjbad", "feelgood", "feelbad"])])

    def _play_topic(self, rng: Random) -> str:
        category = rng.choice(["hobby", "music", "season", "place_name", "food"])
        return _bare(self.draw(rng, category))


def _read_lists(name: str, separator: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for line in (GRAMMAR_DIR / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            key, _, rest = line.partition(": ")
            lists[key] = [word.strip() for word in rest.split(separator) if word.strip()]
    return lists


def _bare(noun: str) -> str:
    return noun.removeprefix("a ")


def _plural(noun: str) -> str:
    if noun.endswith(("s", "sh", "ch", "x", "z")):
        return noun if noun.endswith("s") else noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
