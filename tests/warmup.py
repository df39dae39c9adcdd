"""Send one turn and show what comes back.

    TEXT_API_KEY=... python tests/warmup.py
    TEXT_API_KEY=... python tests/warmup.py "Can you look at my screen?" --personality playful

Exit code 0 when the turn was served, 1 when it was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from pathlib import Path

from rich.console import Console
from rich.markup import escape

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.conversation import ServerRefusedError, TurnRecord, connect
from yap.protocol import AnyServerFrame, Token, ToolCall

PERSONALITIES = {
    "friendly": ["warm", "kind"],
    "playful": ["fun", "cheeky"],
    "calm": ["gentle", "relaxed"],
}
PERSONA = (
    "You are {name}, a {personality} companion. You talk like a good friend: short, warm answers, "
    "and you listen to what the user says."
)
NAMES = {"female": "Anna", "male": "Marc"}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("message", nargs="*", help="what to say (default: a greeting)")
    parser.add_argument(
        "--server", default=os.environ.get("SERVER_WS_URL", "127.0.0.1:8000"), help="host:port"
    )
    parser.add_argument("--api-key", default=os.environ.get("TEXT_API_KEY", ""))
    parser.add_argument("--gender", choices=sorted(NAMES), default="female")
    parser.add_argument("--personality", default="friendly")
    parser.add_argument("--timeout", type=float, default=60.0, help="longest silence, seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser.parse_args(argv)


async def run(arguments: argparse.Namespace, console: Console) -> TurnRecord:
    """One turn, shown as it comes."""
    personality = arguments.personality.lower()
    message = " ".join(arguments.message) or "Hi there! What's your name?"
    start = {
        "session_id": f"warmup-{uuid.uuid4().hex}",  # the server would remember an older one
        "gender": arguments.gender,
        "personality": personality,
        "personalities": PERSONALITIES | {personality: PERSONALITIES.get(personality, [])},
        "chat_prompt": PERSONA.format(name=NAMES[arguments.gender], personality=personality),
        "user_utterance": message,
    }

    def show(frame: AnyServerFrame) -> None:
        if isinstance(frame, ToolCall):
            console.print(f"[bold]screenshot?[/] {frame.status}")
            console.print("[bold]reply[/]       ", end="")
        elif isinstance(frame, Token):
            console.print(escape(frame.text), end="", soft_wrap=True)

    console.print(f"[bold]you[/]         {escape(message)}")
    async with connect(arguments.server, arguments.api_key, arguments.timeout) as conversation:
        record = await conversation.turn(start, show)
    console.print()
    return record


def report(record: TurnRecord) -> dict[str, object]:
    """The turn as plain data."""
    done = record.done
    return {
        "screenshot": record.toolcall.status if record.toolcall else None,
        "reply": "".join(record.tokens),
        "finish_reason": done.finish_reason if done else None,
        "usage": done.usage.model_dump() if done and done.usage else None,
        "toolcall_ms": record.toolcall_ms,
        "ttft_ms": record.ttft_ms,
        "total_ms": record.total_ms,
    }


def main() -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments()
    console = Console(quiet=arguments.json, highlight=False)
    try:
        record = asyncio.run(run(arguments, console))
    except ServerRefusedError as error:
        print(f"The turn was not served: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(report(record)))
        return 0
    console.print(f"[dim]{_summary(record)}[/]", soft_wrap=True)
    return 0


def _summary(record: TurnRecord) -> str:
    times = (
        ("decision", record.toolcall_ms),
        ("first token", record.ttft_ms),
        ("all", record.total_ms),
    )
    parts = [f"{label} {ms:.0f} ms" for label, ms in times if ms is not None]
    if record.done is not None and record.done.usage is not None:
        usage = record.done.usage
        parts.append(
            f"{usage.prompt_tokens} prompt tokens ({usage.cached_tokens} cached), "
            f"{usage.completion_tokens} in the reply"
        )
    return " · ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
