"""Switch the persona in the middle of a conversation and ask who is there."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.arguments import (
    Setup,
    add_prompts,
    count,
    endpoint,
    non_negative,
    parser,
    setup,
)
from tests.client.checks import has_chat_model
from tests.client.conversation import Conversation, TurnRecord, connect_to
from tests.client.errors import ExitCode
from tests.client.fixtures import PERSONAS
from tests.client.personas import Persona, Wardrobe
from tests.client.run import run
from tests.client.show import Output, TurnView, as_data, milliseconds
from yap.protocol import ChatPromptAck

EXAMPLES = """\
  TEXT_API_KEY=... python tests/personality.py
  python tests/personality.py --switches 2 --delay 0
  python tests/personality.py --personas prompts/personas --json
"""
ASKS = ("What is your name?", "Tell me one small thing about yourself, please.")
TOO_MANY = 429
# A window of the server's limit on persona changes; nobody waits for longer.
LONGEST_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Visit:
    """One persona's turn at the conversation. `ack` is None for the first, who began it."""

    persona: Persona
    ack: ChatPromptAck | None
    records: list[TurnRecord]

    @property
    def named(self) -> bool:
        """Whether it said its name."""
        return any(self.persona.title.lower() in r.text.lower() for r in self.records)

    def problems(self) -> list[str]:
        """What is wrong, in sentences."""
        found = []
        if self.ack is not None and not self.ack.ok:
            found.append(f"The switch to {self.persona.title} was refused: {self.ack.message}")
        if not all(record.text.strip() for record in self.records):
            found.append(f"{self.persona.title} gave an empty reply.")
        return found


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.add_argument("--switches", type=count(1, 10), default=4, help="1 to 10 (default: 4)")
    made.add_argument(
        "--delay",
        type=non_negative,
        default=10.0,
        metavar="S",
        help="between switches; the server allows a few a minute (default: %(default)s)",
    )
    made.add_argument(
        "--personas",
        type=_personas,
        default=str(PERSONAS),
        metavar="FOLDER",
        help="whose files are switched through (default: those of the tests)",
    )
    made.add_argument(
        "--min-named",
        type=count(0),
        default=0,
        metavar="N",
        help="how many personas must say their name; small models take over names that were said "
        "before (default: %(default)s)",
    )
    add_prompts(made)
    return made.parse_args(argv)


def _personas(folder: str) -> tuple[Persona, ...]:
    wardrobe = Wardrobe([Path(folder)])
    wardrobe.refresh()
    if wardrobe.problems:
        raise argparse.ArgumentTypeError(next(iter(wardrobe.problems.values())))
    if len(wardrobe.personas) < 2:
        raise argparse.ArgumentTypeError(f"{folder} holds fewer than two personas")
    return tuple(wardrobe.personas.values())


async def switch_through(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """The first persona, then so many switches."""
    personas: tuple[Persona, ...] = arguments.personas
    order = list(islice(cycle(personas), arguments.switches + 1))
    ready = setup(arguments, "personality")
    ready = Setup(order[0], ready.mode, ready.sampling, personas[1:], ready.session_id)
    visits: list[Visit] = []
    async with connect_to(endpoint(arguments)) as conversation:
        for persona in order:
            ack = None
            if visits:
                await asyncio.sleep(arguments.delay)
                ack = await _switch(conversation, persona, output)
                ready = ready.with_persona(persona)
            records = [await _ask(conversation, ready, ask, output) for ask in ASKS]
            if not has_chat_model(records[0]):
                print("The server has no chat model, so no persona to switch.", file=sys.stderr)
                output.result({"ok": False, "exit_code": int(ExitCode.NOT_DEPLOYED)})
                return ExitCode.NOT_DEPLOYED
            visits.append(Visit(persona, ack, records))
    return _conclude(visits, arguments.min_named, output)


async def _switch(conversation: Conversation, persona: Persona, output: Output) -> ChatPromptAck:
    """Ask for the persona; when that is too often, once more after the time that is told."""
    ack = await conversation.change_persona(persona.gender, persona.personality, persona.prompt)
    if ack.code == TOO_MANY and ack.retry_in is not None and ack.retry_in <= LONGEST_WAIT_S:
        output.line(f"Too many switches; waiting {ack.retry_in} s as the server asks.", "dim")
        await asyncio.sleep(ack.retry_in)
        ack = await conversation.change_persona(persona.gender, persona.personality, persona.prompt)
    output.labelled("persona", f"{persona.title}, {persona.personality}: {ack.code} {ack.message}")
    return ack


async def _ask(
    conversation: Conversation, ready: Setup, utterance: str, output: Output
) -> TurnRecord:
    output.labelled("you", utterance)
    view = TurnView(output, ready.persona.title)
    record = await conversation.turn(ready.start(utterance), view.show)
    view.end()
    return record


def _conclude(visits: list[Visit], min_named: int, output: Output) -> ExitCode:
    problems = [problem for visit in visits for problem in visit.problems()]
    named = sum(visit.named for visit in visits)
    if named < min_named:
        problems.append(f"{named} of {len(visits)} said their name; {min_named} must.")
    rows = [
        [
            visit.persona.title,
            visit.persona.personality,
            str(visit.ack.code) if visit.ack else "-",
            "yes" if visit.named else "no",
            *(milliseconds(record.ttft_ms) for record in visit.records),
        ]
        for visit in visits
    ]
    output.line()
    output.table(
        ["persona", "personality", "switch", "name said", "first token", "second reply"], rows
    )
    for problem in problems:
        print(problem, file=sys.stderr)
    output.result(
        {
            "ok": not problems,
            "problems": problems,
            "named": named,
            "visits": [_data(visit) for visit in visits],
        }
    )
    return ExitCode.CHECK_FAILED if problems else ExitCode.OK


def _data(visit: Visit) -> dict[str, Any]:
    return {
        "persona": visit.persona.name,
        "code": visit.ack.code if visit.ack else None,
        "named": visit.named,
        "turns": [as_data(record) for record in visit.records],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return run(lambda: switch_through(arguments, output), output)


if __name__ == "__main__":
    sys.exit(main())
