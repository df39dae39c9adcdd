"""How much one step of the engine does: how many replies, and how many tokens.

A step computes one token of each running reply and, with what is left of its token budget, a piece
of the prompts that wait. A larger budget reads prompts a little faster; but nobody's next token
comes before the step is over. On 2 cores with the demo model a prompt of 4,000 tokens took 0.95 s
in pieces of 256 tokens and 0.86 s in pieces of 2,048, and held another client's reply up for 0.10 s
and 0.60 s: little is gained beyond a tenth of a second, and much is lost.
"""

from __future__ import annotations

import math
from typing import Final

from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.chat.tuning.layout import Layout
from yap.chat.tuning.model_facts import ModelFacts
from yap.settings import Settings

_STEP_S: Final = 0.1

# Dense 16-bit floating-point operations a second, of the data-centre GPUs of each compute
# capability from there on, as their data sheets say. Half of that is reached.
_PEAK: Final = {
    (7, 0): 60e12,
    (8, 0): 300e12,
    (8, 6): 100e12,
    (8, 9): 150e12,
    (9, 0): 900e12,
    (10, 0): 2000e12,
    (11, 0): 200e12,
}
_EFFICIENCY: Final = 0.5
# Of one thread of a server CPU, in a prompt of thousands of tokens; measured with the demo model.
_CPU_THREAD: Final = 40e9
# Without a capability: a GPU that is not NVIDIA's.
_UNKNOWN: Final = 100e12

# A GPU reads all weights in each step, which takes as long as computing some 300 tokens: a smaller
# piece is no faster. More than the largest is never asked of a step by a server.
_LEAST_ON_GPU, _MOST_ON_GPU = 256, 8192
_LEAST_ON_CPU, _MOST_ON_CPU = 64, 2048

_MOST_SEQUENCES: Final = 1024


def sequences(settings: Settings, layout: Layout) -> Decision:
    """Replies at once, in each copy of the model."""
    name = "max_num_seqs"
    if settings.max_num_seqs_chat is not None:
        return Decision(name, settings.max_num_seqs_chat, "Set by MAX_NUM_SEQS_CHAT.")
    connections = settings.max_concurrent_connections
    spare = max(4, connections // 4)
    each = math.ceil((connections + spare) / layout.data)
    most = min(_MOST_SEQUENCES, settings.max_num_batched_tokens_chat or _MOST_SEQUENCES)
    if each > most:
        return Decision(name, most, f"More than {most} would not fit one step; the rest waits.")
    why = (
        f"MAX_CONCURRENT_CONNECTIONS={connections} may each have a turn, and {spare} places are "
        "for what is just being cancelled and for warm-ups."
    )
    return Decision(name, each, why)


def batched_tokens(
    settings: Settings,
    hardware: Hardware,
    facts: ModelFacts,
    layout: Layout,
    *,
    sequences: int,
    guesses: int,
) -> Decision:
    """Tokens of one step.

    Args:
        sequences: replies at once.
        guesses: tokens that speculation adds to each.
    """
    name = "max_num_batched_tokens"
    if settings.max_num_batched_tokens_chat is not None:
        value = settings.max_num_batched_tokens_chat
        return Decision(name, value, "Set by MAX_NUM_BATCHED_TOKENS_CHAT.")
    running = sequences * (1 + guesses)
    least, most = (_LEAST_ON_CPU, _MOST_ON_CPU) if hardware.cpu else (_LEAST_ON_GPU, _MOST_ON_GPU)
    if facts.active is None:
        why = "The model's size is not known, so it is the middle of what is usual."
        return Decision(name, max(running, 2048 if hardware.gpus else 512), why)
    fitting = _STEP_S * _speed(settings, hardware, facts, layout) / (2 * facts.active)
    rounded = 1 << max(0, round(math.log2(fitting))) if fitting >= 1 else 1
    value = max(running, least, min(rounded, most))
    if value > rounded:
        why = "Enough for every running reply, and not so little that reading prompts gets slow."
    elif value < rounded:
        why = "The most that a server's step is worth; it takes less than a tenth of a second."
    else:
        why = "About a tenth of a second of work, which is how long it may hold other replies up."
    return Decision(name, value, why)


def _speed(settings: Settings, hardware: Hardware, facts: ModelFacts, layout: Layout) -> float:
    """Floating-point operations a second of what one copy of the model runs on; a rough figure."""
    if hardware.cpu:
        small = facts.parameters is not None and facts.parameters < 100_000_000
        threads = settings.chat_cpu_threads or (1 if small else max(1, hardware.cores - 1))
        return threads * _CPU_THREAD
    capability = hardware.capability
    peak = _UNKNOWN
    if capability is not None:
        reached = [least for least in _PEAK if least <= capability]
        peak = _PEAK[max(reached)] if reached else min(_PEAK.values())
    return peak * _EFFICIENCY * layout.tensor
