"""A tokenizer that cuts text by another family's rule is mended."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.gpu.dummy_model import make
from tests.unit.chat.tuning.test_model_facts import LLAMA_RULE
from yap.chat.tuning import model_facts
from yap.chat.tuning.tokenizer import tokenizer_of


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Mistral's: 131,072 tokens, cut as Llama 3 cuts."""
    folder = tmp_path_factory.mktemp("mistral")
    make(folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    split = {
        "type": "Split",
        "pattern": {"Regex": LLAMA_RULE + r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"},
        "behavior": "Isolated",
        "invert": False,
    }
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [split, level | {"use_regex": False}]
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    file.write_text(json.dumps(tokenizer))
    return folder


def pieces(tokenizer: Any, text: str) -> list[str]:
    return [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def test_words_are_cut_by_mistrals_rule(checkpoint: Path) -> None:
    from transformers import AutoTokenizer

    facts = model_facts.read(str(checkpoint), trust_remote_code=False)
    assert facts.wrong_split
    stock = AutoTokenizer.from_pretrained(checkpoint)
    assert pieces(stock, "I'm 2025 HelloWorld") == ["I", "'m", "Ġ", "202", "5", "ĠHelloWorld"]
    mended = tokenizer_of(SimpleNamespace(), facts, trust_remote_code=False)
    assert pieces(mended, "2025 HelloWorld") == ["2", "0", "2", "5", "ĠHello", "World"]
    for text in ("I'm 2025 HelloWorld", "Ça va?\n\n  oui"):
        assert mended.decode(mended.encode(text, add_special_tokens=False)) == text


def test_all_others_are_the_engines_own(checkpoint: Path) -> None:
    from tests.unit.chat.checkpoints import DEMO

    own = object()
    llm: Any = SimpleNamespace(get_tokenizer=lambda: own)
    facts = model_facts.read(str(DEMO), trust_remote_code=False)
    assert tokenizer_of(llm, facts, trust_remote_code=False) is own
