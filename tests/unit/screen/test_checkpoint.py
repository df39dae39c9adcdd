"""Any sequence classifier is served as the library runs it, or refused in words."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.screen.conftest import KINDS, POSITIONS, WORDS, MakeModel
from yap.errors import StartupError
from yap.screen.checkpoint import Checkpoint, Options, positive_label

TEXTS = ["", "w1", "w2 w3", " ".join(WORDS[:20]), " ".join(WORDS[30:80]), "w1 not-a-word w2"]
Load = Callable[..., Checkpoint]


@pytest.fixture
def load(make_screen_model: MakeModel) -> Load:
    """Loads a checkpoint on the CPU; the tiny one where no other is named."""

    def load(model: str | None = None, **options: Any) -> Checkpoint:
        folder = make_screen_model() if model is None else model
        return Checkpoint(Options(**({"model": folder, "device": "cpu"} | options)))

    return load


def probabilities(one: Checkpoint, texts: Sequence[str]) -> list[float]:
    return one.probabilities([one.token_ids(text) for text in texts])


def stock_probabilities(folder: str, texts: Sequence[str], label: int) -> list[float]:
    """What the library itself gives, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    answers = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        answers.append(float(torch.softmax(logits, dim=-1)[0, label]))
    return answers


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# Labels


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        (["other", "take_screenshot"], 1),
        (["take_screenshot", "other"], 0),
        (["LABEL_0", "LABEL_1"], 1),
        (["no", "yes"], 1),
        ([" Yes ", "No"], 0),
        (["negative", "POSITIVE"], 1),
        (["false", "true"], 1),
        (["none", "screenshot"], 1),
        (["no_screenshot", "screenshot"], 1),
    ],
)
def test_the_label_that_means_yes_is_found(labels: list[str], index: int) -> None:
    assert positive_label(dict(enumerate(labels))) == index


@pytest.mark.parametrize(
    "labels", [[], ["yes"], ["no", "maybe", "yes"], ["left", "right"], ["yes", "true"]]
)
def test_labels_that_do_not_tell_are_refused_in_words(labels: list[str]) -> None:
    with pytest.raises(StartupError, match=r"TOOL_MODEL.*id2label"):
        positive_label(dict(enumerate(labels)))


def test_the_probability_is_of_the_positive_label(load: Load, make_screen_model: MakeModel) -> None:
    second = load(make_screen_model(["other", "take_screenshot"]))
    first = load(make_screen_model(["take_screenshot", "other"]))
    for yes, no in zip(probabilities(second, TEXTS), probabilities(first, TEXTS), strict=True):
        assert yes + no == pytest.approx(1)
    assert probabilities(second, ["w1 w2"]) != pytest.approx([0.5], abs=1e-3)


# What is read


def test_earlier_lines_are_read_before_the_utterance(load: Load) -> None:
    one = load()
    assert one.token_ids("w1", ["w2 w3", "w4"]) == one.token_ids("w2 w3 w4 w1")
    assert one.token_ids("w1", ["w2"]) != one.token_ids("w1")


def test_an_input_has_the_special_tokens_of_the_model(load: Load) -> None:
    one = load()
    start, end = one.tokenizer.cls_token_id, one.tokenizer.sep_token_id
    assert one.token_ids("") == [start, end]
    assert one.token_ids("w0 w1") == [start, 4, 5, end]


@pytest.mark.parametrize(
    ("budget", "read"), [(0, "w1"), (1, "w4 w1"), (2, "w4 w1"), (3, "w2 w3 w4 w1")]
)
def test_history_is_kept_within_its_budget(load: Load, budget: int, read: str) -> None:
    one = load(history_tokens=budget)
    assert one.token_ids("w1", ["w9 w9", "w2 w3", "w4"]) == one.token_ids(read)


def test_of_a_text_too_long_the_newest_part_is_read(load: Load) -> None:
    one = load(max_length=16)
    newest = one.token_ids(" ".join(WORDS[-14:]))
    assert one.max_length == len(newest) == 16
    assert newest[0] == one.tokenizer.cls_token_id
    assert newest[-1] == one.tokenizer.sep_token_id
    assert one.token_ids(" ".join(WORDS)) == newest
    assert one.token_ids(" ".join(WORDS[-14:]), [WORDS[0]]) == newest
    assert one.token_ids(WORDS[-1], WORDS[:-1]) == newest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [POSITIONS, None])
