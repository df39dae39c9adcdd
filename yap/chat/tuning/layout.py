"""Over how many GPUs the chat model is spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.hardware import Hardware
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings

# Arguments that put parts of the engine on other machines, whose GPUs cannot be counted here.
_ELSEWHERE = ("nnodes", "data_parallel_size_local", "data_parallel_address")


@dataclass(frozen=True, slots=True)
class Layout:
    """`data` copies of the model, each of `pipeline` groups of `tensor` GPUs."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.tensor * self.pipeline * self.data


def layouts(settings: Settings, hardware: Hardware, facts: ModelFacts) -> Iterator[Layout]:
    """What may be tried, with the fewest GPUs first; at least one.

    Raises:
        StartupError: what the settings ask for cannot be had.
    """
    pipeline, data = settings.chat_pipeline_parallel, settings.chat_data_parallel
    if settings.chat_tensor_parallel is not None or hardware.cpu:
        layout = Layout(settings.chat_tensor_parallel or 1, pipeline, data)
        _check(layout, settings, hardware, facts)
        yield layout
        return
    _check(Layout(1, pipeline, data), settings, hardware, facts)
    tensor = 1
    while tensor == 1 or tensor * pipeline * data <= len(hardware.gpus):
        if facts.heads % tensor == 0:
            yield Layout(tensor, pipeline, data)
        tensor *= 2


def decisions(settings: Settings, hardware: Hardware, layout: Layout) -> tuple[Decision, ...]:
    """The layout as arguments of vLLM."""
    if settings.chat_tensor_parallel is not None:
        why = "Set by CHAT_TENSOR_PARALLEL."
    elif hardware.cpu:
        why = "A CPU is not split by itself."
    else:
        why = (
            "As few GPUs as hold the model and a full context for half of the connections, or as "
            "there are."
        )
    return (
        Decision("tensor_parallel_size", layout.tensor, why),
        Decision("pipeline_parallel_size", layout.pipeline, "Set by CHAT_PIPELINE_PARALLEL."),
        Decision("data_parallel_size", layout.data, "Set by CHAT_DATA_PARALLEL."),
    )


def _check(layout: Layout, settings: Settings, hardware: Hardware, facts: ModelFacts) -> None:
    if hardware.cpu:
        if layout.pipeline > 1:
            raise StartupError(
                "CHAT_PIPELINE_PARALLEL needs GPUs, and the chat model runs on the CPU: unset it."
            )
        return
    if facts.heads % layout.tensor:
        raise StartupError(
            f"CHAT_TENSOR_PARALLEL={layout.tensor} does not divide the {facts.heads} attention "
            f'heads of CHAT_MODEL="{facts.model}": give a number that does.'
        )
    args = settings.chat_engine_args
    elsewhere = any(name in args for name in _ELSEWHERE) or "ray" in args.values()
    if layout.gpus > len(hardware.gpus) and not elsewhere:
        raise StartupError(
            f"CHAT_TENSOR_PARALLEL, CHAT_PIPELINE_PARALLEL and CHAT_DATA_PARALLEL ask for "
            f"{layout.gpus} GPUs ({layout.tensor} x {layout.pipeline} x {layout.data}), and there "
            f"are {len(hardware.gpus)}: lower them, or see CUDA_VISIBLE_DEVICES."
        )
