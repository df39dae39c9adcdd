"""What the files in deploy/ say, for the tests that hold them against the service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
BENTOCLOUD = DEPLOY / "bentocloud"

# deploy/docker has tests of its own.
FILES = tuple(
    path
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and DEPLOY / "docker" not in path.parents
)

# A metric is always followed by its labels or its range in these files.
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?=[{\[])")
_LABEL = re.compile(r'[{,]\s*([a-z_]+)\s*(=~|!~|=|!=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def document(path: Path) -> Any:
    """The only document of a YAML file."""
    (only,) = documents(path)
    return only


def env_file(path: Path, *, commented: bool = False) -> dict[str, str]:
    """The variables of an env file; with `commented`, also those that are shown as comments."""
    pattern = r"^#?([A-Z][A-Z0-9_]+)=(.*)$" if commented else r"^([A-Z][A-Z0-9_]+)=(.*)$"
    return dict(re.findall(pattern, path.read_text(), re.MULTILINE))


def named(items: list[Mapping[str, str]]) -> dict[str, str]:
    """A list of name and value as Kubernetes and BentoCloud write it."""
    return {item["name"]: item.get("value", "") for item in items}


def settings_files() -> dict[str, dict[str, str]]:
    """Every place in deploy/ that gives the service settings, with what it gives."""
    found = {
        "compose": env_file(COMPOSE / "yap.env.example", commented=True),
        "kubernetes": env_file(KUBERNETES / "base" / "settings.env"),
    }
    for overlay in sorted((KUBERNETES / "overlays").iterdir()):
        for generator in document(overlay / "kustomization.yaml").get("configMapGenerator", []):
            pairs = (literal.partition("=")[::2] for literal in generator.get("literals", []))
            found[f"kubernetes {overlay.name}"] = dict(pairs)
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    found["kubernetes deployment"] = named(container["env"])
    main, canary = (document(BENTOCLOUD / name) for name in ("deployment.yaml", "canary.yaml"))
    found["bentocloud"] = named(main["envs"])
    for version, content in canary["canary"]["versions"].items():
        found[f"bentocloud {version}"] = named(content["envs"])
    return found


def deployment() -> Any:
    """The Kubernetes Deployment."""
    return document(KUBERNETES / "base" / "deployment.yaml")


def dashboards() -> Iterator[Any]:
    """Grafana's dashboards."""
    for path in sorted((COMPOSE / "grafana" / "dashboards").glob("*.json")):
        yield json.loads(path.read_text())


def alerts() -> list[Any]:
    """Prometheus's alerting rules."""
    content = document(COMPOSE / "prometheus" / "alerts.yaml")
    return [rule for group in content["groups"] for rule in group["rules"]]


def queries() -> dict[str, str]:
    """Every PromQL expression, by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for hpa in documents(KUBERNETES / "optional" / "hpa.yaml"):
        for metric in hpa["spec"]["metrics"]:
            found["hpa"] = metric["pods"]["metric"]["name"] + "{}"
    return found


def metrics_of(query: str) -> set[str]:
    """The metrics that a query reads, but for Prometheus's own `up`."""
    return set(_METRIC.findall(query)) - {"up"}


def labels_of(query: str) -> set[str]:
    """The labels that a query selects or groups by; those that Prometheus adds left out."""
    grouped = {name.strip() for names in _GROUPED.findall(query) for name in names.split(",")}
    return (grouped | {name for name, _, _ in _LABEL.findall(query)}) - {"instance", "job", "le"}


def label_values(query: str) -> Iterator[tuple[str, str]]:
    """Label and value, for every value that a query names; alternatives one by one."""
    for name, _, value in _LABEL.findall(query):
        if name not in ("instance", "job"):
            yield from ((name, part) for part in value.split("|"))


def probe_paths() -> set[str]:
    """Every path that something in deploy/ asks the service for to see how it is."""
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    found = {
        container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    compose = document(COMPOSE / "compose.yaml")
    found |= set(re.findall(r":3000(/\w+)", str(compose["services"]["yap"]["healthcheck"])))
    proxy = (DEPLOY / "proxy" / "haproxy.cfg").read_text()
    return found | set(re.findall(r"http-check send meth GET uri (\S+)", proxy))


def seconds(duration: str) -> int:
    """`50s` or `15m` as seconds."""
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]
