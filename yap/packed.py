"""What a Bento carries: its mode and the fixed versions of its models.

`scripts/build.sh` writes `packed.json` beside service.py into the Bento; a checkout has none. The
environment goes before it: CHAT_MODEL, TOOL_MODEL and DEPLOY_MODELS mean there what they mean
everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yap.setting_kinds import ROOT

# Nothing is fetched where all that is served is in the Bento.
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_WORDS = {"chat_model": "chat model", "tool_model": "screen classifier"}


@dataclass(frozen=True, slots=True)
class Packed:
    """`mode` is both, chat or tool; `models` holds the tag of each model that is packed, by the
    name of its setting. `store` is where the Bento brings its models, in an image.
    """

    mode: str
    models: Mapping[str, str]
    store: Path

    def defaults(self) -> dict[str, str]:
        """Values of the settings that are not set."""
        found = {name: str(self.folder(tag)) for name, tag in self.models.items()}
        return {"deploy_models": self.mode, **found}

    def folder(self, tag: str) -> Path:
        """Where a packed model is: in the Bento itself, else in BentoML's store."""
        own = self.store / tag.replace(":", "/")
        if own.is_dir():
            return own
        from bentoml._internal.configuration.containers import BentoMLContainer

        return Path(BentoMLContainer.model_store_dir.get()) / tag.replace(":", "/")

    def lacks(self, mode: str, named: Container[str]) -> str:
        """Why `mode` cannot be served when only the settings in `named` are set; else empty."""
        needed = {"both": ("chat_model", "tool_model"), "chat": ("chat_model",)}
        for name in needed.get(mode, ("tool_model",)):
            if name not in self.models and name not in named:
                return (
                    f"DEPLOY_MODELS={mode} needs the {_WORDS[name]}, which this Bento does not "
                    f"carry (it was built for {self.mode}): leave DEPLOY_MODELS out, set "
                    f"{name.upper()} to a folder, or take a Bento built for {mode}"
                )
        return ""


def read(root: Path = ROOT) -> Packed | None:
    """What the Bento that this code is in carries; None in a checkout.

    Raises:
        ValueError: packed.json is not what `scripts/build.sh` writes.
    """
    try:
        text = (root / "packed.json").read_text(encoding="utf-8")
    except OSError:
        return None
    found: dict[str, Any] = json.loads(text)
    models = {name: str(found[name]) for name in _WORDS if found.get(name)}
    return Packed(str(found["mode"]), models, root.parent / "models")


def environment() -> list[dict[str, str]]:
    """What the service's processes get in their environment, as BentoML takes it."""
    if read() is None:
        return []
    return [{"name": name, "value": value} for name, value in _OFFLINE.items()]
