"""What the engine is told: by the model, the hardware and the settings, each with a reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.checkpoints import CONFIGS, DEMO, checkpoint, headers
from tests.unit.conftest import MakeSettings
from yap.chat.tuning import model_facts, planning
from yap.chat.tuning.hardware import GIB, Gpu, Hardware
from yap.chat.tuning.model_facts import ModelFacts
from yap.chat.tuning.planning import Plan
from yap.errors import StartupError
from yap.settings import Settings

Facts = Callable[[str], ModelFacts]


def gpus(memory_gib: float, capability: tuple[int, int] | None, count: int = 1) -> Hardware:
    return Hardware((Gpu(int(memory_gib * GIB), None, capability),) * count, 256 * GIB, 16)


CPU = Hardware((), 24 * GIB, 2)
T4 = gpus(15, (7, 5))
A10 = gpus(22.5, (8, 6))
L4 = gpus(22.5, (8, 9))
A100 = gpus(80, (8, 0))
H100 = gpus(80, (9, 0))
H200 = gpus(139.8, (9, 0))
B200 = gpus(178, (10, 0))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of a kind of model, read once."""
    folder = tmp_path_factory.mktemp("models")
    known: dict[str, ModelFacts] = {}

    def of(name: str) -> ModelFacts:
        if name not in known:
            model = checkpoint(folder / name, name) if name in CONFIGS else str(DEMO)
            known[name] = model_facts.read(model, trust_remote_code=False)
        return known[name]

    return of


def args(settings: Settings, hardware: Hardware, found: ModelFacts) -> dict[str, Any]:
    return planning.decide(settings, hardware, found).engine_args


# Every model on everything


@pytest.mark.parametrize("hardware", [CPU, T4, A10, L4, A100, H100, H200, B200, gpus(80, None)])
@pytest.mark.parametrize("name", [*CONFIGS, "demo"])
def test_there_is_a_plan_or_a_sentence(
    settings: Settings, facts: Facts, name: str, hardware: Hardware
) -> None:
    refusal, plan = "", None
    try:
        plan = planning.decide(settings, hardware, facts(name))
    except StartupError as error:
        refusal = str(error)
    if plan is None:
        assert "\n" not in refusal
        assert refusal.endswith(".")
        assert any(word in refusal for word in ("CHAT_GPU_FRAC", "CHAT_CPU_KV_CACHE_MIB"))
        return
    names = [one.name for one in plan.decisions]
    assert len(names) == len(set(names))
    for one in (*plan.decisions, *plan.environment, *plan.notes):
        assert one.why.endswith("."), one
        assert ". " not in one.why, f"one sentence: {one}"
    made = plan.engine_args
    assert made["max_num_batched_tokens"] >= made["max_num_seqs"]
    assert 0 < made["max_model_len"] <= settings.chat_max_len_wanted
    assert (plan.memory.sessions < 1) == any(note.name == "memory" for note in plan.notes)
    json.dumps(made)