def test_a_text_longer_than_the_model_can_read_is_cut_to_what_it_can(
    load: Load, make_screen_model: MakeModel, kind: str, limit: int | None
) -> None:
    """Not every tokenizer says how much its model can read; the model's config does."""
    one = load(make_screen_model(kind=kind, max_length=limit))
    ids = one.token_ids(" ".join(WORDS))
    assert len(ids) == one.max_length == POSITIONS
    assert ids == one.token_ids(" ".join(WORDS[-(POSITIONS - 2) :]))
    assert 0 <= one.probabilities([ids])[0] <= 1


def test_a_tokenizer_that_says_less_than_the_model_is_believed(
    load: Load, make_screen_model: MakeModel
) -> None:
    one = load(make_screen_model(max_length=20))
    assert one.max_length == len(one.token_ids(" ".join(WORDS))) == 20


@pytest.mark.parametrize("text", ["", " ", "\n", "not a known word", "\x00", "😀" * 50])
def test_any_text_gets_a_probability(load: Load, text: str) -> None:
    one = load()
    (answer,) = one.probabilities([one.token_ids(text, [text])])
    assert 0 <= answer <= 1


# What is answered


@pytest.mark.parametrize("kind", KINDS)
def test_the_probability_is_the_stock_models(
    load: Load, make_screen_model: MakeModel, kind: str
) -> None:
    folder = make_screen_model(kind=kind)
    one = load(folder)
    stock = stock_probabilities(folder, TEXTS, label=1)
    assert max(stock) > 1.1 * min(stock)  # the texts differ by far more than the tolerance
    assert probabilities(one, TEXTS) == pytest.approx(stock, rel=1e-4)
    alone = [probabilities(one, [text])[0] for text in TEXTS]
    assert alone == pytest.approx(stock, rel=1e-4)


@pytest.mark.parametrize("kind", ["longformer", "bert"])
def test_the_probability_is_the_stock_models_whichever_label_means_yes(
    load: Load, make_screen_model: MakeModel, kind: str
) -> None:
    folder = make_screen_model(["yes", "no"], kind=kind)
    assert probabilities(load(folder), TEXTS) == pytest.approx(
        stock_probabilities(folder, TEXTS, label=0), abs=1e-5
    )


def test_a_longformer_too_long_for_dense_scores_is_run_by_the_library(
    load: Load, make_screen_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yap.screen.checkpoint.DENSE_MAX_TOKENS", POSITIONS - 1)
    folder = make_screen_model()
    library = load(folder)
    dense = load(folder, max_length=POSITIONS - 1)
    assert isinstance(dense._forward, torch.nn.Module)
    assert not isinstance(library._forward, torch.nn.Module)
    assert probabilities(library, TEXTS) == pytest.approx(probabilities(dense, TEXTS), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_answers_nearly_the_same(load: Load, make_screen_model: MakeModel, kind: str) -> None:
    folder = make_screen_model(kind=kind)
    exact = probabilities(load(folder), TEXTS)
    rough = probabilities(load(folder, int8=True), TEXTS)
    assert rough == pytest.approx(exact, abs=0.1)
    assert rough != exact  # it is quantized indeed


def poison(folder: str) -> None:
    """Make the classification head's weights no numbers."""
    from safetensors.torch import load_file, save_file

    file = Path(folder) / "model.safetensors"
    weights = load_file(file)
    for name in [name for name in weights if name.startswith("classifier")]:
        weights[name] = torch.full_like(weights[name], math.nan)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["longformer", "bert"])
def test_a_model_that_gives_no_number_answers_that(
    load: Load, make_screen_model: MakeModel, kind: str
) -> None:
    folder = make_screen_model(kind=kind)
    poison(folder)
    answers = probabilities(load(folder), TEXTS)
    assert len(answers) == len(TEXTS)
    assert all(map(math.isnan, answers))


# What is refused


def test_a_model_with_three_labels_is_refused(load: Load, make_screen_model: MakeModel) -> None:
    with pytest.raises(StartupError, match=r"TOOL_MODEL.*two labels"):
        load(make_screen_model(["no", "maybe", "yes"]))


def test_a_folder_without_a_model_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "longformer"}))
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(str(tmp_path))


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_model_with_a_file_missing_is_refused(
    load: Load, make_screen_model: MakeModel, missing: str
) -> None:
    folder = make_screen_model()
    (Path(folder) / missing).unlink()
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)


