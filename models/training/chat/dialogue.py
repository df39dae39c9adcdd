"""Composes conversations: a persona, a chain of exchanges, facts that are recalled later."""

from __future__ import annotations

import itertools
import re
from bisect import bisect
from dataclasses import dataclass, field
from random import Random

from models.training.chat.grammar import (
    Block,
    GrammarError,
    Template,
    all_slots,
    bind_name,
    certain_slots,
    expand,
    parse_template,
    read_blocks,
    sentence_case,
    tidy,
)
from models.training.chat.noise import roughen
from models.training.chat.personas import DEFAULT_NAME, Casting, Persona
from models.training.chat.words import Action, Words

CHECK_PREFIX = "MUST CHECK SCREEN:"
SCREEN_PREFIX = "ON THE SCREEN NOW:"
_CHECK_VARIANTS = ("Must check screen:", "CHECK SCREEN:", "MUST CHECK SCREEN", "LOOK AT SCREEN:")
_SCREEN_VARIANTS = ("On the screen now:", "SCREEN NOW:", "ON THE SCREEN NOW", "ON SCREEN:")

_LENGTHS = ("none", "short", "medium", "long", "huge")
_LENGTH_WEIGHTS = (7, 38, 34, 16, 5)
_RECALL_BOOST = 5.0
_STATED_BOOST = 3.0
_LONG_PROMPT = 700
_MY_TO_YOUR = re.compile(r"\bmy\b")
_HAS_FACT = re.compile(r"^(!?)(me|my)\.(\w+)$")


@dataclass(slots=True)
class Message:
    """One chat message. `trained` is False for replies that carry no loss."""

    role: str
    content: str
    trained: bool = True


@dataclass(slots=True)
class Conversation:
    """Messages with, for measuring, what the last reply has to contain."""

    messages: list[Message]
    persona: Persona
    intent: str = ""
    expected: str = ""


@dataclass(slots=True)
class _State:
    rng: Random
    persona: Persona
    me: dict[str, str]
    my: dict[str, str] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)
    act: Action | None = None
    topic: str = ""
    in_reply: bool = False


class _Intents:
    """The intents of one grammar file with a weighted draw among those whose needs are met."""

    def __init__(self, name: str) -> None:
        self.blocks = read_blocks(name)
        for block in self.blocks:
            _check(name, block)
        self.by_title = {block.title: block for block in self.blocks}
        self.needs = {block.title: _needs(block) for block in self.blocks}
        self._sums: dict[str, tuple[list[Block], list[float]]] = {}
        for group in ("", "open", "close"):
            blocks = [b for b in self.blocks if _group(b) == group]
            weights = [float(b.flags.get("w", "1")) * self._boost(b) for b in blocks]
            self._sums[group] = (blocks, list(itertools.accumulate(weights)))

    def _boost(self, block: Block) -> float:
        recall = any(who == "my" and not absent for absent, who, _ in self.needs[block.title])
        stated = any(who == "me" and not absent for absent, who, _ in self.needs[block.title])
        return _RECALL_BOOST if recall else _STATED_BOOST if stated else 1.0

    def draw(self, rng: Random, state: _State, group: str = "") -> Block:
        blocks, sums = self._sums[group]
        while True:
            block = blocks[bisect(sums, rng.random() * sums[-1])]
            if self.met(block, state):
                return block

    def met(self, block: Block, state: _State) -> bool:
        for absent, who, key in self.needs[block.title]:
            known = key in (state.me if who == "me" else state.my)
            if known == absent:
                return False
        return True