def test_what_every_engine_is_told(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(chat_gpu_frac=0.5, drain_timeout_s=7.5)
    assert args(settings, H200, facts("nemo-12b")) == {
        "model": facts("nemo-12b").model,
        "max_model_len": 5406,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "max_num_seqs": 40,
        "max_num_batched_tokens": 2048,
        "kv_cache_dtype": "fp8",
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "trust_remote_code": False,
        "tokenizer_mode": "hf",
        "config_format": "hf",
        "shutdown_timeout": 7,
        "gpu_memory_utilization": 0.5,
        "enforce_eager": False,
    }


def test_a_cpu_runs_the_model_inside_the_engine_core(
    make_settings: MakeSettings, facts: Facts
) -> None:
    made = args(make_settings(chat_cpu_kv_cache_mib=64), CPU, facts("demo"))
    assert made["distributed_executor_backend"] == "uni"
    assert made["enforce_eager"] is True
    assert made["kv_cache_memory_bytes"] == 64 * 1024 * 1024
    assert made["block_size"] == 32
    assert "gpu_memory_utilization" not in made


@pytest.mark.parametrize(("mode", "share"), [("both", 0.70), ("chat", 0.90)])
def test_the_share_of_memory_is_that_of_the_deploy_mode(
    make_settings: MakeSettings, facts: Facts, mode: str, share: float
) -> None:
    plan = planning.decide(make_settings(deploy_models=mode), H200, facts("nemo-12b"))
    assert plan.engine_args["gpu_memory_utilization"] == share
    assert plan.memory.budget == int(plan.memory.total * share)


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"kv_dtype": "fp8_e5m2"}, "kv_cache_dtype", "fp8_e5m2"),
        ({"kv_dtype": "model"}, "kv_cache_dtype", "auto"),
        ({"chat_quantization": "awq"}, "quantization", "awq"),
        ({"chat_quantization": "auto"}, "quantization", None),
        ({"chat_quantization": "none"}, "quantization", None),
        ({"max_num_seqs_chat": 5}, "max_num_seqs", 5),
        ({"max_num_batched_tokens_chat": 99}, "max_num_batched_tokens", 99),
        ({"max_num_batched_tokens_chat": 16}, "max_num_seqs", 16),
        ({"chat_max_len": 6000}, "max_model_len", 6000),
        ({"chat_engine_args": {"seed": 5}}, "seed", 5),
        ({"chat_engine_args": {"enable_prefix_caching": False}}, "enable_prefix_caching", False),
        ({"chat_engine_args": {"enforce_eager": True}}, "enforce_eager", True),
    ],
)
def test_what_the_operator_sets_is_passed_on(
    make_settings: MakeSettings, facts: Facts, fields: dict[str, Any], name: str, value: Any
) -> None:
    made = args(make_settings(**fields), H200, facts("nemo-12b"))
    assert made.get(name) == value
    assert (name in made) == (value is not None)


def test_a_models_code_runs_where_it_is_named(make_settings: MakeSettings, facts: Facts) -> None:
    model = facts("nemo-12b").model
    for trusted, expected in [((model,), True), (("org/other",), False)]:
        settings = make_settings(trust_remote_code_models=trusted)
        assert args(settings, H200, facts("nemo-12b"))["trust_remote_code"] is expected


