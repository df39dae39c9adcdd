"""The compose files: known keys, no rights, nothing published that should not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit import deploy_files as deploy

FILES = ("compose.yaml", "compose.gpu.yaml")
# By the Compose specification, as far as it is used here.
SERVICE = frozenset(
    "image env_file environment ports read_only tmpfs volumes cap_drop security_opt secrets "
    "stop_grace_period restart healthcheck logging command depends_on shm_size ulimits "
    "deploy".split()
)
PARTS = {
    "healthcheck": frozenset("test interval timeout retries start_period".split()),
    "logging": frozenset("driver options".split()),
    "deploy": frozenset(["resources"]),
    "resources": frozenset(["reservations"]),
    "reservations": frozenset(["devices"]),
    "devices": frozenset("driver count capabilities device_ids".split()),
}


def read(name: str) -> Any:
    return deploy.document(deploy.COMPOSE / name)


def unknown(content: dict[str, Any]) -> Iterator[str]:
    """Keys that Compose does not know, by the name of what they stand in."""
    yield from content.keys() - {"name", "services", "volumes", "secrets"}
    for name, service in content["services"].items():
        yield from (f"{name}.{key}" for key in service.keys() - SERVICE)
        yield from _unknown_parts(service)


def _unknown_parts(node: Any) -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        for part in value if isinstance(value, list) else [value]:
            if name in PARTS and isinstance(part, dict):
                yield from (f"{name}.{key}" for key in part.keys() - PARTS[name])
            yield from _unknown_parts(part)


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_known(name: str) -> None:
    assert list(unknown(read(name))) == []


def test_a_misspelt_key_is_found() -> None:
    content = read("compose.yaml")
    content["services"]["yap"]["stop_grace_periods"] = "1s"
    content["services"]["yap"]["healthcheck"]["retry"] = 1
    assert set(unknown(content)) == {"yap.stop_grace_periods", "healthcheck.retry"}


def test_the_service_has_no_rights_and_a_root_that_is_read_only() -> None:
    for name in ("yap", "prometheus", "grafana"):
        service = read("compose.yaml")["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert read("compose.yaml")["services"]["yap"]["read_only"] is True


def test_ports_are_open_on_this_machine_only() -> None:
    for service in read("compose.yaml")["services"].values():
        for port in service.get("ports", []):
            assert "127.0.0.1:" in port
    assert "ports" not in read("compose.yaml")["services"]["prometheus"]


def test_volumes_and_files_are_there() -> None:
    content = read("compose.yaml")
    for service in content["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = source in content["volumes"] or (deploy.COMPOSE / source).is_dir()
            assert there, mount
        assert set(service.get("secrets", [])) <= content["secrets"].keys()


def test_grafana_finds_its_dashboard_where_compose_mounts_it() -> None:
    grafana = read("compose.yaml")["services"]["grafana"]
    mounted = {mount.split(":")[1] for mount in grafana["volumes"]}
    (provider,) = deploy.document(
        deploy.COMPOSE / "grafana" / "provisioning" / "dashboards" / "yap.yaml"
    )["providers"]
    assert provider["options"]["path"] in mounted
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, name = home.rsplit("/", 1)
    assert folder in mounted
    assert (deploy.COMPOSE / "grafana" / "dashboards" / name).is_file()


def test_the_gpu_variant_changes_the_same_service() -> None:
    changed = read("compose.gpu.yaml")["services"]
    assert changed.keys() <= read("compose.yaml")["services"].keys()
    (device,) = changed["yap"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_prometheus_scrapes_the_port_that_the_service_has() -> None:
    prometheus = deploy.document(deploy.COMPOSE / "prometheus" / "prometheus.yaml")
    (job,) = [job for job in prometheus["scrape_configs"] if job["job_name"] == "yap"]
    (found,) = job["dns_sd_configs"]
    (published,) = read("compose.yaml")["services"]["yap"]["ports"]
    assert published.endswith(f":{found['port']}")
    assert found["names"] == ["yap"]
    assert all(
        (deploy.COMPOSE / "prometheus" / name).is_file() for name in prometheus["rule_files"]
    )
