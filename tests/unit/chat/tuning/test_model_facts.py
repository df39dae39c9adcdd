"""What a checkpoint's own files say; compared with how vLLM itself reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.checkpoints import CONFIGS, DEMO, checkpoint, headers
from yap.chat.tuning import model_facts
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError


def facts(folder: Path, config: str, **changes: Any) -> ModelFacts:
    return model_facts.read(checkpoint(folder, config, **changes), trust_remote_code=False)


@pytest.mark.parametrize("name", CONFIGS)
def test_shape_and_longest_context_are_what_vllm_reads(name: str, tmp_path: Path) -> None:
    import vllm.config  # noqa: F401 - the next module cannot be imported before it
    from vllm.config.model import _get_and_verify_max_len
    from vllm.transformers_utils.config import get_config, get_hf_text_config
    from vllm.transformers_utils.model_arch_config_convertor import (
        MODEL_ARCH_CONFIG_CONVERTORS,
        ModelArchConfigConvertorBase,
    )

    mine = facts(tmp_path, name)
    config = get_config(str(tmp_path), trust_remote_code=False, config_format="hf")
    convertor = MODEL_ARCH_CONFIG_CONVERTORS.get(config.model_type, ModelArchConfigConvertorBase)
    theirs = convertor(config, get_hf_text_config(config)).convert()

    latent = theirs.is_deepseek_mla
    assert mine.kv.heads == (1 if latent else theirs.total_num_kv_heads)
    assert mine.kv.numbers == theirs.head_size * (1 if latent else 2 * theirs.total_num_kv_heads)
    assert mine.kv.full + mine.kv.windowed + mine.kv.recurrent == theirs.total_num_hidden_layers
    assert mine.heads == theirs.total_num_attention_heads
    assert (mine.hidden, mine.vocabulary) == (theirs.hidden_size, theirs.vocab_size)
    longest = mine.longest
    assert longest is not None

    def accept(length: int) -> int:
        return int(
            _get_and_verify_max_len(
                hf_config=config,
                model_arch_config=theirs,
                tokenizer_config=None,
                max_model_len=length,
                disable_sliding_window=False,
                sliding_window=None,
            )
        )

    assert accept(longest) == longest
    with pytest.raises(ValueError, match="max_model_len"):
        accept(longest + 1)


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("nemo-12b", 12.2, 10.9),
        ("llama-3.1-8b", 8.0, 7.0),
        ("llama-3.1-70b", 70.6, 68.5),
        ("qwen2.5-7b", 7.6, 6.5),
        ("qwen3-30b-a3b", 30.5, 2.7),
        ("qwen3-next-80b", 80, 2.7),
        ("gemma-2-9b", 9.2, 8.3),
        ("gemma-3-27b", 27.0, 25.6),
        ("mixtral-8x7b", 46.7, 12.6),
        ("ernie-4.5-21b-a3b", 21.8, 2.8),
        ("moonlight-16b-a3b", 16.0, 2.3),
        ("kimi-linear-48b-a3b", 48, 2.8),
    ],
)
def test_parameters_are_estimated_within_an_eighth(
    name: str, billions: float, active: float, tmp_path: Path
) -> None:
    found = facts(tmp_path, name)
    assert found.parameters == pytest.approx(billions * 1e9, rel=0.125)
    assert found.active == pytest.approx(active * 1e9, rel=0.125)


def test_the_kinds_of_layers_are_told_apart(tmp_path: Path) -> None:
    def layers(name: str) -> tuple[int, int, int, int]:
        kv = facts(tmp_path / name, name).kv
        return kv.full, kv.windowed, kv.window, kv.recurrent

    assert layers("nemo-12b") == (40, 0, 0, 0)
    assert layers("qwen2.5-7b") == (28, 0, 0, 0)  # it names a window and does not use it
    assert layers("gemma-2-9b") == (21, 21, 4096, 0)
    assert layers("gemma-3-27b") == (10, 52, 1024, 0)
    assert layers("qwen3-next-80b") == (12, 0, 0, 36)
    assert layers("kimi-linear-48b-a3b") == (7, 0, 0, 20)


def test_the_kv_cache_of_a_session(tmp_path: Path) -> None:
    nemo = facts(tmp_path / "a", "nemo-12b").kv
    assert nemo.bytes(5000, 2) == 5000 * 40 * 2 * 8 * 128 * 2
    assert nemo.bytes(5000, 1) * 2 == nemo.bytes(5000, 2)
    gemma = facts(tmp_path / "b", "gemma-3-27b").kv  # windowed layers keep no more than 1,024
    assert gemma.bytes(5000, 2) == (10 * 5000 + 52 * 1024) * 2 * 16 * 128 * 2
    moonlight = facts(tmp_path / "c", "moonlight-16b-a3b").kv
    assert moonlight.bytes(1000, 2) == 1000 * 27 * (512 + 64) * 2
    hybrid = facts(tmp_path / "d", "qwen3-next-80b").kv
    state = 32 * 128 * 128 * 4 + (2 * 16 * 128 + 32 * 128) * 3 * 2
    assert hybrid.bytes(0, 2) == 36 * state


def test_the_demo_model_is_known_exactly() -> None:
    found = model_facts.read(str(DEMO), trust_remote_code=False)
    assert found.weights is not None
    assert found.weights.total == pytest.approx(
        (DEMO / "model.safetensors").stat().st_size, rel=0.01
    )
    assert found.parameters == pytest.approx(found.weights.total / 2, rel=0.01)
    assert (found.chat_template, found.key_bias, found.quantization) == (True, False, None)


# Quantization


@pytest.mark.parametrize(
    ("config", "file", "expected"),
    [
        ({"quant_method": "awq", "bits": 4}, None, ("awq", True)),
        ({"quant_method": "compressed-tensors"}, None, ("compressed-tensors", True)),
        ({"quant_method": "compressed_tensors"}, None, ("compressed-tensors", True)),
        (None, ("quant_config.json", {"w_bit": 4, "version": "GEMM"}), ("awq", False)),
        (None, ("quantize_config.json", {"bits": 4, "group_size": 128}), ("gptq", False)),
        (None, ("quantize_config.json", {"bits": 4, "quant_method": "AWQ"}), ("awq", False)),
        ({"quant_method": "gptq"}, ("quant_config.json", {}), ("gptq", True)),
        (None, None, (None, False)),
    ],
)
def test_how_weights_are_quantized(
    config: dict[str, Any] | None, file: Any, expected: tuple[str | None, bool], tmp_path: Path
) -> None:
    model = checkpoint(
        tmp_path, "llama-3.1-8b", **({"quantization_config": config} if config else {})
    )
    if file:
        (tmp_path / file[0]).write_text(json.dumps(file[1]))
    found = model_facts.read(model, trust_remote_code=False)
    assert (found.quantization, found.quantization_in_config) == expected


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, True),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, False),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"kv_cache_quant_algo": "FP8"}},
            True,
        ),
        ({"quant_method": "awq"}, False),
    ],
)
def test_a_checkpoint_may_say_how_its_kv_cache_is_kept(
    config: dict[str, Any], named: bool, tmp_path: Path
) -> None:
    assert facts(tmp_path, "llama-3.1-8b", quantization_config=config).kv_format is named


def test_a_bias_of_the_keys_is_seen_in_the_weights(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "qwen2.5-7b")
    layer = "model.layers.0.self_attn"
    for bias, expected in [("q_proj", False), ("k_proj", True)]:
        headers(
            tmp_path / "model.safetensors",
            {
                f"{layer}.k_proj.weight": ("BF16", [512, 3584], 512 * 3584 * 2),
                f"{layer}.{bias}.bias": ("BF16", [512], 1024),
            },
        )
        assert model_facts.read(model, trust_remote_code=False).key_bias is expected


def test_without_weights_the_config_tells_of_a_bias(tmp_path: Path) -> None:
    assert facts(tmp_path / "a", "qwen3-14b", attention_bias=True).key_bias
    assert not facts(tmp_path / "b", "qwen3-14b").key_bias


# Odd repositories


def test_a_model_that_sees_is_served_without_its_eyes(tmp_path: Path) -> None:
    assert facts(tmp_path / "a", "gemma-3-27b").towers
    assert not facts(tmp_path / "b", "nemo-12b").towers


def test_mistrals_own_files_beside_the_usual_ones(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "nemo-12b")
    (tmp_path / "params.json").write_text('{"dim": 5120}')
    found = model_facts.read(model, trust_remote_code=False)
    assert found.mistral_files
    assert found.hidden == 5120


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}'),
        ("chat_template.json", '{"chat_template": "{{ messages }}"}'),
        ("chat_template.jinja", "{{ messages }}"),
        (None, ""),
    ],
)
def test_whether_it_brings_a_chat_template(file: str | None, content: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "nemo-12b")
    (tmp_path / "chat_template.jinja").unlink()
    if file:
        (tmp_path / file).write_text(content)
    assert model_facts.read(model, trust_remote_code=False).chat_template is (file is not None)


LLAMA_RULE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
TEKKEN_RULE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}]+|\p{N}| ?[^\s\p{L}\p{N}]+"
)


@pytest.mark.parametrize(
    ("name", "rule", "wrong"),
    [
        ("mistral-small-3.2", LLAMA_RULE, True),
        ("nemo-12b", LLAMA_RULE, True),
        ("nemo-12b", TEKKEN_RULE, False),
        ("llama-3.1-8b", LLAMA_RULE, False),
        ("mixtral-8x7b", LLAMA_RULE, False),
    ],
)
def test_a_tokenizer_with_another_familys_rule_is_noticed(
    name: str, rule: str, wrong: bool, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path, name)
    split = {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated"}
    steps = {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"pre_tokenizer": steps}))
    assert model_facts.read(model, trust_remote_code=False).wrong_split is wrong


# Refusals


def refusal(model: str) -> str:
    with pytest.raises(StartupError) as caught:
        model_facts.read(model, trust_remote_code=False)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    assert "it has no config.json" in refusal(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "cause"), [("{", "is not JSON"), ("[]", "is not a JSON object"), ("", "is not JSON")]
)
def test_a_damaged_config_is_refused(text: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert cause in refusal(str(tmp_path))


def test_code_of_its_own_must_be_trusted_by_name(tmp_path: Path) -> None:
    model = checkpoint(
        tmp_path,
        {"model_type": "homemade", "auto_map": {"AutoConfig": "configuration_homemade.Config"}},
    )
    assert "TRUST_REMOTE_CODE_MODELS" in refusal(model)


def test_a_kind_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    assert "homemade" in refusal(checkpoint(tmp_path, {"model_type": "homemade"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "roberta", "architectures": ["RobertaForSequenceClassification"]},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {
            "model_type": "t5",
            "architectures": ["T5ForConditionalGeneration"],
            "is_encoder_decoder": True,
        },
    ],
)
def test_a_model_that_cannot_chat_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    assert "cannot chat" in refusal(checkpoint(tmp_path, fields))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, "nemo-12b")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    assert "damaged" in refusal(model)


def test_a_hub_id_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "no such folder, or no such model" in refusal("nobody/has-this-model")
