"""Measured quality of the demo chat model: probes on unseen words, held-out loss, variety."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from models.training.chat.data import Encoder, conversations, pad_id, stream_batches
from models.training.chat.dialogue import Composer, Conversation, Message
from models.training.chat.template import END, render
from models.training.chat.train import batch_loss

END_LIMIT = 60
_PROBE_SEED = 20_000
_LOSS_SEED = 77
_RECALLS = (
    ("my_name", "user_name_recall"),
    ("my_city", "city_recall"),
    ("my_pet", "pet_recall"),
    ("fav_food", "fav_food_recall"),
    ("my_plan", "plan_recall"),
    ("my_relative", "relative_recall"),
)
_NAMES = ("me_name", "me_name_long")
_ECHOES = (
    ("talk", "broke_x"),
    ("talk", "i_like_x"),
    ("talk", "want_x"),
    ("talk", "noun_statement"),
    ("talk", "travel"),
    ("talk", "pet_sick"),
    ("talk", "talk_about"),
    ("screen", "seen"),
    ("screen", "seen_place"),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A generated reply and whether it ended its turn within END_LIMIT tokens."""

    text: str
    ended: bool


class Chat:
    """The model and its tokenizer on the CPU, answering in batches."""

    def __init__(self, folder: str) -> None:
        self.model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32
        )
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.core: Tokenizer = self.tokenizer.backend_tokenizer
        self._end = self.core.token_to_id(END)

    def reply(
        self, prompts: Sequence[Sequence[Message]], *, temperature: float = 0.0, batch: int = 40
    ) -> list[Reply]:
        """One reply to each prompt; greedy at temperature 0, else top-p 0.95 and top-k 30."""
        order = sorted(range(len(prompts)), key=lambda at: len(render(prompts[at])))
        replies: dict[int, Reply] = {}
        for begin in range(0, len(order), batch):
            chosen = order[begin : begin + batch]
            texts = [render(prompts[at], generate=True) for at in chosen]
            replies.update(zip(chosen, self._generate(texts, temperature), strict=True))
        return [replies[at] for at in range(len(prompts))]

    @torch.inference_mode()
    def _generate(self, texts: list[str], temperature: float) -> list[Reply]:
        encoded = self.tokenizer(texts, return_tensors="pt", padding=True)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 30}
            if temperature
            else {"do_sample": False, "temperature": None, "top_p": None}
        )
        output = self.model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=END_LIMIT,
            **sampling,
        )
        made = output[:, encoded["input_ids"].shape[1] :].tolist()
        return [
            Reply(self.tokenizer.decode(ids, skip_special_tokens=True).strip(), self._end in ids)
            for ids in made
        ]


def name_probes(count: int) -> list[Conversation]:
    """Conversations that ask for the persona's name, a name never seen in training."""
    composer = Composer(held_out=True)
    return [
        composer.probe(Random(_PROBE_SEED + i), "identity", _NAMES[i % len(_NAMES)])
        for i in range(count)
    ]


def echo_probes(count: int) -> list[Conversation]:
    """Statements about something, mostly an invented word that was never seen in training."""
    composer = Composer(held_out=True)
    return [
        composer.probe(Random(2 * _PROBE_SEED + i), *_ECHOES[i % len(_ECHOES)])
        for i in range(count)
    ]


def recall_probes(count: int) -> list[Conversation]:
    """A fact about the user, an exchange on something else, then a question for the fact."""
    composer = Composer(held_out=True)
    probes = []
    for i in range(count):
        setup, question = _RECALLS[i % len(_RECALLS)]
        rng = Random(3 * _PROBE_SEED + i)
        probes.append(composer.probe(rng, "talk", question, setup))
    return probes


def contains(text: str, expected: str) -> bool:
    """Whether the longest word of `expected` occurs in `text`, whatever the case."""
    word = max(expected.lower().split(), key=len)
    return word in text.lower()


def hit_rate(texts: Sequence[str], probes: Sequence[Conversation]) -> float:
    """Share of texts that contain what their probe expects."""
    hits = [contains(text, probe.expected) for text, probe in zip(texts, probes, strict=True)]
    return sum(hits) / len(hits)


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct word pairs over all word pairs (Li et al. 2016)."""
    pairs = [pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)]
    return len(set(pairs)) / max(1, len(pairs))


@torch.inference_mode()
def held_out_loss(chat: Chat, count: int) -> float:
    """Cross-entropy in nats a reply token on fresh conversations with held-out words."""
    encoder = Encoder(chat.core)
    made = conversations(Composer(held_out=True), _LOSS_SEED, 0, count)
    total, tokens = 0.0, 0
    shards = (encoder.encode([conversation]) for conversation in made)
    for batch in stream_batches(shards, 1, pad_id(chat.core)):
        if batch.mask.any():
            loss, number = batch_loss(chat.model, batch, torch.device("cpu"))
            total += loss.item() * number
            tokens += number
    return total / tokens


def measure(chat: Chat, count: int) -> dict[str, float]:
    """All scores; `count` probes of each kind."""
    scores: dict[str, float] = {"probes_each": count}
    ended: list[bool] = []
    sampled: list[str] = []
    torch.manual_seed(0)
    for kind, probes in (
        ("name", name_probes(count)),
        ("echo", echo_probes(count)),
        ("recall", recall_probes(count)),
    ):
        prompts = [probe.messages[:-1] for probe in probes]
        greedy = chat.reply(prompts)
        warm = chat.reply(prompts[: count // 2], temperature=0.8)
        scores[f"{kind}_greedy"] = hit_rate([reply.text for reply in greedy], probes)
        scores[f"{kind}_sampled"] = hit_rate([r.text for r in warm], probes[: count // 2])
        references = [probe.messages[-1].content for probe in probes]
        scores[f"{kind}_reference"] = hit_rate(references, probes)
        ended += [reply.ended for reply in greedy + warm]
        sampled += [reply.text for reply in warm]
    scores["end_of_turn"] = sum(ended) / len(ended)
    scores["distinct_2_sampled"] = distinct_2(sampled)
    scores["held_out_loss"] = held_out_loss(chat, 200)
    scores["held_out_perplexity"] = math.exp(scores["held_out_loss"])
    return {key: round(value, 4) for key, value in scores.items()}
