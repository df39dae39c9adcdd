"""Calibration data by name: what is registered, under which other names, and what a name means.

    open_platypus                     a registered name, an alias of one, or one with a fallback
    wikitext:wikitext-103-raw-v1      a registered name with another config (and :split)
    org/name@revision:config:split    a data set of the Hub; all but org/name may be left out
    texts.jsonl, ./texts/             a file or a folder of this machine

A file or folder that is there comes before a data set of the Hub, and a registered name before
both; "./c4" means the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quantization.errors import ExitCode, QuantizationError

DEFAULT: Final = "open_platypus"
BUNDLED: Final = "bundled"
# Rows of a file or of a split that are looked at; the seed draws from them.
WINDOW: Final = 50_000
_SMALL_WINDOW: Final = 8192  # where rows are in no order, and long

_SPEC: Final = re.compile(
    r"(?P<id>[\w.-]{1,96}(/[\w.-]{1,96})?)"
    r"(@(?P<revision>[\w./-]{1,120}))?"
    r"(:(?P<config>[\w.+-]{0,120}))?"
    r"(:(?P<split>[\w.+-]{1,120}))?"
)


@dataclass(frozen=True, slots=True)
class HubData:
    """Rows of a data set on the Hub.

    `config`, `split` and `files` (patterns of paths) are None where the data set's own card, or
    the names of its files, are to say; `revision` is a branch, tag or commit. `licence` is what the
    card said when this was written; the card of the revision that is read comes before it.
    """

    id: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    files: tuple[str, ...] | None = None
    licence: str | None = None
    window: int = WINDOW

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        tail = f":{self.config or ''}:{self.split}" if self.split else f":{self.config or ''}"
        return f"{self.id}{revision}{tail.rstrip(':')}"


@dataclass(frozen=True, slots=True)
class LocalData:
    """A file or a folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class BundledData:
    """The texts that come with the project."""

    def __str__(self) -> str:
        return BUNDLED


Data = HubData | LocalData | BundledData

# How a row becomes a text or a talk is told from its columns: quantization.calibration.rows.
REGISTERED: Final[Mapping[str, HubData | BundledData]] = {
    "open_platypus": HubData(
        "garage-bAInd/Open-Platypus",
        split="train",
        licence="several, by source; some parts are for non-commercial use only",
    ),
    "ultrachat_200k": HubData(
        "HuggingFaceH4/ultrachat_200k", split="train_sft", licence="mit", window=_SMALL_WINDOW
    ),
    "c4": HubData(
        "allenai/c4",
        config="en",
        split="validation",
        files=("en/c4-validation.00000-of-00008.json.gz",),
        licence="odc-by",
        window=_SMALL_WINDOW,
    ),
    "wikitext": HubData(
        "Salesforce/wikitext",
        config="wikitext-2-raw-v1",
        split="train",
        licence="cc-by-sa-3.0, gfdl",
    ),
    "gsm8k": HubData("openai/gsm8k", config="main", split="train", licence="mit"),
    "cnn_dailymail": HubData(
        "abisee/cnn_dailymail",
        config="3.0.0",
        split="validation",
        licence="apache-2.0",
        window=_SMALL_WINDOW,
    ),
    "evolcodealpaca": HubData(
        "theblackcat102/evol-codealpaca-v1", split="train", licence="apache-2.0"
    ),
    "perfectblend": HubData(
        "mlabonne/open-perfectblend", split="train", licence="apache-2.0", window=_SMALL_WINDOW
    ),
    BUNDLED: BundledData(),
}
ALIASES: Final[Mapping[str, str]] = {
    "open-platypus": "open_platypus",
    "openplatypus": "open_platypus",
    "ultrachat": "ultrachat_200k",
    "ultrachat-200k": "ultrachat_200k",
    "wikitext2": "wikitext",
    "wiki_text": "wikitext",
    "cnn-dailymail": "cnn_dailymail",
    "evol-codealpaca": "evolcodealpaca",
    "open-perfectblend": "perfectblend",
}
# Names that other quantizers use for data that is not taken here.
FALLBACKS: Final[Mapping[str, str]] = {
    "pileval": DEFAULT,
    "pile_val": DEFAULT,
    "pile": DEFAULT,
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name means: `effective` is the data's proper name, and `fallback_from` the name that
    another was taken for, where one was."""

    requested: str
    effective: str
    fallback_from: str | None
    data: Data


def resolve(name: str, *, offline: bool = False) -> Resolved:
    """What a name means, without looking at the Hub.

    Args:
        offline: take the bundled texts for whatever is on the Hub.

    Raises:
        QuantizationError: nothing has this name.
    """
    found = _resolve(name)
    if offline and isinstance(found.data, HubData):
        return Resolved(name, BUNDLED, found.effective, BundledData())
    return found


def _resolve(name: str) -> Resolved:
    asked = _SPEC.fullmatch(name)
    if asked is not None and "/" not in asked["id"]:
        key = asked["id"].lower()
        proper = FALLBACKS.get(key) or ALIASES.get(key, key)
        registered = REGISTERED.get(proper)
        if registered is not None:
            data = _with_parts(registered, asked, name)
            effective = proper if data == registered else str(data)
            return Resolved(name, effective, name if key in FALLBACKS else None, data)
    path = Path(name).expanduser()
    if path.exists():
        return Resolved(name, name, None, LocalData(path))
    if name.startswith(("/", "./", "../", "~")) or asked is None or "/" not in asked["id"]:
        raise QuantizationError(
            f'There is no calibration data "{name}": give a file, a folder, a data set of the Hub '
            f"such as org/name:config:split, or one of {', '.join(REGISTERED)}.",
            ExitCode.NOT_FOUND,
        )
    data = HubData(asked["id"], asked["config"] or None, asked["split"], asked["revision"])
    return Resolved(name, name, None, data)


def _with_parts(data: HubData | BundledData, asked: re.Match[str], name: str) -> Data:
    """A registered data set with the revision, config and split that the name says."""
    if not (asked["revision"] or asked["config"] or asked["split"]):
        return data
    if isinstance(data, BundledData):
        raise QuantizationError(
            f'The bundled texts have no parts: write "{BUNDLED}", not "{name}".', ExitCode.USAGE
        )
    return HubData(
        data.id,
        config=asked["config"] or data.config,
        split=asked["split"] or (None if asked["config"] else data.split),
        revision=asked["revision"],
        # The named files belong to the registered part.
        files=None if asked["config"] or asked["split"] else data.files,
        licence=data.licence,
        window=data.window,
    )
