"""Settings of the models that are served."""

from yap.setting_groups.group import Group
from yap.setting_kinds import ROOT, KvDtype, Model, Models, Quantization, number, setting

A_MODEL = "a folder that holds a config.json, or a Hub id such as org/name"


class ModelSettings(Group):
    """Which models are served, in which form, and how much of a GPU each may use."""

    title = "Models"

    chat_model: Model = setting(
        str(ROOT / "models" / "yap-chat-demo"),
        "Chat model. A value that starts with / ./ ../ or ~, or names an existing folder, is a "
        "folder; any other is a Hub id.",
        allowed=A_MODEL,
    )
    tool_model: Model = setting(
        str(ROOT / "models" / "yap-screen-demo"),
        "Screen classifier, named as the chat model is.",
        allowed=A_MODEL,
    )
    chat_quantization: Quantization = setting(
        "auto",
        "Quantization of the chat model's weights. auto and none leave it to the checkpoint's own "
        "config. QUANTIZATION is read when this is unset.",
    )
    trust_remote_code_models: Models = setting(
        (),
        "Models whose own Python code may run in the service, each named exactly as in CHAT_MODEL "
        "or TOOL_MODEL. For any other model it never runs.",
        allowed="Hub ids or folders separated by commas",
    )
    chat_gpu_frac: float | None = number(
        None,
        0.01,
        0.95,
        "",
        "Share of the GPU's memory for the chat engine: weights, activations and KV cache.",
        unset="0.70 beside the classifier, 0.90 alone",
    )
    tool_gpu_frac: float | None = number(
        None,
        0.01,
        0.95,
        "",
        "Share of the GPU's memory that the classifier may take.",
        unset="0.20 beside the chat model, 0.90 alone",
    )
    kv_dtype: KvDtype = setting(
        "auto",
        "Number format of the KV cache. auto is fp8 where the GPU computes in it (compute "
        "capability 8.9) and the model bears it, else model, which is the model's own. fp8 holds "
        "twice the tokens that 16 bits do.",
    )
