"""Personas and the many forms in which a system prompt can state them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from models.training.chat.grammar import Block, Template, expand, parse_template, read_blocks, tidy
from models.training.chat.layouts import TAGS, as_json, labelled, sheet
from models.training.chat.words import Words

DEFAULT_NAME = "Yap"
DEFAULT_TONE = "warm"

_FACTS = {
    "city": "place_name",
    "job": "jobname",
    "hobby": "hobbyname",
    "food": "foodname",
    "color": "colorname",
    "age": "",
    "drink": "drink",
    "music": "musicword",
    "pet": "animal",
}
_BULLETS = ("", "", "", "- ", "* ", "• ")
_SEPARATORS = (" ", " ", "\n", "\n\n")
_FORM_SHARE = 0.22


@dataclass(frozen=True, slots=True)
class Tone:
    """A personality: the adjectives that name it and the phrases that show it."""

    name: str
    phrases: dict[str, tuple[Template, ...]]


@dataclass(slots=True)
class Persona:
    """Who the assistant is in one conversation, and the system prompt that says so.

    `system` is None when there is no system prompt. `facts` holds what the prompt states
    (keys as in the grammar's ``<me.x>``).
    """

    name: str
    tone: Tone
    facts: dict[str, str] = field(default_factory=dict)
    system: str | None = None


class Casting:
    """Makes personas with their system prompts."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.tones = [_tone(block) for block in read_blocks("tones.txt")]
        self._pieces = {
            block.title: block.lines.get("u", []) for block in read_blocks("system.txt")
        }

    def cast(self, rng: Random, *, length: str) -> Persona:
        """A random persona; `length` is none, short, medium, long or huge."""
        if length == "none":
            return Persona(DEFAULT_NAME, self._named_tone(DEFAULT_TONE))
        persona = Persona(self.words.name(rng), rng.choice(self.tones))
        if length == "short" and rng.random() < 0.06:
            persona.name = DEFAULT_NAME
            persona.system = self._fill(rng, persona, "anon")
            return persona
        if rng.random() < 0.06:
            persona.name += " " + rng.choice(self.words.surnames)
        self._choose_facts(rng, persona, length)
        persona.system = self._compose(rng, persona, length)
        return persona

    def _named_tone(self, name: str) -> Tone:
        return next(tone for tone in self.tones if tone.name == name)

    def _choose_facts(self, rng: Random, persona: Persona, length: str) -> None:
        most = {"short": 2, "medium": 5, "long": 7, "huge": 9}[length]
        for key in rng.sample(list(_FACTS), rng.randint(0, most)):
            if key == "age":
                persona.facts["age"] = str(rng.randint(18, 79))
            elif key == "pet":
                persona.facts["pet_kind"] = self.words.draw(rng, "animal")
                persona.facts["pet_name"] = self.words.pet_name(rng)
            else:
                persona.facts[key] = self.words.draw(rng, _FACTS[key])
        for key, share in (("user", 0.22), ("friend", 0.15), ("maker", 0.06)):
            if rng.random() < share:
                persona.facts[key] = self.words.name(rng)

    def _compose(self, rng: Random, persona: Persona, length: str) -> str:
        fill: Callable[[str], str] = lambda title: self._fill(rng, persona, title)  # noqa: E731
        late = length != "short" and rng.random() < 0.35
        facts: list[str] = []
        if rng.random() < _FORM_SHARE:
            head = [self._form(rng, persona)]
        else:
            head = self._head(rng, persona, late=late)
            facts = self._fact_lines(rng, persona)
        rules = [fill("rule") for _ in range(rng.randint(*_RULES[length]))]
        stories = [fill("story") for _ in range(rng.randint(*_STORIES[length]))]
        rng.shuffle(facts)
        if length == "short":
            parts = [*head, *facts, *rules]
            if rng.random() < 0.2:
                rng.shuffle(parts)
            return rng.choice(_SEPARATORS).join(parts)
        sections = [self._section(rng, lines) for lines in _chunks(rng, [facts, rules, stories])]
        rng.shuffle(sections)
        place = rng.randint(0, len(sections)) if late else 0
        sections.insert(place, self._identity_section(rng, head))
        if rng.random() < 0.25:
            sections.insert(0, fill("preamble"))
        return rng.choice(("\n\n", "\n\n", "\n", " ")).join(sections)

    def _head(self, rng: Random, persona: Persona, *, late: bool) -> list[str]:
        head = [self._fill(rng, persona, "late" if late and rng.random() < 0.5 else "identity")]
        if late or rng.random() < 0.3:
            head.append(self._fill(rng, persona, "style"))
        if not late and rng.random() < 0.25:
            head.reverse()
        return head

    def _form(self, rng: Random, persona: Persona) -> str:
        """Name, tone and facts as a labelled sheet or as JSON."""
        first, second = rng.sample(persona.tone.phrases["words"], 2)
        words = expand(first, rng, str), expand(second, rng, str)
        rows = labelled(rng, persona.name, words, persona.facts)
        return as_json(rng, rows) if rng.random() < 0.25 else sheet(rng, rows)

    def _identity_section(self, rng: Random, head: list[str]) -> str:
        """The lines that name the persona, at times under a heading or in a tag of their own."""
        text = rng.choice(_SEPARATORS).join(head)
        roll = rng.random()
        if roll < 0.35:
            return f"{expand(rng.choice(self._pieces['idheading']), rng, str)}\n{text}"
        if roll < 0.42:
            tag = rng.choice(TAGS)
            return f"<{tag}>\n{text}\n</{tag}>"
        return text

    def _fact_lines(self, rng: Random, persona: Persona) -> list[str]:
        lines = []
        for key, value in persona.facts.items():
            if key in ("user", "friend", "maker"):
                lines.append(self._fill(rng, persona, key + "info"))
            elif key == "pet_name":
                lines.append(self._fill(rng, persona, "f_pet", value))
            elif key != "pet_kind":
                lines.append(self._fill(rng, persona, "f_" + key, value))
        return lines

    def _section(self, rng: Random, lines: list[str]) -> str:
        bullet = rng.choice(_BULLETS)
        if bullet:
            body = "\n".join(bullet + line for line in lines)
        else:
            body = rng.choice((" ", " ", "\n")).join(lines)
        return f"{self._heading(rng)}\n{body}" if rng.random() < 0.4 else body

    def _heading(self, rng: Random) -> str:
        return expand(rng.choice(self._pieces["heading"]), rng, str)

    def _fill(self, rng: Random, persona: Persona, title: str, value: str = "") -> str:
        used: dict[str, str] = {}

        def resolve(slot: str) -> str:
            if slot not in used:
                used[slot] = self._word(rng, persona, slot, value, used)
            return used[slot]

        text = tidy(expand(rng.choice(self._pieces[title]), rng, resolve))
        return _agree(text, persona.name)

    def _word(
        self, rng: Random, persona: Persona, slot: str, value: str, used: dict[str, str]
    ) -> str:
        match slot:
            case "N":
                return persona.name
            case "v":
                return value
            case "pk":
                return persona.facts["pet_kind"]
            case "adj" | "adj2":
                options = persona.tone.phrases["words"]
                word = expand(rng.choice(options), rng, str)
                return word if word not in used.values() else expand(options[0], rng, str)
            case "user" | "friend" | "maker":
                return persona.facts[slot]
            case "other" | "other2":
                return self.words.name(rng)
            case "hobby2":
                return self.words.draw(rng, "hobby")
            case "town":
                return self.words.draw(rng, "place_name")
        return self.words.draw(rng, slot)


_RULES = {"short": (0, 2), "medium": (1, 6), "long": (5, 18), "huge": (25, 60)}
_STORIES = {"short": (0, 0), "medium": (0, 4), "long": (4, 16), "huge": (30, 80)}


_THIRD_PERSON = {
    "are": "is",
    "have": "has",
    "go": "goes",
    **{
        verb: verb + "s"
        for verb in "live come love enjoy listen drink think look believe dislike avoid own work "
        "remember laugh ask use".split()
    },
}


def _agree(text: str, name: str) -> str:
    """Make the verb after the persona's name (or after "you was") agree with it."""
    text = text.replace("you was", "you were")
    head, found, tail = text.partition(f"{name} ")
    verb, space, rest = tail.partition(" ")
    if found and not head.endswith(("you are ", "You are ")) and verb in _THIRD_PERSON:
        return f"{head}{found}{_THIRD_PERSON[verb]}{space}{rest}"
    return text


def _chunks(rng: Random, groups: list[list[str]]) -> list[list[str]]:
    """Cut each group into runs of a few lines."""
    chunks = []
    for group in groups:
        begin = 0
        while begin < len(group):
            size = rng.randint(2, 8)
            chunks.append(group[begin : begin + size])
            begin += size
    return chunks


def _tone(block: Block) -> Tone:
    phrases: dict[str, tuple[Template, ...]] = {}
    for key, lines in block.lines.items():
        text = " ".join(str(part) for part in lines[0])
        phrases[key] = tuple(parse_template(option.strip()) for option in text.split(" | "))
    return Tone(block.title, phrases)
