"""Everything in deploy/ names only what the service has, and gives it time to end."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.unit import deploy_files as deploy
from yap.chat import engine
from yap.protocol import ErrorCode
from yap.settings import Settings, load_settings, variables
from yap.turn import FinishReason

KEY = {"TEXT_API_KEY": "a-key-of-tests"}
# Alerts by the words of screen/router.py.
ROUTER_SOURCES = {"timeout", "queue_full", "failed"}


@pytest.mark.parametrize("place", deploy.settings_files())
def test_settings_are_known_and_allowed(place: str) -> None:
    given = deploy.settings_files()[place]
    assert given, "nothing was found there"
    assert set(given) <= set(variables())
    load_settings({**given, **KEY}, serving=False)  # raises where a value is not allowed


def _short(path: Path) -> str:
    return str(path.relative_to(deploy.ROOT))


# Variables of others, and of the files themselves.
FOREIGN = re.compile(
    r"(YAP|GF|NCCL|VLLM)_\w+|GRAFANA_(PUBLISH|TAG)|PROMETHEUS_TAG|BENTOML_HOME|HF_(HUB_OFFLINE|TOKEN)"
    r"|CUDA_VISIBLE_DEVICES|RAY_ADDRESS|METH_GET"
)


@pytest.mark.parametrize("path", [*deploy.FILES, deploy.ROOT / "docs" / "scaling.md"], ids=_short)
def test_comments_and_texts_name_settings_that_exist(path: Path) -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", path.read_text()))
    assert {name for name in named if not FOREIGN.fullmatch(name)} <= set(variables())


def test_no_secret_is_in_the_files() -> None:
    assert deploy.env_file(deploy.COMPOSE / "yap.env.example")["TEXT_API_KEY"] == ""
    for path in deploy.FILES:
        for line in path.read_text().splitlines():
            assert not holds_a_secret(line), f"{path}: {line}"


def holds_a_secret(line: str) -> bool:
    """Whether a line gives a secret a value that is no reference, path, command or flag."""
    found = re.search(r"(?i)(key|password|token|secret)\w*\"?\s*[:=]\s*(\S+)", line)
    fine = (
        r"/run/secrets/|\./\w+\.txt|\"?\$\(|(true|false)$"  # elsewhere, made on the spot, a flag
        r"|(TEXT_API_KEY|yap-tls|app)$|(kubernetes\.io|nvidia\.com)/"  # names
    )
    return found is not None and not re.match(fine, found[2])


def test_a_secret_would_be_found() -> None:
    for line in ("TEXT_API_KEY=abcdefgh1", "  password: hunter22", '  "api_key": "abcdefgh"'):
        assert holds_a_secret(line)


def test_files_with_secrets_stay_out_of_the_repository() -> None:
    for name in ("yap.env", "grafana_password.txt"):
        ignored = subprocess.run(
            ["git", "check-ignore", "-q", f"deploy/compose/{name}"], cwd=deploy.ROOT, check=False
        )
        assert ignored.returncode == 0, f"{name} could be committed"


def test_the_grace_period_is_longer_than_the_drain_and_the_end_of_the_engine() -> None:
    compose = deploy.document(deploy.COMPOSE / "compose.yaml")["services"]["yap"]
    drain = float(deploy.settings_files()["compose"]["DRAIN_TIMEOUT_S"])
    assert deploy.seconds(compose["stop_grace_period"]) >= drain + engine._SHUTDOWN_S + 5
    pod = deploy.deployment()["spec"]["template"]["spec"]
    command, wait = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    drain = float(deploy.settings_files()["kubernetes"]["DRAIN_TIMEOUT_S"])
    needed = float(wait) + drain + engine._SHUTDOWN_S + 5
    assert pod["terminationGracePeriodSeconds"] >= needed


def test_a_slow_start_is_waited_for() -> None:
    probe = deploy.deployment()["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    limit = Settings().chat_start_timeout_s
    assert probe["periodSeconds"] * probe["failureThreshold"] > limit
    compose = deploy.document(deploy.COMPOSE / "compose.yaml")["services"]["yap"]
    assert deploy.seconds(compose["healthcheck"]["start_period"]) >= limit


def test_proxies_are_more_patient_than_the_service() -> None:
    defaults = Settings()
    ingress = deploy.document(deploy.KUBERNETES / "base" / "ingress.yaml")
    notes = ingress["metadata"]["annotations"]
    patience = float(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"])
    assert patience > max(defaults.ws_idle_timeout_s, defaults.gen_timeout_s)
    size = notes["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) * 1024 * 1024 >= defaults.http_max_body_bytes
    proxy = (deploy.DEPLOY / "proxy" / "haproxy.cfg").read_text()
    times = {
        name: deploy.seconds(time)
        for name, time in re.findall(r"timeout (\w+) +(\d+[sm])\n", proxy)
    }
    assert times["tunnel"] > defaults.ws_idle_timeout_s
    assert min(times["server"], times["client"]) > defaults.gen_timeout_s


def test_sessions_are_remembered_by_proxies_for_as_long_as_by_the_service() -> None:
    ttl = Settings().session_idle_ttl_seconds
    service = deploy.document(deploy.KUBERNETES / "base" / "service.yaml")["spec"]
    assert service["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] == ttl
    proxy = (deploy.DEPLOY / "proxy" / "haproxy.cfg").read_text()
    (expire,) = re.findall(r"stick-table .* expire (\S+)", proxy)
    assert deploy.seconds(expire) == ttl


def test_every_metric_of_ours_is_one(registry: CollectorRegistry, metrics: object) -> None:
    exported = {
        f"{family.name}{suffix}"
        for family in registry.collect()
        for suffix in ("", "_total", "_bucket", "_count", "_sum")
    }
    used = {name for query in deploy.queries().values() for name in deploy.metrics_of(query)}
    ours = {name for name in used if name.startswith("yap")}
    assert len(ours) >= 9
    assert ours <= exported


def test_label_values_in_queries_are_words_of_the_service() -> None:
    known = {
        "finish_reason": set(get_args(FinishReason)),
        "error_code": {code.value for code in ErrorCode},
        "source": ROUTER_SOURCES,
        "cached": {"yes", "no"},
        "used": {"yes", "no"},
        "http_response_code": {"200", "503"},
        "endpoint": {"/readyz", "/chat", "/classify"},
    }
    router = (deploy.ROOT / "yap" / "screen" / "router.py").read_text()
    assert all(f'"{source}"' in router for source in ROUTER_SOURCES)
    for place, query in deploy.queries().items():
        for label, value in deploy.label_values(query):
            assert value in known[label], place


def test_alerts_say_what_to_do() -> None:
    rules = deploy.alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_is_sound() -> None:
    (datasource,) = deploy.document(
        deploy.COMPOSE / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    )["datasources"]
    for dashboard in deploy.dashboards():
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
            if panel["type"] != "row":
                assert panel["description"]
                assert panel["datasource"]["uid"] == datasource["uid"]
                assert panel["targets"]


def test_the_dashboard_shows_what_operators_ask_for() -> None:
    shown = {
        name
        for place, query in deploy.queries().items()
        if place.startswith("panel")
        for name in deploy.metrics_of(query)
    }
    assert shown >= {
        "yap_time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "yap_toolcall_seconds_bucket",
        "yap_turns_total",
        "vllm:num_requests_waiting",
        "yap_connections",
        "yap_refusals_total",
        "vllm:kv_cache_usage_perc",
        "yap_prompt_tokens_total",
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_alerts_fire_when_they_should() -> None:
    folder = deploy.COMPOSE / "prometheus"
    for command in (["check", "config", "prometheus.yaml"], ["test", "rules", "alerts_test.yaml"]):
        result = subprocess.run(
            ["promtool", *command], cwd=folder, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_every_panel_holds_promql(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"panel:query_{number}",
            "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*"),
        }
        for number, query in enumerate(deploy.queries().values())
        if not query.endswith("{}")
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
