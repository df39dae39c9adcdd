"""The demo classifier's card is of the model that lies beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

MODEL = Path(__file__).parents[3] / "models" / "yap-screen-demo"
MOST_PICTURE_BYTES = 60_000


def _json(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MODEL / name).read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def card() -> str:
    return (MODEL / "README.md").read_text(encoding="utf-8")


def test_it_describes_this_model(card: str) -> None:
    config = _json("config.json")
    assert _json("metrics.json")["config"] == config
    assert f"{config['num_hidden_layers']} layers, width {config['hidden_size']}" in card
    assert f"{config['vocab_size']:,} entries" in card
    sizes = []
    with safe_open(MODEL / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - it is not a mapping
            size = 1
            for length in weights.get_slice(name).get_shape():
                size *= length
            sizes.append(size)
    assert f"| parameters | {sum(sizes):,}," in card


def test_it_tells_how_this_model_was_trained(card: str) -> None:
    training = _json("training.json")
    assert training["trained_at"] in card
    assert f"({training['temperature']})" in card
    for stage in (training, training["before"]):
        for option in ("steps", "minutes", "seed"):
            assert re.search(rf"--{option}\s[\s\\]*{stage['settings'][option]}\s", card)


def test_it_gives_the_measured_figures(card: str) -> None:
    for name, figures in _json("metrics.json")["quality"].items():
        accuracy, recall = f"{figures['accuracy']:.3f}", f"{figures['recall']:.3f}"
        row = rf"\| {figures['rows']:,} \| {figures['positives']:,} \| {accuracy} .* {recall} "
        assert re.search(row, card), name


def test_its_pictures_are_there_and_small(card: str) -> None:
    shown = re.findall(r"\]\((\w+\.png)\)", card)
    assert sorted(shown) == sorted(path.name for path in MODEL.glob("*.png"))
    assert len(shown) == 5
    for name in shown:
        data = (MODEL / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < MOST_PICTURE_BYTES, name
