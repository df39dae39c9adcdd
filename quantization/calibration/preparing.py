"""Calibration data, from its name to the sequences that a quantizer is run on.

Which rows are used is told in quantization.calibration.selection, and how sequences are made of
them in quantization.calibration.packing.

With personas, a quarter of the sequences (rounded) are talks with them, and the rest is data; the
sequences are in an order drawn by the seed as well.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization.calibration import bundled, files, hub, personas, selection
from quantization.calibration.packing import Packed, pack
from quantization.calibration.registry import WINDOW, HubData, LocalData, Resolved, resolve
from quantization.calibration.rendering import Renderer
from quantization.errors import ExitCode, QuantizationError
from quantization.writing import write_json, write_whole

Progress = Callable[[str, int, int], None]

# Raised when the same request comes to mean other sequences.
_VERSION: Final = 1
_LEAST_SEQUENCE: Final = 16  # tokens of all there is
_PERSONA_SHARE: Final = 4  # one sequence in so many
_STEP: Final = "calibrate"
_ROWS: Final = "calibration.jsonl"
_RECORD: Final = "calibration.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What to calibrate on: `samples` sequences of `sequence_length` tokens at most.

    `dataset` is what quantization.calibration.registry reads. `offline`: take the bundled texts
    for what is on the Hub. `personas` is a folder, and is mixed in where it is given.
    """

    dataset: str
    samples: int
    sequence_length: int
    personas: Path | None = None
    offline: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Token ids, a list for each sequence, and the record of where they come from.

    `record` is JSON: `dataset` (requested, effective, fallback_from), `source`, `location`,
    `revision`, `sha256`, `licence`, `samples`, `tokens`, `rows` (counts), `personas`, `seed`,
    `notes` (sentences for people) and `identity`.
    """

    rows: list[list[int]]
    record: dict[str, Any]


def identity(request: Request) -> dict[str, str]:
    """What decides the sequences besides the tokenizer, known before anything is loaded.

    Of a data set on the Hub that is its present commit, which takes one request; with
    HF_HUB_OFFLINE the commit in the local cache.

    Raises:
        QuantizationError: there is no such data, or the Hub does not answer.
    """
    found = resolve(request.dataset, offline=request.offline)
    said = {
        "version": str(_VERSION),
        "samples": str(request.samples),
        "sequence_length": str(request.sequence_length),
        "seed": str(request.seed),
    }
    if isinstance(found.data, HubData):
        said |= {"dataset": f"hub:{found.data}", "revision": hub.head(found.data)}
    elif isinstance(found.data, LocalData):
        said |= {"dataset": "file", "sha256": files.digest(found.data.path)}
    else:
        said |= {"dataset": str(found.data), "sha256": files.digest(bundled.CALIBRATION)}
    if request.personas is not None:
        own = {voice.name for voice in personas.read(request.personas) if voice.talks}
        said["personas"] = personas.digest(request.personas)
        said["persona_talks"] = ", ".join(sorted(own)) or files.digest(bundled.CALIBRATION)
    return said


def prepare(
    request: Request,
    tokenizer: Any,
    work: Path,
    progress: Progress,
    known: Mapping[str, str] | None = None,
) -> CalibrationSet:
    """The calibration sequences, written to `work` as calibration.jsonl and calibration.json.

    What is there already is taken, if it was made for the same data.

    Args:
        tokenizer: the model's, of transformers.
        work: a folder of the run's own.
        progress: told the step, sequences made and sequences wanted.
        known: what `identity` told earlier, so that the same revision is read.

    Raises:
        QuantizationError: the data cannot be had or read, or holds next to nothing.
    """
    known = dict(known) if known is not None else identity(request)
    there = load(work)
    if there is not None and there.record["identity"] == known:
        return there
    made = _make(request, tokenizer, progress, known)
    _store(made, work)
    return made


def load(work: Path) -> CalibrationSet | None:
    """What `prepare` wrote; None where that is missing or not whole."""
    try:
        raw = (work / _ROWS).read_bytes()
        record = json.loads((work / _RECORD).read_text(encoding="utf-8"))
        if record["rows_sha256"] != hashlib.sha256(raw).hexdigest():
            return None
        return CalibrationSet([json.loads(line) for line in raw.splitlines()], record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(made: CalibrationSet, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    raw = "".join(f"{json.dumps(row)}\n" for row in made.rows).encode()
    made.record["rows_sha256"] = hashlib.sha256(raw).hexdigest()
    write_whole(work / _ROWS, raw)
    write_json(work / _RECORD, made.record)  # last: with it the set counts as whole


# --- how it is made ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opened:
    """Rows to be read, and what the record says of them."""

    rows: Iterator[files.Row]
    window: int
    facts: dict[str, Any]


def _make(
    request: Request, tokenizer: Any, progress: Progress, known: Mapping[str, str]
) -> CalibrationSet:
    progress(_STEP, 0, request.samples)
    found = resolve(request.dataset, offline=request.offline)
    opened = _open(found, known)
    renderer = Renderer(tokenizer, request.sequence_length)
    counts: Counter[str] = Counter()
    voices = personas.read(request.personas) if request.personas is not None else []
    spoken = _spoken(request, voices, renderer, counts) if voices else Packed()
    wanted = request.samples - len(spoken.sequences)
    read = selection.read(opened.rows, opened.window, counts, str(found.data))
    random.Random(request.seed).shuffle(read)  # noqa: S311 - a draw, not a secret
    plain = _plain(request, wanted, selection.encoded(read, renderer, counts), progress)
    if wanted and plain.tokens < _LEAST_SEQUENCE:
        raise QuantizationError(
            f'The calibration data "{request.dataset}" holds next to no text ({plain.tokens} '
            f"tokens in {counts['read']} rows; {selection.left_out(counts)}): name other data with "
            "--dataset.",
            ExitCode.USAGE,
        )
    sequences = [*plain.sequences, *spoken.sequences]
    random.Random(request.seed).shuffle(sequences)  # noqa: S311 - a draw, not a secret
    progress(_STEP, request.samples, request.samples)
    record = {
        "version": _VERSION,
        "dataset": {
            "requested": found.requested,
            "effective": found.effective,
            "fallback_from": found.fallback_from,
        },
        **opened.facts,
        "offline": request.offline,
        "chat_template": renderer.has_template,
        "samples_requested": request.samples,
        "samples": len(sequences),
        "sequence_length": request.sequence_length,
        "tokens": sum(map(len, sequences)),
        "seed": request.seed,
        "rows": {"window": opened.window, **selection.all_counts(counts), "used": plain.documents},
        "personas": _persona_record(request, voices, spoken),
        "notes": _notes(request, found, sequences, counts, opened),
        "identity": dict(known),
    }
    return CalibrationSet(sequences, record)


def _plain(
    request: Request, wanted: int, encoded: Iterator[list[int]], progress: Progress
) -> Packed:
    """Sequences of the data itself; those with personas are made before them."""

    def reported() -> Iterator[list[int]]:
        tokens = 0
        for ids in encoded:
            tokens += len(ids)
            done = min(wanted, tokens // request.sequence_length)
            progress(_STEP, request.samples - wanted + done, request.samples)
            yield ids

    return pack(reported(), wanted, request.sequence_length)


def _open(found: Resolved, known: Mapping[str, str]) -> _Opened:
    data = found.data
    if isinstance(data, HubData):
        located = hub.find(data, known.get("revision"))
        facts = {
            "source": "hub",
            "location": located.id,
            "config": located.config,
            "split": located.split,
            "files": list(located.files),
            "revision": located.commit,
            "sha256": None,
            "licence": located.licence,
        }
        return _Opened(located.rows(), data.window, facts)
    if isinstance(data, LocalData):
        paths = files.files_of(data.path)
        rows = (row for path in paths for row in files.rows(path))
        facts = _local_facts("file", str(data.path), len(paths), known)
        return _Opened(rows, WINDOW, facts)
    facts = _local_facts("bundled", bundled.CALIBRATION.name, 1, known)
    return _Opened(
        files.rows(bundled.CALIBRATION),
        WINDOW,
        {**facts, "licence": bundled.LICENCE},
    )


def _local_facts(
    source: str, location: str, count: int, known: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "source": source,
        "location": location,
        "config": None,
        "split": None,
        "files": count,
        "revision": None,
        "sha256": known.get("sha256"),
        "licence": None,
    }


def _spoken(
    request: Request, voices: Sequence[personas.Voice], renderer: Renderer, counts: Counter[str]
) -> Packed:
    wanted = round(request.samples / _PERSONA_SHARE)
    room = request.sequence_length // 2
    talks = personas.talks(voices, room, renderer.count, request.seed)
    rendered = (renderer.ids(talk) for _, talk in talks)
    kept = (ids for ids in rendered if ids is not None and len(ids) >= selection.LEAST)
    packed = pack(kept, wanted, request.sequence_length)
    if wanted and not packed.sequences:
        counts["refused"] += len(talks)
    return packed


def _persona_record(
    request: Request, voices: Sequence[personas.Voice], spoken: Packed
) -> dict[str, Any] | None:
    if request.personas is None:
        return None
    return {
        "folder": str(request.personas),
        "sha256": personas.digest(request.personas),
        "names": [voice.name for voice in voices],
        "own_talks": sorted(voice.name for voice in voices if voice.talks),
        "samples": len(spoken.sequences),
        "talks": spoken.documents,
        "how": f"one sequence in {_PERSONA_SHARE}; a persona without talks of its own has the "
        "bundled ones; a prompt has half of a sequence at most",
    }


def _notes(
    request: Request,
    found: Resolved,
    sequences: Sequence[Sequence[int]],
    counts: Counter[str],
    opened: _Opened,
) -> list[str]:
    notes = []
    if opened.facts["source"] == "bundled" and found.fallback_from:
        notes.append(
            f'Offline: the bundled texts were taken for "{found.requested}"; without --offline it '
            "is fetched from the Hub."
        )
    elif found.fallback_from:
        notes.append(f'"{found.requested}" is not taken here: {found.effective} was, in its place.')
    if len(sequences) < request.samples:
        notes.append(
            f"{request.samples} samples were asked for, and the texts are enough for "
            f"{len(sequences)}."
        )
    if counts["not_understood"] or counts["refused"]:
        notes.append(f"Rows were left out: {selection.left_out(counts)}.")
    return notes
