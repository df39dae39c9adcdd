"""The command line of the load generator."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.load.backends import KINDS
from tests.load.plot import can_draw
from tests.load.summary import OBJECTIVES


def read_arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; what does not go together ends the program with code 2."""
    made = _parser(description)
    found = made.parse_args(argv)
    if found.backend == "openai" and not (found.url and found.model):
        made.error("--backend openai needs --url and --model")
    if found.backend != "openai" and (found.ignore_eos or found.extra_body):
        made.error("--ignore-eos and --extra-body are for --backend openai; see --ban-token")
    if found.overlay and found.plot is None:
        made.error("--overlay needs --plot")
    if found.plot is not None and not can_draw():
        made.error("--plot needs matplotlib: pip install matplotlib")
    if found.prompt_tokens is not None and (found.persona_file or found.no_chat_prompt):
        made.error("--prompt-tokens makes personas up; it goes with no other persona")
    return found


def _parser(description: str) -> argparse.ArgumentParser:
    """Each part has its own group in --help."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_server(made)
    _add_load(made)
    _add_sessions(made)
    _add_sampling(made)
    _add_report(made)
    return made


def _add_server(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the server")
    group.add_argument(
        "--backend",
        choices=KINDS,
        default="ws",
        help="this server's WebSocket or HTTP, or any OpenAI-compatible server (default: ws)",
    )
    server = os.environ.get("SERVER_WS_URL", "127.0.0.1:8000")
    group.add_argument("--server", default=server, help="host:port or URL (SERVER_WS_URL)")
    group.add_argument("--url", help="the same; for openai the base URL")
    group.add_argument("--model", default="", help="for openai: the model's name")
    group.add_argument("--api-key", help="default: TEXT_API_KEY, or OPENAI_API_KEY for openai")
    group.add_argument(
        "--extra-body",
        type=_json_object,
        default={},
        metavar="JSON",
        help="for openai: what else goes into a request",
    )


def _add_load(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the load")
    group.add_argument(
        "-n", "--requests", type=_count, default=16, help="turns under each load (default: 16)"
    )
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "-c",
        "--clients",
        "--concurrency",
        type=_count,
        nargs="+",
        default=[8],
        help="closed loop: so many at a time; several are measured in turn (default: 8)",
    )
    kind.add_argument(
        "--rate",
        type=_above_zero,
        nargs="+",
        help="open loop: sessions a second, whether the server keeps up or not",
    )
    group.add_argument(
        "--burstiness",
        type=_above_zero,
        default=1.0,
        help="of arrivals: 1 is Poisson, less comes in bursts, more is more even (default: 1)",
    )
    group.add_argument(
        "--warm-up", type=_whole, help="turns before the measurement (default: one a client, or 4)"
    )
    group.add_argument(
        "--duration",
        type=_at_least_zero,
        default=0.0,
        help="seconds after which no turn begins (default: no limit)",
    )
    group.add_argument(
        "--timeout", type=_above_zero, default=120.0, help="seconds for a turn (default: 120)"
    )
    group.add_argument(
        "--max-connections", type=_count, default=256, help="of an open loop (default: 256)"
    )
    group.add_argument(
        "--turns-per-connection",
        type=_whole,
        default=20,
        help="over a WebSocket, then a new one; 0 is no limit (default: 20, as the server limits "
        "messages: WS_MAX_MESSAGES_PER_WINDOW)",
    )
    group.add_argument("--seed", type=int, default=0, help="of arrivals, pauses and barge-ins")


def _add_sessions(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the sessions")
    group.add_argument("--turns", type=_count, default=1, help="of each session (default: 1)")
    group.add_argument(
        "--double-ttfb", action="store_true", help="two turns in each session, at least"
    )
    group.add_argument(
        "--think-time",
        type=_at_least_zero,
        default=0.0,
        help="mean seconds between a reply and the next turn, exponential (default: 0)",
    )
    group.add_argument(
        "--cancel-rate", type=_share, default=0.0, help="share of turns that are interrupted"
    )
    group.add_argument(
        "--cancel-delay",
        type=_delay,
        default=(0.2, 0.2),
        metavar="MS|MIN-MAX",
        help="milliseconds from the first token to the interruption (default: 200)",
    )
    group.add_argument(
        "--personas",
        type=_whole,
        default=1,
        help="distinct ones; 0 gives each session its own (default: 1, shared)",
    )
    group.add_argument("--persona-file", type=Path, help="a persona's text, in place of made-up")
    group.add_argument("--no-chat-prompt", action="store_true", help="send no persona")
    group.add_argument("--gender", choices=("female", "male"), default="female")
    group.add_argument("--personality", default="friendly")
    group.add_argument(
        "--prompt-tokens",
        type=_count,
        help="length of a first turn's prompt, found by asking the server a few times",
    )
    group.add_argument("--output-tokens", type=_count, help="length of a reply; see --ban-token")


def _add_sampling(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("sampling (the server's defaults where not given)")
    for name in ("temperature", "top-p", "min-p"):
        group.add_argument(f"--{name}", type=float)
    group.add_argument("--top-k", type=int)
    for name in ("repetition", "presence", "frequency"):
        group.add_argument(f"--{name}-penalty", type=float)
    group.add_argument(
        "--ban-token",
        type=_whole,
        nargs="+",
        default=[],
        metavar="ID",
        help="token ids that must not come, such as the model's end token",
    )
    group.add_argument("--ignore-eos", action="store_true", help="for vLLM's server")
    group.add_argument("--no-sanitize-output", action="store_true")


def _add_report(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("the report")
    group.add_argument(
        "--goodput",
        type=_objective,
        nargs="+",
        default=[],
        metavar="NAME:MS",
        help=f"turns that met all of these: {', '.join(OBJECTIVES)}",
    )
    group.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="figures as JSON (default: printed)"
    )
    group.add_argument("--csv", type=Path, metavar="FILE", help="a line for each turn")
    group.add_argument("--plot", type=Path, metavar="FILE", help="latency against load")
    group.add_argument(
        "--overlay",
        type=_document,
        nargs="+",
        default=[],
        metavar="JSON",
        help="earlier --json files that the picture holds too",
    )
    group.add_argument("--label", help="a name in the picture (default: model or backend)")
    group.add_argument(
        "--watch-pid", type=_count, nargs="+", default=[], help="processes whose CPU is told"
    )
    group.add_argument(
        "--realtime", action="store_true", help="run before everything else, where permitted"
    )
    group.add_argument(
        "--max-failures",
        type=_share,
        default=0.0,
        help="share of turns that may fail, 0 to 1 (default: 0)",
    )


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 at least")
    return number


def _whole(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return number


def _above_zero(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _at_least_zero(text: str) -> float:
    if not 0 <= (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must not be below 0")
    return number


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number


def _delay(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        found = float(low) / 1000, float(high or low) / 1000
    except ValueError:
        found = (-1.0, -1.0)
    if not 0 <= found[0] <= found[1]:
        raise argparse.ArgumentTypeError("must be milliseconds, like 200 or 100-400")
    return found


def _objective(text: str) -> tuple[str, float]:
    name, _, most = text.partition(":")
    try:
        if name in OBJECTIVES:
            return name, float(most)
    except ValueError:
        pass
    names = ", ".join(OBJECTIVES)
    raise argparse.ArgumentTypeError(f"must be like ttft:200, with one of {names}")


def _document(text: str) -> dict[str, Any]:
    try:
        found = _json_object(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be read ({error.strerror})") from None
    if not isinstance(found.get("loads"), list):
        raise argparse.ArgumentTypeError("must be a file that --json has written")
    return found


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return found
