"""Settings of the screen classifier."""

from yap.setting_groups.group import Group
from yap.setting_kinds import Flag, ToolDevice, number, setting


class ScreenSettings(Group):
    """How it is decided whether an utterance asks for a look at the screen."""

    title = "Screen classifier"

    tool_decision_threshold: float = number(
        0.66, 0, 1, "", "Probability from which the answer is yes."
    )
    tool_device: ToolDevice = setting("auto", "Where the classifier runs; auto is a GPU if any.")
    tool_cpu_threads: int = number(
        1, 1, 512, "threads", "CPU threads of the classifier when it runs on the CPU."
    )
    tool_history_tokens: int = number(
        1536, 0, 131_072, "tokens", "Earlier utterances that the classifier sees, newest kept."
    )
    tool_max_length: int = number(
        1536,
        8,
        131_072,
        "tokens",
        "Longest input of the classifier, its model's own limit permitting; the start is cut.",
    )
    tool_queue_max: int = number(
        256,
        1,
        100_000,
        "requests",
        "Requests waiting for the classifier; over it the answer is no.",
    )
    tool_microbatch_max_size: int = number(32, 1, 1024, "requests", "Most requests in one batch.")
    tool_microbatch_max_tokens: int = number(
        8192, 16, 1_048_576, "tokens", "Most tokens in one batch, padding included."
    )
    tool_language_filter: Flag = setting(
        True,
        "Answer no to utterances that are not English, without asking the classifier. Turn it off "
        "for a classifier that knows other languages.",
    )
    tool_overlap: Flag = setting(
        True, "Begin the reply while the classifier decides; it is not sent before the decision."
    )
    tool_compile: Flag = setting(True, "Capture the classifier as CUDA graphs at start, on a GPU.")
    tool_int8: Flag = setting(
        False, "Quantize the classifier's linear layers to 8 bits at start, on a CPU."
    )