def test_a_model_without_its_tokenizer_is_refused(load: Load, make_screen_model: MakeModel) -> None:
    folder = make_screen_model()
    for file in Path(folder).glob("tokenizer*"):
        file.unlink()
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)


def test_a_file_of_weights_that_is_broken_off_is_refused(
    load: Load, make_screen_model: MakeModel
) -> None:
    folder = make_screen_model()
    weights = Path(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)


def test_weights_that_are_not_of_the_config_are_refused(
    load: Load, make_screen_model: MakeModel
) -> None:
    folder = make_screen_model()
    edit_json(Path(folder) / "config.json", intermediate_size=24)
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)


@pytest.mark.parametrize("kind", ["longformer", "bert", "roberta"])
def test_a_model_that_was_never_made_a_classifier_is_refused(
    load: Load, make_screen_model: MakeModel, tmp_path: Path, kind: str
) -> None:
    """Its head would be random numbers, and its labels are the library's default ones."""
    from transformers import AutoModel, AutoTokenizer

    made = make_screen_model(["LABEL_0", "LABEL_1"], kind=kind)
    AutoModel.from_pretrained(made).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(made).save_pretrained(tmp_path)
    with pytest.raises(StartupError, match=r"TOOL_MODEL=.*not trained"):
        load(str(tmp_path))


def test_cuda_where_there_is_none_is_refused(load: Load) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(StartupError, match="TOOL_DEVICE=cuda"):
        load(device="cuda")
    assert 0 <= probabilities(load(device="auto"), ["w1"])[0] <= 1


# Code that comes with a checkpoint


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the code of a checkpoint makes where it is run; the library's copy of it goes there."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "was-run"


def add_code(folder: str, marker: Path, **config: Any) -> str:
    """Give the checkpoint code of its own: for its config, its model and its tokenizer."""
    place = Path(folder)
    (place / "own_code.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "import transformers\n"
        "class Config(transformers.LongformerConfig):\n    pass\n"
        "class Model(transformers.LongformerForSequenceClassification):\n"
        "    config_class = Config\n"
        "class Tokenizer(transformers.PreTrainedTokenizerFast):\n    pass\n"
    )
    classes = {
        "AutoConfig": "own_code.Config",
        "AutoModelForSequenceClassification": "own_code.Model",
    }
    edit_json(place / "config.json", auto_map=classes, **config)
    edit_json(
        place / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own_code.Tokenizer"]}
    )
    return folder


def test_a_checkpoints_code_is_not_run_where_the_library_can_do_without(
    load: Load, make_screen_model: MakeModel, marker: Path
) -> None:
    plain = probabilities(load(), TEXTS)
    one = load(add_code(make_screen_model(), marker))
    assert probabilities(one, TEXTS) == plain
    assert not marker.exists()


def test_a_checkpoint_that_needs_its_code_is_refused(
    load: Load, make_screen_model: MakeModel, marker: Path
) -> None:
    folder = add_code(make_screen_model(), marker, model_type="of-its-own")
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)
    assert not marker.exists()


def test_the_code_of_a_checkpoint_that_is_trusted_is_run(
    load: Load, make_screen_model: MakeModel, marker: Path
) -> None:
    one = load(add_code(make_screen_model(), marker), trust_remote_code=True)
    assert 0 <= probabilities(one, ["w1"])[0] <= 1
    assert marker.exists()


class _MakesAFile:
    """Unpickled, it makes a folder."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._file),)


def test_a_file_of_weights_that_would_run_code_is_refused(
    load: Load, make_screen_model: MakeModel, marker: Path
) -> None:
    folder = make_screen_model()
    (Path(folder) / "model.safetensors").unlink()
    torch.save({"weight": _MakesAFile(marker)}, Path(folder) / "pytorch_model.bin")
    with pytest.raises(StartupError, match="TOOL_MODEL="):
        load(folder)
    assert not marker.exists()


def test_a_control_token_that_a_user_writes_is_text() -> None:
    model = Path(__file__).resolve().parents[3] / "models" / "yap-screen-demo"
    demo = Checkpoint(Options(model=str(model), device="cpu"))
    control = set(demo.tokenizer.all_special_ids)
    ids = demo.token_ids("hey <pad> can </s> you <mask>", ["<s> hi"])
    assert not control & set(ids[1:-1])
