"""Settings of the chat engine."""

from pathlib import Path

from yap.setting_groups.group import Group
from yap.setting_groups.models import A_MODEL
from yap.setting_kinds import EngineArgs, Flag, Model, Speculation, number, setting

TEMPLATE_ROOM_TOKENS = 256  # the chat template's own tokens and the screen prefix


class ChatEngineSettings(Group):
    """How the chat engine runs. What has no variable here goes into CHAT_ENGINE_ARGS."""

    title = "Chat engine"

    chat_max_len: int | None = number(
        None,
        128,
        1_048_576,
        "tokens",
        "Context of the chat model, prompt and reply together. Must hold the budgets below.",
        unset=f"the budgets, the reply and {TEMPLATE_ROOM_TOKENS} for the template, "
        "or the model's own limit when that is less",
    )
    max_num_batched_tokens_chat: int | None = number(
        None,
        16,
        1_048_576,
        "tokens",
        "Tokens that one engine step computes at most. More makes prompts faster and the gaps "
        "between other clients' tokens longer.",
        unset="what takes about a tenth of a second; see docs/tuning.md",
    )
    max_num_seqs_chat: int | None = number(
        None,
        1,
        4096,
        "sequences",
        "Replies generated at once.",
        unset="MAX_CONCURRENT_CONNECTIONS and a quarter more",
    )
    chat_tensor_parallel: int | None = number(
        None,
        1,
        1024,
        "GPUs",
        "GPUs that each layer of the chat model is split over.",
        unset="as few as hold the model and a full context for half of the connections",
    )
    chat_pipeline_parallel: int = number(
        1, 1, 1024, "GPUs", "Groups of GPUs that the chat model's layers are divided among."
    )
    chat_data_parallel: int = number(
        1, 1, 1024, "copies", "Copies of the chat model, each with GPUs of its own."
    )
    chat_speculation: Speculation = setting(
        "none",
        "Tokens guessed ahead and checked in one step. ngram repeats what the prompt says; draft "
        "is a smaller model of the same vocabulary, eagle and eagle3 a head made for this model; "
        "mtp is the head that some models bring. Takes CHAT_MIN_P_MAX=0.",
    )
    chat_speculation_model: Model | None = setting(
        None,
        "Draft model or EAGLE head, named as the chat model is.",
        allowed=A_MODEL,
        unset="none; draft, eagle and eagle3 need one",
    )
    chat_speculation_tokens: int | None = number(
        None,
        1,
        64,
        "tokens",
        "Tokens guessed at a time.",
        unset="4 for ngram and draft, 3 for eagle and eagle3, 1 for mtp",
    )
    chat_cache_dir: Path | None = setting(
        None,
        "Where compiled kernels are kept, so that the next start is quick. In a container, mount "
        "a volume there.",
        allowed="the path of a folder",
        unset="yap in XDG_CACHE_HOME, else in ~/.cache",
    )
    chat_engine_args: EngineArgs = setting(
        {},
        "More arguments of vLLM's engine, by vLLM's names. Those with a variable of their own are "
        "refused.",
        allowed='a JSON object such as {"enforce_eager": true}',
    )
    chat_cpu_kv_cache_mib: int = number(
        256, 64, 1_048_576, "MiB", "Size of the KV cache when the chat model runs on the CPU."
    )
    chat_cpu_threads: int | None = number(
        None, 1, 512, "threads", "CPU threads of the chat engine.", unset="chosen at start"
    )
    chat_start_timeout_s: float = number(
        900, 10, 7200, "seconds", "Time the chat engine has to load before the start has failed."
    )
    chat_warm_up: Flag = setting(
        True,
        "Before the service is ready, make requests of every size and with every sampling option, "
        "so that no user waits for a kernel to be compiled.",
    )
    chat_warm_up_timeout_s: float = number(
        120, 1, 3600, "seconds", "Time for that; the service is then ready as it is."
    )
