"""Tells how the chat model would be served, and why, without loading it.

    python -m yap.chat.tuning [MODEL] [--json] [--memory-gib N --capability 9.0 --gpus N | --cpu]

MODEL is a folder or a Hub id, by default CHAT_MODEL; all other settings come from the environment.
Without the options about hardware it is the one that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Final

from yap.chat.tuning import hardware, model_facts
from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.errors import StartupError
from yap.settings import Settings, SettingsError, load_settings

_WIDTH: Final = 100
_NAME, _VALUE = 28, 14


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan; 0, or 1 with one sentence where there is none."""
    parser = _parser()
    options = parser.parse_args(argv)
    if (options.memory_gib is None) != (options.capability is None):
        parser.error("--memory-gib and --capability belong together")
    if options.cpu and options.memory_gib is not None:
        parser.error("give --cpu, or a GPU, not both")
    # vLLM logs to standard output, and this is no start.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        plan = _plan(_settings(options.model), options)
    except (SettingsError, StartupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(plan, indent=2) + "\n" if options.json else _table(plan))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m yap.chat.tuning",
        description="How the chat model would be served, and why, without loading it.",
    )
    parser.add_argument("model", nargs="?", help="a folder or a Hub id; default CHAT_MODEL")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--memory-gib", type=_positive, help="memory of each GPU")
    parser.add_argument("--capability", type=_capability, help="its compute capability, as in 9.0")
    parser.add_argument("--gpus", type=int, default=1, choices=range(1, 1025), metavar="N")
    parser.add_argument("--cpu", action="store_true", help="as if there were no GPU")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 100_000:
        raise ValueError(text)
    return number


def _capability(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d{1,2}\.\d", text):
        raise ValueError(text)
    major, minor = text.split(".")
    return int(major), int(minor)


def _settings(model: str | None) -> Settings:
    environ = {**os.environ, "CHAT_MODEL": model} if model else os.environ
    return load_settings(environ, serving=False)


def _hardware(options: argparse.Namespace) -> Hardware:
    if options.cpu:
        return hardware.only_cpu()
    if options.memory_gib is None:
        return hardware.read()
    return hardware.imagined(options.memory_gib, options.capability, options.gpus)


def _plan(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    from yap.chat.tuning import engine_args, planning

    if settings.chat_engine_args:
        engine_args.check_names(settings.chat_engine_args)
    facts = model_facts.read_for(settings)
    there = _hardware(options)
    plan = planning.decide(settings, there, facts)
    memory = plan.memory
    return {
        "model": facts.model,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "hardware": str(there),
        "engine": _listed(plan.decisions),
        "environment": _listed(plan.environment),
        "notes": _listed(plan.notes),
        "memory": {
            "summary": str(memory),
            "total_bytes": memory.total,
            "budget_bytes": memory.budget,
            "weights_bytes": memory.weights,
            "working_bytes": memory.working,
            "kv_cache_bytes": memory.kv_cache,
            "kv_bytes_per_token": round(memory.token, 1),
            "kv_cache_tokens": memory.tokens,
            "full_context_sessions": round(memory.sessions, 2),
        },
    }


def _listed(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    return [{"name": one.name, "value": one.value, "why": one.why} for one in decisions]


def _table(plan: dict[str, Any]) -> str:
    count = plan["parameters"]
    size = f", about {count:.3g} parameters" if count else ""
    lines = [f"{plan['model']}", f"  {plan['architecture']}{size}", f"  on {plan['hardware']}"]
    for title, key in (
        ("Engine", "engine"),
        ("Environment", "environment"),
        ("Notes", "notes"),
    ):
        if plan[key]:
            lines += ["", title, *(line for one in plan[key] for line in _row(one))]
    lines += ["", "Memory", *_wrapped(plan["memory"]["summary"], "  ")]
    return "\n".join(lines) + "\n"


def _row(one: dict[str, Any]) -> list[str]:
    value = one["value"] if isinstance(one["value"], str) else json.dumps(one["value"])
    head = f"  {one['name']:<{_NAME}} {value:<{_VALUE}}"
    indent = " " * (_NAME + _VALUE + 4)
    if len(head) > len(indent):  # a long value has a line of its own
        return [head.rstrip(), *_wrapped(one["why"], indent)]
    first, *rest = _wrapped(one["why"], indent)
    return [f"{head} {first.strip()}", *rest]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


if __name__ == "__main__":
    sys.exit(main())
