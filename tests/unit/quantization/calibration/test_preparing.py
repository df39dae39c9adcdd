"""Calibration data as a whole: sequences, record, identity; with the demo model's tokenizer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from quantization.calibration import (
    CalibrationSet,
    Request,
    bundled,
    held_out,
    identity,
    load,
    personas,
    prepare,
    preparing,
)
from quantization.calibration.rows import Talk
from quantization.errors import ExitCode, QuantizationError
from tests.unit.chat.checkpoints import DEMO

PERSONAS = DEMO.parents[1] / "prompts" / "personas"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(DEMO)


def silent(step: str, done: int, total: int) -> None:
    pass


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def story(number: int, words: int = 30) -> dict[str, str]:
    return {"text": f"Story {number}: " + " ".join(f"word{number}x{n}" for n in range(words))}


def made(request: Request, tokenizer: Any, work: Path) -> CalibrationSet:
    return prepare(request, tokenizer, work, silent)


# --- sequences --------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_sequences(tmp_path: Path, tokenizer: Any) -> None:
    name = write(tmp_path / "a.jsonl", *map(story, range(60)))
    sets = [
        made(Request(name, 8, 64, seed=seed), tokenizer, tmp_path / str(number)).rows
        for number, seed in enumerate((0, 0, 1))
    ]
    assert sets[0] == sets[1] != sets[2]
    assert [len(row) for row in sets[0]] == [64] * 8


def test_what_is_left_out_is_counted(tmp_path: Path, tokenizer: Any) -> None:
    kept = bundled.documents(bundled.HELD_OUT)[-1]
    name = write(
        tmp_path / "a.jsonl",
        story(1),
        {"text": story(1)["text"].replace(" ", "  ")},
        {"text": " "},
        {"text": "Too short."},
        {"pixels": [1]},
        {"messages": [{"role": "user", "content": "Anybody?"}]},
        {"text": str(kept)},
    )
    found = made(Request(name, 4, 64), tokenizer, tmp_path / "work").record
    assert found["rows"] == {
        "window": 50_000,
        "read": 7,
        "empty": 2,
        "not_understood": 1,
        "duplicate": 1,
        "held_out": 1,
        "refused": 0,
        "short": 1,
        "used": 1,
    }
    assert any("4 samples were asked for" in note for note in found["notes"])
    assert any("1 not understood" in note for note in found["notes"])


def test_talks_go_through_the_chat_template(tmp_path: Path, tokenizer: Any) -> None:
    name = write(
        tmp_path / "a.jsonl", {"instruction": "Name a colour of the sea.", "output": "Green."}
    )
    rows = made(Request(name, 1, 64), tokenizer, tmp_path / "work").rows
    assert tokenizer.decode(rows[0]) == (
        "<|im_start|>user\nName a colour of the sea.<|im_end|>\n"
        "<|im_start|>assistant\nGreen.<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "next to no text"),
        ([{"text": "Hi."}], "next to no text .* 1 short"),
        ([{"pixels": [1]}, {"pixels": [2]}], r"a\.jsonl:1 is a row with pixels"),
    ],
)
def test_data_that_is_none(tmp_path: Path, tokenizer: Any, rows: list[Any], says: str) -> None:
    name = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(QuantizationError, match=says) as caught:
        made(Request(name, 4, 64), tokenizer, tmp_path / "work")
    assert caught.value.code is ExitCode.USAGE
    assert load(tmp_path / "work") is None


def test_a_long_file_is_read_as_far_as_its_window(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "WINDOW", 10)
    path = tmp_path / "a.jsonl"
    write(path, *map(story, range(10)))
    with path.open("a") as stream:
        stream.write("what stands behind the window is never read\n")
    assert (
        made(Request(str(path), 99, 64), tokenizer, tmp_path / "work").record["rows"]["read"] == 10
    )


def test_progress_ends_where_it_said(tmp_path: Path, tokenizer: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    name = write(tmp_path / "a.jsonl", *map(story, range(60)))
    prepare(Request(name, 8, 64), tokenizer, tmp_path / "w", lambda *said: seen.append(said))
    assert seen[0] == ("calibrate", 0, 8) and seen[-1] == ("calibrate", 8, 8)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


# --- offline, fallbacks -----------------------------------------------------------------------


def test_offline_the_bundled_texts_are_taken_and_named(tmp_path: Path, tokenizer: Any) -> None:
    found = made(Request("pileval", 16, 128, offline=True), tokenizer, tmp_path).record
    assert found["dataset"] == {
        "requested": "pileval",
        "effective": "bundled",
        "fallback_from": "open_platypus",
    }
    assert found["source"] == "bundled" and found["licence"] == "apache-2.0" and found["offline"]
    assert "bundled texts were taken" in found["notes"][0]
    assert found["samples"] == 16 and found["tokens"] == 16 * 128


def test_without_it_an_unreachable_hub_is_an_error(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for action in (identity, lambda request: made(request, tokenizer, tmp_path)):
        with pytest.raises(QuantizationError, match="--offline") as caught:
            action(Request("open_platypus", 16, 128))
        assert caught.value.code is ExitCode.UNREACHABLE
    assert list(tmp_path.iterdir()) == []


# --- the bundled texts ------------------------------------------------------------------------


def test_the_bundled_texts_are_many_small_and_apart() -> None:
    calibration = bundled.documents(bundled.CALIBRATION)
    apart = bundled.documents(bundled.HELD_OUT)
    assert len(calibration) + len(apart) >= 200
    assert bundled.CALIBRATION.stat().st_size + bundled.HELD_OUT.stat().st_size < 300_000
    marks = Counter(map(bundled.mark, [*calibration, *apart]))
    assert set(marks.values()) == {1}
    for documents in (calibration, apart):
        talks = sum(isinstance(one, Talk) for one in documents)
        assert len(documents) / 4 < talks < len(documents) * 3 / 4


def test_held_out_rows_are_documents_of_their_own(tokenizer: Any) -> None:
    rows = held_out(tokenizer, 512)
    assert len(rows) == len(bundled.documents(bundled.HELD_OUT))
    assert sum(map(len, rows)) > 3000
    assert rows == held_out(tokenizer, 512)
    assert [row[:20] for row in rows] == held_out(tokenizer, 20)
    few = held_out(tokenizer, 512, most_tokens=500)
    assert few == rows[: len(few)] and sum(map(len, few)) <= 500
    assert len(held_out(tokenizer, 512, most_tokens=1)) == 1


def test_rows_of_ones_own_for_the_gauge(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "own.jsonl"
    write(path, story(1), {"text": ""}, story(2))
    rows = held_out(tokenizer, 512, path=path)
    assert [tokenizer.decode(row)[:8] for row in rows] == ["Story 1:", "Story 2:"]
    write(path, story(1), {"pixels": [1]})
    with pytest.raises(QuantizationError, match=r"own\.jsonl:2 is a row with pixels"):
        held_out(tokenizer, 512, path=path)


# --- personas ---------------------------------------------------------------------------------


def test_a_quarter_are_talks_with_the_personas(tmp_path: Path, tokenizer: Any) -> None:
    request = Request("bundled", 32, 128, personas=PERSONAS)
    found = made(request, tokenizer, tmp_path)
    assert found.record["personas"]["samples"] == 8
    assert found.record["personas"]["names"] == ["anna", "june", "marc", "mira", "otis", "theo"]
    names = ("You are Anna", "You are June", "You are Marc", "You are Mira", "Otis", "Theo")
    texts = [tokenizer.decode(row) for row in found.rows]
    opened = [
        text
        for text in texts
        if "<|im_start|>system" in text[:30] and any(n in text for n in names)
    ]
    assert len(opened) == 8
    for text in opened:  # the prompt leaves room for what is said
        assert "<|im_start|>user" in text


def test_a_persona_may_bring_its_own_talks(tmp_path: Path, tokenizer: Any) -> None:
    for name in ("anna.md", "june.md"):
        (tmp_path / name).write_bytes((PERSONAS / name).read_bytes())
    own = {"prompt": "Where do you live?", "response": "In Lisbon, above a bakery, as it were."}
    write(tmp_path / "anna.jsonl", own)
    voices = personas.read(tmp_path)
    assert [(voice.name, len(voice.talks)) for voice in voices] == [("anna", 1), ("june", 0)]
    found = personas.talks(voices, 10**6, len, seed=0)
    of_anna = [talk for name, talk in found if name == "anna"]
    assert [str(talk).partition("user: ")[2][:18] for talk in of_anna] == ["Where do you live?"]
    assert len(found) > 50 and str(of_anna[0]).startswith("system: You are Anna")
    record = made(Request("bundled", 8, 128, personas=tmp_path), tokenizer, tmp_path / "w").record
    assert record["personas"]["own_talks"] == ["anna"]


def test_the_folder_around_the_personas_will_do() -> None:
    assert personas.read(PERSONAS.parent) == personas.read(PERSONAS)
    assert personas.digest(PERSONAS.parent) == personas.digest(PERSONAS)


def test_prompts_are_cut_at_paragraphs_then_at_sentences() -> None:
    prompt = "One. Two.\n\nThree three three. Four.\n\nFive."
    words = lambda text: len(text.split())  # noqa: E731 - a tokenizer that counts words
    assert personas.fitted(prompt, 99, words) == prompt
    assert personas.fitted(prompt, 6, words) == "One. Two.\n\nThree three three. Four."
    assert personas.fitted(prompt, 5, words) == "One. Two."
    assert personas.fitted("One two. Three four five.", 3, words) == "One two."
    assert personas.fitted("One two three.", 1, words) == "One two three."


@pytest.mark.parametrize(
    ("files", "says", "code"),
    [
        ({}, "holds no persona", ExitCode.NOT_FOUND),
        ({"a.md": "no front matter"}, r"a\.md:1: the file must begin", ExitCode.USAGE),
        ({"anna.md": None, "anna.jsonl": '{"text": "plain"}\n'}, r"anna\.jsonl:1", ExitCode.USAGE),
        ({"anna.md": None, "anna.jsonl": '{"text": \n'}, r"anna\.jsonl:1 is not", ExitCode.DAMAGED),
    ],
)
def test_persona_folders_that_cannot_be(
    tmp_path: Path, files: dict[str, str | None], says: str, code: ExitCode
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text if text is not None else (PERSONAS / name).read_text())
    with pytest.raises(QuantizationError, match=says) as caught:
        personas.read(tmp_path)
    assert caught.value.code is code and "\n" not in caught.value.message


# --- identity and work folder -----------------------------------------------------------------


def test_identity_follows_whatever_changes_the_sequences(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, story(1))
    base = Request(str(path), 8, 64)
    others = [
        Request(str(path), 9, 64),
        Request(str(path), 8, 65),
        Request(str(path), 8, 64, seed=1),
        Request(str(path), 8, 64, personas=PERSONAS),
        Request("bundled", 8, 64),
    ]
    found = [json.dumps(identity(request), sort_keys=True) for request in [base, *others]]
    assert len(set(found)) == len(found)
    # Where the same texts lie, or by which name they are asked for, changes nothing.
    copy = tmp_path / "b.jsonl"
    copy.write_bytes(path.read_bytes())
    assert identity(Request(str(copy), 8, 64)) == identity(base)
    offline = [identity(Request(name, 8, 64, offline=True)) for name in ("c4", "bundled")]
    assert offline[0] == offline[1]
    write(path, story(2))
    assert json.dumps(identity(base), sort_keys=True) != found[0]


def test_what_is_there_is_taken_if_it_fits_and_is_whole(tmp_path: Path, tokenizer: Any) -> None:
    name, work = write(tmp_path / "a.jsonl", *map(story, range(40))), tmp_path / "work"
    first = made(Request(name, 4, 64), tokenizer, work)
    written = (work / "calibration.json").stat().st_mtime_ns
    assert made(Request(name, 4, 64), tokenizer, work) == first
    assert (work / "calibration.json").stat().st_mtime_ns == written
    # Cut off, as by a full disk: it is made anew.
    rows = work / "calibration.jsonl"
    rows.write_bytes(rows.read_bytes()[:-30])
    assert load(work) is None
    assert made(Request(name, 4, 64), tokenizer, work) == first == load(work)
    # Other data: too.
    assert len(made(Request(name, 3, 64), tokenizer, work).rows) == 3
