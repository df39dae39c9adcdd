"""`python -m yap.screen.calibrate`: the threshold that costs least on one's own lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.unit.screen.cli import MODEL, PROBE, is_picture, run
from yap.screen.calibrate import main

COSTS = ("--false-capture-cost", "3", "--miss-cost", "1")


@pytest.mark.slow
def test_chooses_a_threshold_and_says_what_it_costs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "yap.screen.evaluate", "calibrate", MODEL, PROBE, *COSTS, "--out", out, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
    printed = re.search(r"^TOOL_DECISION_THRESHOLD=(\S+)$", done.stdout, re.MULTILINE)
    assert printed and float(printed[1]) == found["threshold"]
    assert 0 <= found["threshold"] <= 1
    for interval, value in (("threshold", found["threshold"]), ("cost", found["cost"])):
        drawn = found["bootstrap"][interval]
        assert drawn["low"] <= value <= drawn["high"]
    assert min(each["cost"] for each in found["neighbours"]) == found["cost"]
    for each in found["neighbours"]:
        mistakes = 3 * each["false_captures"] + each["misses"]
        assert each["cost"] == pytest.approx(mistakes / found["rows"])
    assert found["calibration"]["log_loss_after"] <= found["calibration"]["log_loss_before"]
    assert "does not change the checkpoint" in done.stdout
    assert "default" in done.stdout
    assert "182/182" in done.stderr
    assert is_picture(out / "cost_curve.png")


def _main(tmp_path: Path, labels: list[int], *more: str) -> int:
    data = tmp_path / "data.jsonl"
    lines = (json.dumps({"text": "hello", "label": label}) for label in labels)
    data.write_text("\n".join(lines), encoding="utf-8")
    return main([MODEL, str(data), *COSTS, *more])


def test_too_few_rows_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(tmp_path, [0, 1] * 24) == 2
    assert capsys.readouterr().err.startswith("There are 48 rows, too few")


def test_one_label_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(tmp_path, [1] * 60) == 2
    assert capsys.readouterr().err.startswith("All 60 rows have label 1")


@pytest.mark.parametrize("cost", ["0", "-1", "nan", "inf", "much"])
def test_costs_are_numbers_above_nought(tmp_path: Path, cost: str) -> None:
    with pytest.raises(SystemExit) as caught:
        _main(tmp_path, [0, 1], "--miss-cost", cost)
    assert caught.value.code == 2


def test_costs_must_be_given() -> None:
    with pytest.raises(SystemExit) as caught:
        main([MODEL, PROBE])
    assert caught.value.code == 2