def test_a_value_of_the_operators_says_so(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(chat_engine_args={"block_size": 64, "seed": 1})
    plan = planning.decide(settings, CPU, facts("demo"))
    own = {one.name: one.value for one in plan.decisions if "CHAT_ENGINE_ARGS" in one.why}
    assert own == {"block_size": 64, "seed": 1}


# The format of the KV cache


@pytest.mark.parametrize(
    ("name", "hardware", "dtype"),
    [
        ("nemo-12b", H200, "fp8"),
        ("llama-3.1-8b", L4, "fp8"),
        ("gemma-3-27b", B200, "fp8"),
        ("moonlight-16b-a3b", H200, "fp8"),
        ("qwen3-next-80b", gpus(178, (10, 0), 2), "fp8"),
        ("nemo-12b", A100, "auto"),
        ("llama-2-13b", gpus(80, (8, 6)), "auto"),
        ("nemo-12b", gpus(139, None), "auto"),
        ("demo", CPU, "auto"),
    ],
)
def test_the_kv_cache_is_fp8_where_the_gpu_computes_in_it(
    settings: Settings, facts: Facts, name: str, hardware: Hardware, dtype: str
) -> None:
    assert args(settings, hardware, facts(name))["kv_cache_dtype"] == dtype


@pytest.mark.parametrize(
    ("fields", "reason"), [({"key_bias": True}, "bias"), ({"kv_format": True}, "checkpoint")]
)
def test_a_model_that_does_not_bear_fp8_keeps_its_own(
    settings: Settings, facts: Facts, fields: dict[str, Any], reason: str
) -> None:
    found = dataclasses.replace(facts("nemo-12b"), **fields)
    plan = planning.decide(settings, H200, found)
    (decided,) = [one for one in plan.decisions if one.name == "kv_cache_dtype"]
    assert decided.value == "auto"
    assert reason in decided.why


def test_fp8_holds_twice_the_tokens(make_settings: MakeSettings, facts: Facts) -> None:
    tokens = [
        planning.decide(make_settings(kv_dtype=kv), H200, facts("nemo-12b")).memory.tokens
        for kv in ("fp8", "model")
    ]
    assert tokens[0] == pytest.approx(2 * tokens[1], rel=0.001)


@pytest.mark.parametrize("kv_dtype", ["auto", "fp8", "fp8_e4m3", "fp8_e5m2"])
def test_every_allowed_cache_dtype_works_on_a_cpu(
    make_settings: MakeSettings, facts: Facts, kv_dtype: str
) -> None:
    assert args(make_settings(kv_dtype=kv_dtype), CPU, facts("demo"))["kv_cache_dtype"] == kv_dtype


def test_a_cache_dtype_that_garbles_text_on_a_cpu_is_refused(
    settings: Settings, facts: Facts
) -> None:
    odd = settings.model_copy(update={"kv_dtype": "bfloat16"})
    with pytest.raises(StartupError, match="KV_DTYPE"):
        args(odd, CPU, facts("demo"))


@pytest.mark.parametrize(
    ("name", "hardware", "fields", "backend"),
    [
        ("llama-3.1-8b", gpus(48, (8, 9)), {}, "TRITON_ATTN"),
        ("llama-3.1-8b", gpus(32, (12, 0)), {}, "TRITON_ATTN"),
        ("llama-3.1-8b", H200, {"kv_dtype": "fp8_e5m2"}, "TRITON_ATTN"),
        ("llama-3.1-8b", H200, {}, None),
        ("llama-3.1-8b", B200, {}, None),
        ("llama-3.1-8b", A100, {"kv_dtype": "fp8"}, None),
        ("llama-3.1-8b", gpus(48, (8, 9)), {"kv_dtype": "model"}, None),
        ("moonlight-16b-a3b", gpus(96, (12, 0)), {}, None),
        ("demo", CPU, {"kv_dtype": "fp8"}, None),
    ],
)
def test_attention_runs_without_a_cuda_toolkit(
    make_settings: MakeSettings,
    facts: Facts,
    name: str,
    hardware: Hardware,
    fields: dict[str, Any],
    backend: str | None,
) -> None:
    made = args(make_settings(**fields), hardware, facts(name))
    assert made.get("attention_backend") == backend


# What a model needs by its own files


def test_a_model_that_sees_is_told_to_read_only(settings: Settings, facts: Facts) -> None:
    assert args(settings, H200, facts("gemma-3-27b"))["language_model_only"] is True
    assert "language_model_only" not in args(settings, H200, facts("nemo-12b"))


def test_of_weights_that_are_there_twice_the_usual_ones_are_taken(
    settings: Settings, facts: Facts
) -> None:
    found = dataclasses.replace(facts("nemo-12b"), mistral_files=True)
    assert args(settings, H200, found)["load_format"] == "hf"


def test_a_quantization_that_vllm_overlooks_is_named(
    make_settings: MakeSettings, facts: Facts
) -> None:
    found = dataclasses.replace(facts("nemo-12b"), quantization="awq", quantization_in_config=False)
    assert args(make_settings(), H200, found)["quantization"] == "awq"
    assert "quantization" not in args(make_settings(chat_quantization="none"), H200, found)
    known = dataclasses.replace(found, quantization_in_config=True)
    assert "quantization" not in args(make_settings(), H200, known)


def test_weights_are_not_quantized_twice(make_settings: MakeSettings, facts: Facts) -> None:
    found = dataclasses.replace(facts("nemo-12b"), quantization="awq", quantization_in_config=True)
    with pytest.raises(StartupError, match=r"quantized already \(awq\)"):
        args(make_settings(chat_quantization="fp8"), H200, found)


def test_what_else_was_found_is_noted(settings: Settings, facts: Facts) -> None:
    found = dataclasses.replace(facts("nemo-12b"), chat_template=False, wrong_split=True)
    notes = [(one.name, one.value) for one in planning.decide(settings, H200, found).notes]
    assert notes == [("chat template", "ChatML"), ("tokenizer", "mended")]
    assert planning.decide(settings, H200, facts("nemo-12b")).notes == ()


# Replies and tokens of a step


@pytest.mark.parametrize(
    ("connections", "replies"), [(1, 5), (8, 12), (32, 40), (100, 125), (10_000, 1024)]
)
def test_every_connection_may_have_a_turn(
    make_settings: MakeSettings, facts: Facts, connections: int, replies: int
) -> None:
    settings = make_settings(max_concurrent_connections=connections)
    assert args(settings, H200, facts("nemo-12b"))["max_num_seqs"] == replies


def test_copies_of_the_model_share_the_connections(
    make_settings: MakeSettings, facts: Facts
) -> None:
    settings = make_settings(chat_data_parallel=2)
    made = args(settings, gpus(139, (9, 0), 2), facts("nemo-12b"))
    assert (made["data_parallel_size"], made["max_num_seqs"]) == (2, 20)


@pytest.mark.parametrize(
    ("name", "hardware", "tokens"),
    [
        ("nemo-12b", H200, 2048),
        ("llama-3.1-8b", H100, 4096),
        ("llama-3.1-8b", A100, 1024),
        ("llama-3.1-8b", L4, 512),
        ("qwen3-30b-a3b", H200, 8192),
        ("gemma-2-9b", B200, 8192),
        ("llama-3.1-70b", gpus(80, (9, 0), 4), 1024),
        ("llama-2-13b", gpus(48, (8, 6)), 256),
        ("demo", H200, 8192),
        ("demo", CPU, 512),
    ],
)
def test_a_step_takes_about_a_tenth_of_a_second(
    settings: Settings, facts: Facts, name: str, hardware: Hardware, tokens: int
) -> None:
    assert args(settings, hardware, facts(name))["max_num_batched_tokens"] == tokens


def test_a_step_holds_every_running_reply(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(max_concurrent_connections=400)
    assert args(settings, gpus(48, (8, 6)), facts("llama-2-13b"))["max_num_batched_tokens"] == 500


# Several GPUs


@pytest.mark.parametrize(
    ("name", "hardware", "tensor"),
    [
        ("nemo-12b", gpus(139, (9, 0), 8), 1),  # one is enough
        ("nemo-12b", gpus(24, (8, 9), 8), 2),
        ("llama-3.1-70b", gpus(80, (9, 0), 8), 4),
        ("llama-3.1-70b", gpus(80, (9, 0), 6), 4),  # six do not divide the heads
        ("llama-3.1-8b", gpus(22.5, (8, 6), 2), 2),
        ("qwen2.5-7b", gpus(8, (7, 5), 8), 4),
        ("qwen2.5-7b", gpus(6, (7, 5), 8), 4),  # eight do not divide 28 heads
    ],
)
def test_as_few_gpus_as_it_takes(
    make_settings: MakeSettings, facts: Facts, name: str, hardware: Hardware, tensor: int
) -> None:
    plan = planning.decide(make_settings(deploy_models="chat"), hardware, facts(name))
    assert plan.engine_args["tensor_parallel_size"] == tensor


def test_the_operators_spread_is_taken(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(chat_tensor_parallel=2, chat_pipeline_parallel=2)
    made = args(settings, gpus(139, (9, 0), 4), facts("nemo-12b"))
    assert (made["tensor_parallel_size"], made["pipeline_parallel_size"]) == (2, 2)


@pytest.mark.parametrize(
    ("fields", "hardware", "message"),
    [
        ({"chat_tensor_parallel": 3}, gpus(139, (9, 0), 4), "does not divide the 32 attention"),
        ({"chat_tensor_parallel": 4}, gpus(139, (9, 0), 2), "4 GPUs .* and there are 2"),
        ({"chat_data_parallel": 2}, H200, "2 GPUs .* and there are 1"),
        ({"chat_pipeline_parallel": 2}, CPU, "CHAT_PIPELINE_PARALLEL needs GPUs"),
    ],
)
def test_a_spread_that_cannot_be_is_refused(
    make_settings: MakeSettings,
    facts: Facts,
    fields: dict[str, Any],
    hardware: Hardware,
    message: str,
) -> None:
    with pytest.raises(StartupError, match=message):
        args(make_settings(**fields), hardware, facts("nemo-12b"))


def test_gpus_of_other_machines_are_not_counted(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(
        chat_tensor_parallel=2, chat_pipeline_parallel=2, chat_engine_args={"nnodes": 2}
    )
    assert args(settings, gpus(80, (9, 0), 2), facts("nemo-12b"))["nnodes"] == 2


# Memory


def test_where_the_memory_goes(make_settings: MakeSettings, facts: Facts) -> None:
    memory = planning.decide(make_settings(deploy_models="chat"), H100, facts("nemo-12b")).memory
    assert memory.weights == pytest.approx(12.25e9 * 2, rel=0.01)
    assert memory.kv_cache == memory.spare
    assert 1.5 * GIB < memory.working < 3 * GIB
    assert memory.token == 2 * 8 * 128 * 40
    assert memory.session == memory.token * 5406
    assert memory.sessions == pytest.approx(memory.kv_cache / memory.session)
    assert memory.tokens == pytest.approx(memory.kv_cache / memory.token, rel=0.001)


def test_over_two_gpus_each_holds_half(make_settings: MakeSettings, facts: Facts) -> None:
    two = gpus(139, (9, 0), 2)
    one, half = (
        planning.decide(make_settings(chat_tensor_parallel=n), two, facts("nemo-12b")).memory
        for n in (1, 2)
    )
    assert half.weights is not None
    assert one.weights is not None
    assert half.weights == one.weights // 2
    assert half.token == one.token / 2


def test_one_compressed_vector_is_on_every_gpu(make_settings: MakeSettings, facts: Facts) -> None:
    two = gpus(139, (9, 0), 2)
    tokens = [
        planning.decide(
            make_settings(chat_tensor_parallel=n), two, facts("moonlight-16b-a3b")
        ).memory.token
        for n in (1, 2)
    ]
    assert tokens[0] == tokens[1]


def test_quantizing_while_loading_halves_the_matrices(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path, "llama-3.1-8b")
    matrices, rest = 14 * GIB, 2 * GIB
    headers(
        tmp_path / "model.safetensors",
        {
            "model.layers.0.mlp.up_proj.weight": ("BF16", [1, 1], matrices),
            "model.embed_tokens.weight": ("BF16", [1, 1], rest),
        },
    )
    found = model_facts.read(model, trust_remote_code=False)
    for quantization, expected in [("auto", matrices + rest), ("fp8", matrices // 2 + rest)]:
        settings = make_settings(chat_quantization=quantization)
        assert planning.decide(settings, H200, found).memory.weights == expected


@pytest.mark.parametrize(
    ("fields", "hardware", "advice"),
    [
        ({"deploy_models": "chat"}, L4, "set CHAT_QUANTIZATION=fp8 or choose a smaller model"),
        ({}, L4, "raise CHAT_GPU_FRAC, serve the classifier elsewhere .DEPLOY_MODELS=chat., set"),
        ({"chat_tensor_parallel": 1}, gpus(22.5, (8, 9), 2), "raise CHAT_TENSOR_PARALLEL"),
        (
            {"deploy_models": "chat", "chat_quantization": "fp8"},
            gpus(12, (8, 6)),
            "GiB: choose a smaller model",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    make_settings: MakeSettings,
    facts: Facts,
    fields: dict[str, Any],
    hardware: Hardware,
    advice: str,
) -> None:
    with pytest.raises(StartupError, match=rf"The weights of CHAT_MODEL=.*{advice}"):
        args(make_settings(**fields), hardware, facts("llama-2-13b"))


def test_a_context_that_does_not_fit_is_refused(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(chat_max_len=131072, history_max_tokens=100_000, deploy_models="chat")
    with pytest.raises(StartupError, match="lower CHAT_MAX_LEN and HISTORY_MAX_TOKENS"):
        args(settings, L4, facts("llama-3.1-8b"))


def test_memory_that_somebody_else_holds_is_told(settings: Settings, facts: Facts) -> None:
    busy = Hardware((Gpu(80 * GIB, 20 * GIB, (9, 0)),), 64 * GIB, 8)
    with pytest.raises(
        StartupError, match=r"CHAT_GPU_FRAC=0\.7 asks for 56\.0 GiB of GPU 0, where"
    ):
        args(settings, busy, facts("llama-3.1-8b"))


def test_memory_that_a_dying_process_holds_is_waited_for(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = make_settings(chat_model=checkpoint(tmp_path, "llama-3.1-8b"))
    gpu = [Gpu(80 * GIB, free, (9, 0)) for free in (20 * GIB, 40 * GIB, 79 * GIB)]
    seen: list[Gpu] = []

    def read() -> Hardware:
        seen.append(gpu[len(seen)])
        return Hardware((seen[-1],), 64 * GIB, 8)

    monkeypatch.setattr(planning, "read_hardware", read)
    assert planning.decide_here(settings).memory.total == 80 * GIB
    assert seen == gpu
    monkeypatch.setattr(planning, "_MEMORY_COMES_FREE_S", 0.0)
    seen.clear()
    with pytest.raises(StartupError, match="are free"):
        planning.decide_here(settings)


def test_on_a_cpu_weights_and_cache_must_fit_the_machine(
    make_settings: MakeSettings, facts: Facts
) -> None:
    small = Hardware((), 8 * GIB, 2)
    with pytest.raises(StartupError, match=r"do not fit the memory of 8\.0 GiB"):
        args(make_settings(), small, facts("llama-3.1-8b"))
    with pytest.raises(StartupError, match="raise CHAT_CPU_KV_CACHE_MIB"):
        args(make_settings(), CPU, facts("llama-3.1-8b"))


def test_weights_that_are_offloaded_need_not_fit(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(deploy_models="chat", chat_engine_args={"cpu_offload_gb": 12})
    plan = planning.decide(settings, L4, facts("llama-2-13b"))
    assert plan.engine_args["cpu_offload_gb"] == 12


# Guessing ahead


NO_MIN_P = {"chat_min_p_max": 0.0}


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        (
            {"chat_speculation": "ngram"},
            {
                "method": "ngram",
                "num_speculative_tokens": 4,
                "prompt_lookup_max": 4,
                "prompt_lookup_min": 2,
            },
        ),
        (
            {"chat_speculation": "eagle3", "chat_speculation_model": "org/head"},
            {"method": "eagle3", "model": "org/head", "num_speculative_tokens": 3},
        ),
        (
            {
                "chat_speculation": "draft",
                "chat_speculation_model": str(DEMO),
                "chat_speculation_tokens": 6,
            },
            {"method": "draft_model", "model": str(DEMO), "num_speculative_tokens": 6},
        ),
        ({"chat_speculation": "mtp"}, {"method": "mtp", "num_speculative_tokens": 1}),
    ],
)
def test_tokens_are_guessed_ahead(
    make_settings: MakeSettings,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    config: dict[str, Any],
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made = args(make_settings(**(NO_MIN_P | fields)), H200, facts("nemo-12b"))
    assert made["speculative_config"] == config


def test_guesses_need_room_in_a_step(make_settings: MakeSettings, facts: Facts) -> None:
    settings = make_settings(
        **NO_MIN_P, chat_speculation="ngram", chat_speculation_tokens=9, deploy_models="chat"
    )
    made = args(settings, gpus(48, (8, 6)), facts("llama-2-13b"))
    assert made["max_num_batched_tokens"] == 40 * 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chat_speculation": "draft"}, "needs CHAT_SPECULATION_MODEL"),
        ({"chat_speculation_model": "org/draft"}, "takes no CHAT_SPECULATION_MODEL"),
        ({"chat_speculation": "ngram", "chat_min_p_max": 0.2}, "CHAT_MIN_P_MAX=0"),
        (
            {
                "chat_speculation": "ngram",
                "chat_engine_args": {"speculative_config": {"method": "suffix"}},
            },
            "exclude each other",
        ),
        (
            {
                "chat_min_p_max": 0.2,
                "chat_engine_args": {"speculative_config": {"method": "suffix"}},
            },
            "CHAT_MIN_P_MAX=0",
        ),
    ],
)
def test_contradictions_about_guessing_are_refused(
    make_settings: MakeSettings, facts: Facts, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        args(make_settings(**(NO_MIN_P | fields)), H200, facts("nemo-12b"))


def test_on_a_cpu_nothing_is_guessed(make_settings: MakeSettings, facts: Facts) -> None:
    """vLLM's core would die of the first sampled reply."""
    for fields in (
        {"chat_speculation": "ngram"},
        {"chat_engine_args": {"speculative_config": {"method": "ngram"}}},
    ):
        with pytest.raises(StartupError, match="on a CPU"):
            args(make_settings(**NO_MIN_P, **fields), CPU, facts("demo"))


# The demo model, and vLLM itself


def test_memory_of_the_demo_model_is_what_vllm_makes_of_it(
    settings: Settings, facts: Facts
) -> None:
    """vLLM's own arithmetic, from the config that it makes of these arguments."""
    import torch

    from yap.chat.tuning.engine_args import engine_config

    plan: Plan = planning.decide(settings, CPU, facts("demo"))
    config = engine_config(plan.engine_args)
    model, cache = config.model_config, config.cache_config
    bytes_a_token = (
        2
        * model.get_num_kv_heads(config.parallel_config)
        * model.get_head_size()
        * model.get_num_layers(config.parallel_config)
        * torch.bfloat16.itemsize
    )
    assert plan.memory.token == bytes_a_token
    assert plan.memory.kv_cache == cache.kv_cache_memory_bytes