class Composer:
    """Composes conversations from the grammar files; one instance a process.

    `held_out` draws every name and invented word from the part kept out of training.
    """

    def __init__(self, *, held_out: bool = False) -> None:
        self.words = Words(held_out=held_out)
        self.casting = Casting(self.words)
        self.talk = _Intents("talk.txt")
        self.life = _Intents("life.txt")
        self.identity = _Intents("identity.txt")
        self.about = _Intents("persona.txt")
        self.follow = _Intents("follow.txt")
        self.cut = _Intents("cut.txt")
        self.screen = _Intents("screen.txt")
        self.extras = {block.title: block.lines["u"] for block in read_blocks("extras.txt")}
        self.react = {block.title: _phrase_lists(block) for block in read_blocks("react.txt")}

    def conversation(self, rng: Random) -> Conversation:
        """One training conversation of 1 to 8 exchanges (more under a long system prompt)."""
        length = rng.choices(_LENGTHS, _LENGTH_WEIGHTS)[0]
        state = self._start(rng, length)
        turns = rng.choices((1, 2, 3, 4, 5, 6, 8), (20, 18, 18, 15, 12, 9, 8))[0]
        if length in ("long", "huge"):
            turns = rng.choice((3, 4, 6, 8, 12)) if rng.random() < 0.9 else rng.randint(20, 50)
        messages = self._opening(state)
        for turn in range(turns):
            self._exchange(state, messages, first=turn == 0, last=turn == turns - 1)
        return Conversation(messages, state.persona)

    def probe(self, rng: Random, source: str, title: str, setup: str = "") -> Conversation:
        """A conversation for measuring: an optional `setup` exchange, small talk, then `title`.

        The last user message is of intent `title` in `source` (talk, life, identity, about or
        screen) and the last message is a reference reply; `expected` is left to the caller.
        """
        length = rng.choices(("short", "medium", "long"), (5, 4, 2))[0]
        state = self._start(rng, length)
        while state.persona.name == DEFAULT_NAME:
            state = self._start(rng, length)
        messages = self._opening(state)
        if setup:
            self._say(state, messages, self.talk.by_title[setup], rough=False)
            filler = self.talk.by_title[rng.choice(("like_x", "film", "weather", "act_now"))]
            self._say(state, messages, filler, rough=False)
        intents: _Intents = getattr(self, source)
        self._say(state, messages, intents.by_title[title], rough=False)
        if title.startswith("seen"):
            messages[-2].content = f"{SCREEN_PREFIX} {messages[-2].content}"
        return Conversation(messages, state.persona, title, _expected(state, title))

    def _start(self, rng: Random, length: str) -> _State:
        persona = self.casting.cast(rng, length=length)
        me = dict(persona.facts)
        me["name"] = persona.name
        return _State(rng, persona, me)

    def _opening(self, state: _State) -> list[Message]:
        if state.persona.system is None:
            return []
        return [Message("system", state.persona.system)]

    def _exchange(self, state: _State, messages: list[Message], *, first: bool, last: bool) -> None:
        rng = state.rng
        cut = messages[-1].content if messages and not messages[-1].trained else ""
        roll = rng.random()
        asked = bool(messages) and messages[-1].role == "assistant"
        if cut and not cut.endswith((".", "!", "?")) and roll < 0.7:
            self._say(state, messages, self.cut.draw(rng, state))
        elif first and roll < 0.35:
            intents = self.identity if roll < 0.04 else self.talk
            self._say(state, messages, intents.draw(rng, state, "open"))
        elif last and roll < 0.1:
            self._say(state, messages, self.talk.draw(rng, state, "close"))
        elif asked and state.topic and messages[-1].content.endswith("?") and roll < 0.4:
            self._say(state, messages, self.follow.draw(rng, state))
        elif rng.random() < 0.1:
            self._screen_turns(state, messages)
        else:
            self._say(state, messages, self._source(rng, state).draw(rng, state))
        if not last and rng.random() < 0.07:
            self._interrupt(rng, messages[-1])

    def _source(self, rng: Random, state: _State) -> _Intents:
        """The grammar file of the next exchange; long prompts get more questions about them."""
        system = state.persona.system or ""
        roll = rng.random() * (0.8 if len(system) > _LONG_PROMPT else 1.0)
        if roll < 0.24:
            return self.identity
        if roll < 0.38:
            return self.about
        return self.life if roll < 0.58 else self.talk

    def _interrupt(self, rng: Random, reply: Message) -> None:
        """Cut a reply mid-sentence, as when the user talks over it."""
        words = reply.content.split(" ")
        if len(words) > 4:
            reply.content = " ".join(words[: rng.randint(2, len(words) - 2)])
            reply.trained = False

    def _screen_turns(self, state: _State, messages: list[Message]) -> None:
        rng = state.rng
        roll = rng.random()
        if roll < 0.08:
            self._say(state, messages, self.screen.by_title["screen_blind"])
            return
        if roll < 0.75:
            title = "look" if rng.random() < 0.5 else "look_x"
            blocks = self.talk if rng.random() < 0.12 else self.screen
            if blocks is self.talk:
                user, _ = self._compose(state, self.talk.draw(rng, state))
                _, reply = self._compose(state, self.screen.by_title["look"])
            else:
                user, reply = self._compose(state, self.screen.by_title[title])
            user = roughen(rng, user, state.bound, reply)
            kept = rng.random() < 0.7
            text = f"{_prefix(rng, CHECK_PREFIX, _CHECK_VARIANTS)} {user}" if kept else user
            # The server drops the check prefix from history, so both forms are seen; without
            # the prefix the reply carries no loss.
            messages.append(Message("user", text))
            messages.append(Message("assistant", reply, trained=kept))
            if rng.random() < 0.35:
                return
        seen = self.screen.draw(rng, state)
        while not seen.title.startswith("seen"):
            seen = self.screen.draw(rng, state)
        user, reply = self._compose(state, seen)
        prefix = _prefix(rng, SCREEN_PREFIX, _SCREEN_VARIANTS)
        messages.append(Message("user", f"{prefix} {sentence_case(user)}"))
        messages.append(Message("assistant", reply))

    def _say(
        self, state: _State, messages: list[Message], block: Block, *, rough: bool = True
    ) -> None:
        user, reply = self._compose(state, block)
        user = roughen(state.rng, user, state.bound, reply) if rough else sentence_case(user)
        if rough and messages and messages[-1].role == "assistant" and state.rng.random() < 0.015:
            extra, _ = self._compose(state, self.talk.by_title["one_word"])
            user = f"{extra}\n\n{user}"
        messages.append(Message("user", user))
        messages.append(Message("assistant", reply))

    def _compose(self, state: _State, block: Block) -> tuple[str, str]:
        rng = state.rng
        state.bound, state.act, state.in_reply = {}, None, False
        user = tidy(expand(rng.choice(block.lines["u"]), rng, lambda s: self._word(state, s)))
        if not (_PLAIN_FLAGS & block.flags.keys()) and not block.title.startswith("seen"):
            user = self._surround(state, user, block)
        state.in_reply = True
        replies = block.lines.get("r", [])
        own = block.lines.get(f"r.{state.persona.tone.name}")
        if own and (not replies or rng.random() < 0.65):
            replies = own
        reply = tidy(expand(rng.choice(replies), rng, lambda s: self._word(state, s)))
        if not reply.endswith("?") and len(reply) < 90 and rng.random() < 0.15:
            reply = f"{reply} {self._phrase(state, 'tag')}"
        key = block.flags.get("topic", "")
        if key:
            state.topic = _you(self._topic(state, key))
        elif not block.title.startswith("fu_"):
            state.topic = ""
        return user, sentence_case(tidy(reply))

    def _surround(self, state: _State, user: str, block: Block) -> str:
        """Put a lead-in before, and a further clause after, some of the user's lines.

        Questions for the name do not say it, and the lines of life.txt bring clauses of their own.
        """
        rng = state.rng
        nameless = block.title in self.identity.by_title
        statement = "topic" in block.flags and block.title not in self.life.by_title

        def other(slot: str) -> str:
            if slot == "persona":
                return "" if nameless else state.persona.name
            return self.words.draw(rng, slot)

        if statement and not user.endswith("?") and rng.random() < 0.16:
            clause = expand(rng.choice(self.extras["after"]), rng, other)
            user = f"{user.rstrip('.!')} {clause}".replace(" ,", ",")
        if len(user) > 4 and rng.random() < 0.2:
            asked = user.endswith("?") and rng.random() < 0.4
            lead = rng.choice(self.extras["ask" if asked else "before"])
            user = f"{expand(lead, rng, other)} {user}"
        user = tidy(user).lstrip(" ,.!") or user
        if user.endswith("?") and not nameless and rng.random() < 0.1:
            user = f"{user[:-1]}, {state.persona.name}?"
        return user

    def _topic(self, state: _State, key: str) -> str:
        if key.startswith("act."):
            return "" if state.act is None else self._act_word(state, key)
        article, colon, name = key.rpartition(":")
        value = state.bound.get(name, "")
        return f"{article} {value}" if colon and value else value

    def _word(self, state: _State, slot: str) -> str:
        if slot[0] == "~":
            return self._phrase(state, slot[1:])
        owner, dot, key = slot.partition(".")
        if dot and owner == "me":
            return self._about_me(state) if key == "any" else state.me[key]
        if dot and owner == "my":
            return state.my[key]
        if owner == "act":
            return self._act_word(state, slot)
        if slot == "topic":
            return state.topic
        return self._bind(state, slot)

    def _bind(self, state: _State, slot: str) -> str:
        bind = bind_name(slot)
        if bind not in state.bound or slot[0] in "=@":
            _, colon, category = slot.partition(":")
            value = self.words.draw(state.rng, category if colon else bind)
            if slot[0] == "=":
                state.my[bind] = value
            elif slot[0] == "@":
                value = state.me.setdefault(bind, value)
            state.bound[bind] = value
        return state.bound[bind]

    def _act_word(self, state: _State, slot: str) -> str:
        rng = state.rng
        if state.act is None:
            state.act = self.words.act(rng, lambda key: self._object(state, key))
        act = state.act
        match slot.partition(".")[2]:
            case "base":
                text = f"{act.base} {act.obj}"
            case "past":
                text = f"{act.past} {act.obj}"
            case "ing":
                text = f"{act.ing} {act.obj}"
            case "obj":
                text = act.obj
            case kind:
                phrase = rng.choice(self.react[act.kind][kind])
                return expand(phrase, rng, lambda key: self._word(state, key))
        return _you(text) if state.in_reply else text

    def _object(self, state: _State, key: str) -> str:
        """A word inside an action's object, bound apart from the sentence's own slots."""
        return self._bind(state, f"act_{key}:{_ACT_LISTS.get(key, key)}")

    def _phrase(self, state: _State, key: str) -> str:
        options = state.persona.tone.phrases[key]
        return expand(options[int(state.rng.random() * len(options))], state.rng, str)

    def _about_me(self, state: _State) -> str:
        stated = [key for key in _ABOUT if key in state.persona.facts]
        if not stated:
            return self._phrase(state, "tag")
        key = state.rng.choice(stated)
        return _ABOUT[key].format(state.persona.facts[key])


