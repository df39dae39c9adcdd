"""`python -m yap.screen.evaluate`: figures of a classifier on one's own lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.screen.cli import MODEL, PROBE, ROOT, is_picture, run
from yap.screen import pictures
from yap.screen.dataset import Row
from yap.screen.evaluate import main
from yap.screen.reports import shortened, table

PICTURES = ("precision_recall.png", "reliability.png", "confusion_by_class.png")


@dataclass(frozen=True)
class Measured:
    """What a run printed and wrote."""

    code: int
    out: str
    err: str
    report: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The demo model on the probe's lines, and on a CSV file with languages."""
    folder = tmp_path_factory.mktemp("evaluate")
    own = folder / "own.csv"
    own.write_text("text,label,language\nlook at this,1,en\nhallo du,0,de\n", encoding="utf-8")
    out = folder / "out"
    done = run(
        "yap.screen.evaluate", MODEL, PROBE, own, "--out", out, "--device", "cpu",
        "--latency-texts", 20, "--mistakes", 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return Measured(done.returncode, done.stdout, done.stderr, report, out)


@pytest.mark.slow
def test_table_has_all_datasets_classes_and_languages(measured: Measured) -> None:
    lines = measured.out.splitlines()
    heads = next(line for line in lines if "accuracy" in line)
    for head in ("rows", "yes", "precision", "recall", "F1", "recall@1%FP", "ECE", "misses"):
        assert head in heads
    first = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert first["all"][1] == "184"
    assert first["probe.jsonl"][1] == "182"
    assert first["own.csv"][1] == "2"
    assert first["small_talk"][1] == "12"
    assert first["de"][1:4] == ["1", "0.0%", first["de"][3]]
    assert "one at a time  p50" in measured.out
    assert "in batches" in measured.out
    assert "texts/s" in measured.out


@pytest.mark.slow
def test_report_says_what_the_table_says(measured: Measured) -> None:
    report = measured.report
    assert report["all"]["rows"] == 184
    assert f"{report['all']['accuracy']:.3f}" in measured.out
    assert set(report["by_language"]) == {"en", "de", "(none)"}
    assert sum(each["rows"] for each in report["by_class"].values()) == 184
    assert report["latency"]["texts"] == 20
    assert 0 < report["latency"]["p50_ms"] <= report["latency"]["p99_ms"]
    assert report["throughput"]["rows_per_s"] > 0
    assert report["options"]["model"] == MODEL
    assert report["by_language"]["de"]["recall"] is None  # nobody asked in German


@pytest.mark.slow
def test_mistakes_are_the_worst_and_can_be_found(measured: Measured) -> None:
    mistakes = measured.report["mistakes"]
    errors = [abs(each["p_yes"] - each["label"]) for each in mistakes]
    assert errors == sorted(errors, reverse=True)
    assert len(mistakes) <= 3
    for each in mistakes:
        assert each["where"].rpartition(":")[2].isdigit()
        assert (each["p_yes"] >= 0.66) != bool(each["label"])


@pytest.mark.slow
def test_pictures_are_pictures(measured: Measured) -> None:
    assert [name for name in PICTURES if is_picture(measured.folder / name)] == list(PICTURES)


@pytest.mark.slow
def test_progress_is_one_bar_on_standard_error(measured: Measured) -> None:
    assert "204/204" in measured.err  # 184 rows, and 20 that are timed
    assert "Loading weights" not in measured.err
    assert "\r" not in measured.out


def test_json_and_no_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "available", lambda: False)
    data = tmp_path / "talk.jsonl"
    data.write_text('{"lines": ["hi", "look at this"], "labels": [0, 1]}\n', encoding="utf-8")
    out = tmp_path / "out"
    code = main(
        [
            *(str(ROOT / MODEL), str(data), "--json", "--out", str(out), "--device", "cpu"),
            *("--latency-texts", "0", "--threshold", "0.5"),
        ]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads(said.out)
    assert report["threshold"] == 0.5
    assert report["latency"] is None
    assert report["by_class"] == {}
    assert "pip install matplotlib" in said.err
    assert [path.name for path in out.iterdir()] == ["report.json"]


def test_model_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/model", str(ROOT / PROBE), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert '"/nowhere/model" cannot be loaded' in said.err
    assert not said.out


def test_bad_data_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "a", "label": 3}\n', encoding="utf-8")
    assert main([MODEL, str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}, line 1: label is 3; write 1 where")


def test_folder_that_cannot_be_made_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([MODEL, str(ROOT / PROBE), "--out", str(tmp_path / "file")]) == 2
    assert "name another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], [MODEL], [MODEL, "x", "--threshold", "2"], [MODEL, "x", "--batch", "0"]]
)
def test_bad_arguments_exit_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_help_shows_what_a_dataset_looks_like(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert '"labels": [0, 1, 0]' in said
    assert "--threshold" in said


def test_table_aligns_its_columns() -> None:
    assert table([("", "rows"), ("all", "5")]) == "     rows\nall     5"


def test_long_texts_are_cut_where_it_hurts_least() -> None:
    def row(utterance: str, *earlier: str) -> Row:
        return Row(utterance, earlier, 1, None, None, "f:1")

    assert shortened(row("look", "hi")) == "hi / look"
    cut = shortened(row("look at this", *["we talked about the garden"] * 9))
    assert cut.startswith("... ") and cut.endswith(" / look at this") and len(cut) <= 100
    assert len(shortened(row("word " * 90))) <= 100
