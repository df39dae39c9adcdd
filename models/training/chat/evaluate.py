"""Evaluate the demo chat model and write its card.

``python -m models.training.chat.evaluate --model models/yap-chat-demo`` writes
``evaluation.json`` and ``README.md`` into the model's folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from models.training.chat.card import render_card
from models.training.chat.dialogue import Message
from models.training.chat.metrics import Chat, measure

HELD_OUT = Path(__file__).parent / "heldout.jsonl"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A hand-written prompt; a good reply has one of `expect`, where that is not empty."""

    id: str
    messages: list[Message]
    expect: list[str]


def read_held_out(path: Path = HELD_OUT) -> list[HeldOut]:
    """Read the hand-written prompts."""
    prompts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        messages = [Message(m["role"], m["content"]) for m in record["messages"]]
        prompts.append(HeldOut(record["id"], messages, record["expect"]))
    return prompts


def read_training(folder: Path) -> dict[str, object]:
    """The first and last record of the training log, merged; empty without a log."""
    path = folder / "training.jsonl"
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    merged: dict[str, object] = {**json.loads(lines[0]), **json.loads(lines[-1])}
    return merged


def sample(chat: Chat, prompts: list[HeldOut]) -> list[dict[str, object]]:
    """Greedy replies to the hand-written prompts, with a verdict where one can be computed."""
    replies = chat.reply([prompt.messages for prompt in prompts])
    samples: list[dict[str, object]] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        text = reply.text.lower()
        passed = any(word.lower() in text for word in prompt.expect) if prompt.expect else None
        system = next((m.content for m in prompt.messages if m.role == "system"), "")
        samples.append(
            {
                "id": prompt.id,
                "system": system,
                "user": prompt.messages[-1].content,
                "reply": reply.text,
                "passed": passed,
                "ended": reply.ended,
            }
        )
    return samples


def main() -> None:
    """Run the evaluation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/yap-chat-demo"))
    parser.add_argument("--probes", type=int, default=240, help="probes of each kind")
    args = parser.parse_args()
    begun = time.monotonic()
    chat = Chat(str(args.model))
    samples = sample(chat, read_held_out())
    judged = [entry["passed"] for entry in samples if entry["passed"] is not None]
    scores = measure(chat, args.probes)
    scores["hand_written_passed"] = round(sum(map(bool, judged)) / len(judged), 4)
    result: dict[str, object] = {
        "scores": scores,
        "training": read_training(args.model),
        "evaluated_on": f"CPU, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "samples": samples,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (args.model / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    card = render_card(scores, result, samples)
    (args.model / "README.md").write_text(card, encoding="utf-8")
    print(json.dumps(scores, indent=1))
    for entry in samples:
        print(f"{entry['id']:10} {entry['passed']!s:5} {entry['user']!s:.60} -> {entry['reply']}")
    print(f"evaluated in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
