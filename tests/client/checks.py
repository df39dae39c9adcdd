"""What a turn must hold."""

from __future__ import annotations

from tests.client.conversation import TurnRecord


def missing_parts(record: TurnRecord, mode: str) -> list[str]:
    """What a turn lacks, in sentences.

    Args:
        mode: `both`, `chat` or `tool` demand what that deploy mode gives; `auto` demands only
            that there is a decision or a reply.
    """
    problems = []
    decided, replied = record.toolcall is not None, bool(record.text.strip())
    if mode in ("both", "tool") and not decided:
        problems.append("There was no toolcall: the server has no classifier.")
    if not replied and (mode in ("both", "chat") or has_chat_model(record)):
        problems.append("The reply is empty.")
    elif mode == "auto" and not (decided or replied):
        problems.append("There was neither a decision nor a reply.")
    if record.final is None:
        problems.append("There was no final frame.")
    elif record.final.normalized_text != record.text:
        problems.append("The final frame is not what the tokens said.")
    return problems


def has_chat_model(record: TurnRecord) -> bool:
    """Whether a chat model answered: without one, usage counts no prompt."""
    if record.tokens:
        return True
    usage = record.done.usage if record.done is not None else None
    return usage is not None and usage.prompt_tokens > 0
