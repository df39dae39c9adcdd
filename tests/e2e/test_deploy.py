"""What deploy/ asks the service for is really there: probes, metrics and their labels."""

from __future__ import annotations

import re
import urllib.request

import pytest

from tests.e2e.harness import ServerProcess
from tests.e2e.talk import talk
from tests.unit import deploy_files as deploy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ")
_LABEL = re.compile(r'([a-z_]+)="')


def scrape(server: ServerProcess) -> dict[str, set[str]]:
    """Every metric with the labels that it has."""
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        if sample := _SAMPLE.match(line):
            found.setdefault(sample[1], set()).update(_LABEL.findall(sample[2] or ""))
    return found


async def test_every_probe_is_answered(server: ServerProcess) -> None:
    paths = deploy.probe_paths()
    assert paths >= {"/readyz", "/livez"}
    assert {server.status(path) for path in paths} == {200}
    assert server.status("/nothing-of-this-name") != 200


async def test_every_metric_and_label_in_dashboards_and_alerts_is_exported(
    server: ServerProcess,
) -> None:
    async with talk(server) as client:
        await client.turn("Hi there! Tell me about tea.")
        await client.send("no frame")
        await client.until("error")
    exported = scrape(server)
    for place, query in deploy.queries().items():
        for metric in deploy.metrics_of(query):
            assert metric in exported, place
        known = {label for metric in deploy.metrics_of(query) for label in exported[metric]}
        assert deploy.labels_of(query) <= known, place
