"""Renders the model card from the training log and the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FRONT = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- small-talk
- persona
- demo
---

# yap-chat-demo

A Llama-architecture chat model of {parameters} parameters ({megabytes} MB in bfloat16) that makes
coherent small talk in the voice of a persona. The service runs on it when no other chat model is
named, so that the whole path from microphone text to streamed reply can be seen on a laptop CPU.
It is a demonstration, not an assistant: it knows no facts, cannot calculate, write code or give
advice that should be followed.

## What it does

- Keeps the name, tone and stated facts of the persona in the system prompt.
- Reacts to the words that the user just said, also to words it never met, and recalls what the
  user told it earlier (name, city, pet, plans, favourites).
- Says that it will look when a message begins with `MUST CHECK SCREEN:`, and reacts to the
  description that follows `ON THE SCREEN NOW:`.
- Picks up after a reply of its own that was cut off.

## Model and format

Six layers, width 256, 4 query and 2 key/value heads of 64, feed-forward 576, tied embeddings, a
byte-level BPE vocabulary of 4,096 tokens. ChatML template; `<|im_end|>` ends a turn. Loads with
`AutoTokenizer` and `AutoModelForCausalLM`, and with vLLM, without remote code. Positions up to
8,192 are configured; training rows reach 4,096 tokens, most stay under 1,024.

## Data

Every conversation is composed by the grammar in `models/training/chat/` (word lists, intents,
ten tones, dozens of system prompt forms, invented names and nouns); no other text was used. One
name in eight, and one invented word in eight, is held out of training. The samples below come
from prompts written by hand, not by the grammar.

## Training

| | |
|---|---|
| date | {date} |
| hardware | {hardware} |
| steps, tokens a step | {steps}, {batch_tokens} |
| tokens seen (with padding) | {tokens} |
| reply tokens with loss | {target_tokens} |
| wall clock of the loop | {seconds} s |
| optimizer | AdamW, peak learning rate {lr}, warm-up then cosine |
| software | Python {python}, torch {torch}, transformers {transformers} |
| seed | {seed} |

Command: `python -m models.training.chat.train --out models/yap-chat-demo --steps {step_count}
--seed {seed}`. Tokenizer, data, their order and the initial weights are the same for the same seed
and library versions, whatever the number of worker processes. The arithmetic on a GPU (bfloat16,
atomic additions) is not bit-deterministic, so a second run gives a model of the same quality,
not the same bytes.

## Measured quality
"""

_ROWS = (
    ("Persona name given when asked, unseen names", "name"),
    ("Content word echoed, mostly unseen words", "echo"),
    ("Fact about the user recalled after another exchange", "recall"),
)

_LIMITS = """\

"Reference" is the share of the grammar's own replies that contain the word: what perfect
imitation scores. Greedy is temperature 0; sampled is temperature 0.8, top-p 0.95, top-k 30.

## Intended use and limits

For trying the service, for tests and for demonstrations, in English. It has no world knowledge;
it answers questions of fact, maths, code, medicine and politics by saying that it is a small demo
model. Far from small talk its replies become generic. It can contradict itself and repeat
itself in long conversations. Do not rely on anything it says.

## Samples

Greedy replies to the hand-written prompts of `models/training/chat/heldout.jsonl`, all of them,
good and bad. Check: whether the reply has one of the words listed for the prompt. No prompt is
in the training data; but the grammar was widened after an earlier model had failed on some of
them, for the kinds of failure that they showed, so the share that passes is an optimistic one.

| prompt | persona | last user message | reply | check |
|---|---|---|---|---|
"""


def render_card(
    scores: Mapping[str, float],
    result: Mapping[str, object],
    samples: Sequence[Mapping[str, object]],
) -> str:
    """The model card as Markdown with Hugging Face front matter."""
    training = result["training"]
    if not isinstance(training, dict) or not training:
        raise ValueError("the model folder has no training.jsonl; train before evaluating")
    parameters = int(training["parameters"])
    facts = {key: _number(value) for key, value in training.items()}
    facts["step_count"] = str(training["steps"])  # for a command line: without separators
    facts["parameters"] = f"{parameters / 1e6:.1f} million"
    facts["megabytes"] = f"{2 * parameters / 1e6:.1f}"
    return _FRONT.format(**facts) + _table(scores, result) + _LIMITS + _samples(samples)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _table(scores: Mapping[str, float], result: Mapping[str, object]) -> str:
    count = int(scores["probes_each"])
    lines = [f"| {count} probes each | greedy | sampled | reference |", "|---|---|---|---|"]
    for label, key in _ROWS:
        cells = (scores[f"{key}_{kind}"] for kind in ("greedy", "sampled", "reference"))
        lines.append(f"| {label} | " + " | ".join(f"{cell:.1%}" for cell in cells) + " |")
    lines += [
        "",
        "| | |",
        "|---|---|",
        f"| Turn ended within 60 tokens | {scores['end_of_turn']:.1%} |",
        f"| Hand-written prompts whose check passes | {scores['hand_written_passed']:.1%} |",
        f"| Held-out loss, nats a reply token | {scores['held_out_loss']:.3f} |",
        f"| Held-out perplexity | {scores['held_out_perplexity']:.2f} |",
        f"| Distinct-2 of sampled replies | {scores['distinct_2_sampled']:.3f} |",
        f"| Evaluated on | {result['evaluated_on']} |",
    ]
    return "\n" + "\n".join(lines) + "\n"


def _samples(samples: Sequence[Mapping[str, object]]) -> str:
    lines = []
    for entry in samples:
        check = {True: "yes", False: "no", None: ""}[_verdict(entry["passed"])]
        cells = [_cell(entry[key]) for key in ("id", "system", "user", "reply")]
        lines.append("| " + " | ".join([*cells, check]) + " |")
    return "\n".join(lines) + "\n"


def _verdict(value: object) -> bool | None:
    return None if value is None else bool(value)


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 120 else text[:117] + "..."
