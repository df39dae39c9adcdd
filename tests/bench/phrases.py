"""Measures what banned phrases cost, with the demo chat model in this process.

    python -m tests.bench.phrases [--replies 30] [--json figures.json]

Greedy replies are made as they are, then with phrases banned that none of them has, then with words
banned that the model has just said. A rewind is timed from the piece at which the phrase was found
to the next that the engine made, and to the one after that, behind which it goes on as before.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from prometheus_client import CollectorRegistry

from tests.bench.conditions import conditions
from tests.bench.figures import Times, markdown_table
from tests.bench.texts import small_talk
from tests.e2e.harness import ROOT
from yap.chat.engine import ChatEngine
from yap.metrics import Metrics
from yap.persona_library import PersonaLibrary
from yap.protocol import SamplingOptions
from yap.settings import load_settings

PERSONA = "mira"
NEVER_SAID = ("a testament to", "as an ai", "qqq", "language model")
_HEADER = ("what", "times", "ms, p50 / p90 / p99")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, and when its pieces came (seconds), with the rewinds that were made by then."""

    text: str
    begun: float
    came: list[float]
    rewinds: list[int]

    def gaps_ms(self) -> list[float]:
        """Between pieces."""
        pairs = zip(self.came, self.came[1:], strict=False)
        return [1000 * (later - earlier) for earlier, later in pairs]


@dataclass(slots=True)
class PhraseFigures:
    """Milliseconds."""

    plain_gaps: list[float] = field(default_factory=list)
    guarded_gaps: list[float] = field(default_factory=list)
    to_next: list[float] = field(default_factory=list)
    to_the_one_after: list[float] = field(default_factory=list)
    most_per_reply: int = 0


class Bench:
    """An engine and what is counted of it."""

    def __init__(self) -> None:
        self._metrics = Metrics(CollectorRegistry())
        settings = load_settings({"TEXT_API_KEY": "bench-key", "CHAT_WARM_UP": "0"})
        self.engine = ChatEngine(settings, metrics=self._metrics)
        personas = PersonaLibrary(ROOT / "prompts" / "personas")
        personas.load()
        persona = personas.get(PERSONA)
        assert persona is not None
        self._persona = persona.prompt

    async def reply(self, line: str, banned: Sequence[str] = ()) -> Reply:
        """One greedy reply."""
        prompt = await self.engine.prepare(self._persona, [], line)
        options = SamplingOptions(temperature=0, banned_strings=tuple(banned))
        before = self._rewinds()
        made = Reply("", time.perf_counter(), [], [])
        pieces = []
        async with aclosing(self.engine.stream(prompt, options, "bench")) as stream:
            async for piece in stream:
                made.came.append(time.perf_counter())
                made.rewinds.append(self._rewinds() - before)
                pieces.append(piece.text)
        return dataclasses.replace(made, text="".join(pieces))

    def _rewinds(self) -> int:
        (family,) = self._metrics.phrase_rewinds.collect()
        return int(next(s.value for s in family.samples if s.name.endswith("_total")))


async def measure(replies: int) -> PhraseFigures:
    """Make every reply in the three ways, one after the other."""
    bench = Bench()
    figures = PhraseFigures()
    await bench.engine.start()
    try:
        for line in small_talk()[:replies]:
            await bench.reply(line)  # reads the prompt
            plain = await bench.reply(line)
            guarded = await bench.reply(line, NEVER_SAID)
            assert guarded.text == plain.text
            figures.plain_gaps += plain.gaps_ms()
            figures.guarded_gaps += guarded.gaps_ms()
            _note(figures, await bench.reply(line, _phrases_of(plain.text)))
    finally:
        await bench.engine.close()
    return figures


def _phrases_of(text: str) -> list[str]:
    """Two words from the middle of each sentence, which end in two different tokens."""
    words = text.split()
    return [" ".join(words[i : i + 2]) for i in range(2, len(words) - 1, 5)]


def _note(figures: PhraseFigures, reply: Reply) -> None:
    figures.most_per_reply = max(figures.most_per_reply, *reply.rewinds)
    for i in range(1, len(reply.came) - 2):
        first, after, later = reply.rewinds[i - 1], reply.rewinds[i], reply.rewinds[i + 2]
        if first < after == later:  # one rewind, and none in what came of it
            figures.to_next.append(1000 * (reply.came[i + 1] - reply.came[i]))
            figures.to_the_one_after.append(1000 * (reply.came[i + 2] - reply.came[i]))


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replies", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print("\n".join(f"{name}: {value}" for name, value in conditions().items()), flush=True)
    figures = asyncio.run(measure(arguments.replies))
    rows = [
        ("between tokens, nothing banned", figures.plain_gaps),
        ("between tokens, phrases banned that do not come", figures.guarded_gaps),
        ("rewind: until something else is there", figures.to_next),
        ("rewind: until the token behind it", figures.to_the_one_after),
    ]
    table = [(what, len(times), _ms(Times.of(times))) for what, times in rows if times]
    print("\n" + markdown_table(_HEADER, table))
    if figures.to_the_one_after:
        added = median(figures.to_the_one_after) - 2 * median(figures.plain_gaps)
        print(
            f"\nA rewind adds {added:.1f} ms at the median; "
            f"at most {figures.most_per_reply} in a reply."
        )
    if arguments.json is not None:
        found = {"conditions": conditions(), "phrases": dataclasses.asdict(figures)}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _ms(times: Times) -> str:
    return f"{times.p50:.1f} / {times.p90:.1f} / {times.p99:.1f}"


if __name__ == "__main__":
    main()