_PLAIN_FLAGS = frozenset({"open", "close", "plain"})
_ABOUT = {
    "city": "I live in {}.",
    "job": "I work as a {}.",
    "hobby": "I love {}.",
    "food": "My favourite food is {}.",
    "music": "I listen to a lot of {}.",
    "drink": "I like {}.",
}
_ACT_LISTS = {"food": "foodname", "thing": "thingword", "city": "place_name"}


def _you(text: str) -> str:
    return _MY_TO_YOUR.sub("your", text)


def _prefix(rng: Random, usual: str, variants: tuple[str, ...]) -> str:
    return usual if rng.random() < 0.85 else rng.choice(variants)


def _group(block: Block) -> str:
    if "noprefix" in block.flags:
        return "noprefix"
    return next((group for group in ("open", "close") if group in block.flags), "")


def _needs(block: Block) -> list[tuple[bool, str, str]]:
    needs = []
    for text in filter(None, block.flags.get("need", "").split(",")):
        match = _HAS_FACT.match(text)
        if match is None:
            raise GrammarError(f"bad need {text!r} in block {block.title}")
        needs.append((bool(match.group(1)), match.group(2), match.group(3)))
    return needs


def _phrase_lists(block: Block) -> dict[str, list[Template]]:
    lists = {}
    for key, lines in block.lines.items():
        text = "".join(
            part if isinstance(part, str) else f"<{getattr(part, 'name', '')}>" for part in lines[0]
        )
        lists[key] = [parse_template(option.strip()) for option in text.split(" | ")]
    return lists


def _check(name: str, block: Block) -> None:
    """Raise GrammarError when a reply needs a word that some form of its prompt leaves out."""
    certain = set.intersection(*(certain_slots(line) for line in block.lines["u"]))
    for key, lines in block.lines.items():
        if key == "u":
            continue
        for slot in set().union(*(all_slots(line) for line in lines)):
            fresh = slot[0] in "~@" or ":" in slot or slot == "topic" or slot[:3] in ("me.", "my.")
            if not fresh and bind_name(slot) not in certain:
                raise GrammarError(f"{name} [{block.title}] {key}: <{slot}> is not always said")


_EXPECTED_FACT = {
    "user_name_recall": "name",
    "city_recall": "city",
    "pet_recall": "pet_name",
    "fav_food_recall": "food",
    "plan_recall": "plan_day",
    "relative_recall": "rel_name",
}


def _expected(state: _State, title: str) -> str:
    """The word that a good reply to a probe contains, or an empty string."""
    if title in _EXPECTED_FACT:
        return state.my[_EXPECTED_FACT[title]]
    if title.startswith(("me_name", "me_is_not")):
        return state.persona.name
    return state.bound.get("x") or state.bound.get("dest") or state.bound.get("pet_name") or ""
