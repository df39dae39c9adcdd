"""Tenants share the prefix cache for what is known to all of them, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.conftest import MakeSettings
from yap.access import KeyRing
from yap.chat.salts import CacheSalts
from yap.metrics import Metrics
from yap.server import Server

KEYS = KeyRing(["key-of-one", "key-of-another"])
ONE, ANOTHER = KEYS.check("key-of-one"), KEYS.check("key-of-another")


def test_a_tenant_has_one_salt_and_no_other_has_the_same() -> None:
    salts = CacheSalts()
    assert salts.of(ONE, "You are Anna.") == salts.of(ONE, "You are Marc.") == salts.of(ONE, None)
    assert salts.of(ONE, "You are Anna.") != salts.of(ANOTHER, "You are Anna.")


@pytest.mark.parametrize("persona", [None, "", "mine"])
def test_what_is_not_shared_is_salted(persona: str | None) -> None:
    salts = CacheSalts({"ours", ""}.__contains__)
    assert salts.of(ONE, "ours") is None
    assert salts.of(ONE, persona)  # the engine takes an empty salt for none


def test_a_salt_tells_nothing_of_the_key_and_does_not_outlive_the_process() -> None:
    first, second = CacheSalts().of(ONE, None), CacheSalts().of(ONE, None)
    assert first != second
    assert first is not None
    assert ONE.hex() not in first
    assert first not in ONE.hex()


async def test_the_personas_of_the_library_are_shared_as_they_are_now(
    make_settings: MakeSettings, metrics: Metrics, tmp_path: Path
) -> None:
    server = Server(make_settings(), metrics)
    anna = "You are Anna, a warm and friendly companion."
    salts = server.resources.salts
    assert salts.of(ONE, anna)
    server.personas._folder = tmp_path
    (tmp_path / "anna.md").write_text(
        "---\nname: anna\ntitle: Anna\ngender: female\npersonality: friendly\n---\n" + anna
    )
    server.personas.load()
    assert salts.of(ONE, anna) is None
    assert salts.of(ONE, anna + " And more.")
    await server.stop()
