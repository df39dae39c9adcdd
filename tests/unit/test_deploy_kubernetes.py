"""The Kubernetes files: every key is one that Kubernetes knows, and every name leads somewhere."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit import deploy_files as deploy

BASE = deploy.KUBERNETES / "base"
OVERLAYS = sorted(path for path in (deploy.KUBERNETES / "overlays").iterdir())

# The shape of what is used here, by the API reference of Kubernetes 1.32. A dict names the keys of
# an object, a list holds the shape of its items, None is a value, ANY an object of any keys.
ANY: dict[str, Any] = {"*": None}
META = {"name": None, "namespace": None, "labels": ANY, "annotations": ANY}
SELECTOR = {"matchLabels": ANY}
PROBE = {
    "httpGet": {"path": None, "port": None},
    **dict.fromkeys(("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold")),
}
CONTAINER = {
    "name": None,
    "image": None,
    "ports": [{"name": None, "containerPort": None}],
    "envFrom": [{"configMapRef": {"name": None}}],
    "env": [
        {"name": None, "value": None, "valueFrom": {"secretKeyRef": {"name": None, "key": None}}}
    ],
    "startupProbe": PROBE,
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "lifecycle": {"preStop": {"exec": {"command": None}}},
    "securityContext": {
        "allowPrivilegeEscalation": None,
        "readOnlyRootFilesystem": None,
        "capabilities": {"drop": None},
    },
    "resources": {"requests": ANY, "limits": ANY},
    "volumeMounts": [{"name": None, "mountPath": None}],
}
POD = {
    "serviceAccountName": None,
    "automountServiceAccountToken": None,
    "enableServiceLinks": None,
    "terminationGracePeriodSeconds": None,
    "securityContext": {
        "runAsNonRoot": None,
        "runAsUser": None,
        "runAsGroup": None,
        "fsGroup": None,
        "fsGroupChangePolicy": None,
        "seccompProfile": {"type": None},
    },
    "containers": [CONTAINER],
    "tolerations": [{"key": None, "operator": None, "effect": None}],
    "volumes": [{"name": None, "emptyDir": {"sizeLimit": None, "medium": None}}],
    "topologySpreadConstraints": [
        {
            "maxSkew": None,
            "topologyKey": None,
            "whenUnsatisfiable": None,
            "labelSelector": SELECTOR,
        }
    ],
}
BACKEND = {"service": {"name": None, "port": {"name": None}}}
SCALING = {
    "stabilizationWindowSeconds": None,
    "policies": [{"type": None, "value": None, "periodSeconds": None}],
}
KINDS: dict[tuple[str, str], dict[str, Any]] = {
    ("v1", "ServiceAccount"): {"automountServiceAccountToken": None},
    ("apps/v1", "Deployment"): {
        "spec": {
            "replicas": None,
            "progressDeadlineSeconds": None,
            "revisionHistoryLimit": None,
            "strategy": {"type": None, "rollingUpdate": {"maxSurge": None, "maxUnavailable": None}},
            "selector": SELECTOR,
            "template": {"metadata": META, "spec": POD},
        }
    },
    ("v1", "Service"): {
        "spec": {
            "type": None,
            "selector": ANY,
            "ports": [{"name": None, "port": None, "targetPort": None, "appProtocol": None}],
            "sessionAffinity": None,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": None}},
        }
    },
    ("networking.k8s.io/v1", "Ingress"): {
        "spec": {
            "ingressClassName": None,
            "tls": [{"hosts": None, "secretName": None}],
            "rules": [
                {
                    "host": None,
                    "http": {"paths": [{"path": None, "pathType": None, "backend": BACKEND}]},
                }
            ],
        }
    },
    ("policy/v1", "PodDisruptionBudget"): {
        "spec": {"maxUnavailable": None, "unhealthyPodEvictionPolicy": None, "selector": SELECTOR}
    },
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "spec": {
            "podSelector": SELECTOR,
            "policyTypes": None,
            "ingress": [{"ports": [{"port": None, "protocol": None}]}],
            "egress": None,
        }
    },
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {
        "spec": {
            "scaleTargetRef": {"apiVersion": None, "kind": None, "name": None},
            "minReplicas": None,
            "maxReplicas": None,
            "metrics": [
                {
                    "type": None,
                    "pods": {
                        "metric": {"name": None},
                        "target": {"type": None, "averageValue": None},
                    },
                }
            ],
            "behavior": {"scaleUp": SCALING, "scaleDown": SCALING},
        }
    },
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "spec": {
            "selector": SELECTOR,
            "endpoints": [{"port": None, "path": None, "interval": None}],
        }
    },
    ("kustomize.config.k8s.io/v1beta1", "Kustomization"): {
        "namespace": None,
        "resources": None,
        "images": [{"name": None, "newName": None, "newTag": None}],
        "patches": [{"path": None}],
        "configMapGenerator": [{"name": None, "behavior": None, "envs": None, "literals": None}],
    },
    ("v1", "ConfigMap"): {"data": ANY},
}
FILES = sorted(deploy.KUBERNETES.rglob("*.yaml"))


def unknown(content: Any, shape: Any, where: str = "") -> Iterator[str]:
    """The paths of keys that the shape does not have, and of parts of another kind."""
    if shape is None:
        return
    if isinstance(shape, list):
        if not isinstance(content, list):
            yield f"{where} is no list"
            return
        for index, item in enumerate(content):
            yield from unknown(item, shape[0], f"{where}[{index}]")
    elif not isinstance(content, dict):
        yield f"{where} is no object"
    else:
        for key, value in content.items():
            if key in shape:
                yield from unknown(value, shape[key], f"{where}.{key}")
            elif "*" not in shape:
                yield f"{where}.{key}"


def problems(resource: Any) -> list[str]:
    """What is wrong with a resource."""
    shape = KINDS[resource["apiVersion"], resource["kind"]]
    return list(unknown(resource, {"apiVersion": None, "kind": None, "metadata": META, **shape}))


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a resource, itself included."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for item in node:
            yield from objects(item)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_key_is_known(path: Any) -> None:
    for resource in deploy.documents(path):
        assert problems(resource) == []


def test_a_misspelt_key_is_found() -> None:
    whole = deploy.deployment()
    count = len(list(objects(whole)))
    found = 0
    for number in range(1, count):
        changed = copy.deepcopy(whole)
        target = list(objects(changed))[number]
        key = next(iter(target))
        target[f"{key}s"] = target.pop(key)
        found += bool(problems(changed))
    free = 6  # labels and annotations may have any name
    assert found >= count - 1 - free


def pod_of(resource: Any) -> tuple[Any, Any]:
    pod = resource["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def check_pod(resource: Any) -> None:
    """Every name in a Deployment leads somewhere, and the pod has no rights."""
    pod, container = pod_of(resource)
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    selector = resource["spec"]["selector"]["matchLabels"]
    assert selector.items() <= resource["spec"]["template"]["metadata"]["labels"].items()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1034
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # What the image writes to.
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/data", "/tmp"}


def test_the_pod_is_sound_and_without_rights() -> None:
    check_pod(deploy.deployment())


def test_the_key_comes_from_a_secret_that_is_not_in_the_files() -> None:
    _, container = pod_of(deploy.deployment())
    (key,) = [env for env in container["env"] if env["name"] == "TEXT_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "yap", "key": "TEXT_API_KEY"}
    assert all("kind: Secret" not in path.read_text() for path in FILES)


def test_the_probes_say_what_they_mean() -> None:
    _, container = pod_of(deploy.deployment())
    path = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    # A broken engine is built anew in place: not ready, and no reason to kill the pod.
    assert path == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }


def test_service_ingress_and_budget_are_about_the_pods() -> None:
    labels = deploy.deployment()["spec"]["template"]["metadata"]["labels"]
    service = deploy.document(BASE / "service.yaml")
    budget = deploy.document(BASE / "poddisruptionbudget.yaml")
    policy = deploy.document(BASE / "networkpolicy.yaml")
    monitor = deploy.document(deploy.KUBERNETES / "optional" / "servicemonitor.yaml")
    assert service["spec"]["selector"].items() <= labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    (port,) = service["spec"]["ports"]
    _, container = pod_of(deploy.deployment())
    assert port["targetPort"] == container["ports"][0]["name"]
    assert monitor["spec"]["endpoints"][0]["port"] == port["name"]
    assert (
        policy["spec"]["ingress"][0]["ports"][0]["port"] == container["ports"][0]["containerPort"]
    )
    ingress = deploy.document(BASE / "ingress.yaml")
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {
                "name": service["metadata"]["name"],
                "port": {"name": port["name"]},
            }


def test_figures_and_probes_are_not_published() -> None:
    ingress = deploy.document(BASE / "ingress.yaml")
    paths = {path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    assert paths == {"/ws", "/chat", "/classify", "/schema.json"}


def test_replicas_are_added_before_one_is_full() -> None:
    hpa = deploy.document(deploy.KUBERNETES / "optional" / "hpa.yaml")["spec"]
    limit = int(deploy.env_file(BASE / "settings.env")["MAX_CONCURRENT_CONNECTIONS"])
    target = int(hpa["metrics"][0]["pods"]["target"]["averageValue"])
    assert limit / 2 <= target < limit
    assert hpa["scaleTargetRef"]["name"] == deploy.deployment()["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_overlays_name_what_is_there(overlay: Any) -> None:
    content = deploy.document(overlay / "kustomization.yaml")
    _, container = pod_of(deploy.deployment())
    assert [image["name"] for image in content["images"]] == [container["image"]]
    for name in content["resources"]:
        assert (overlay / name).exists()
    for patch in content["patches"]:
        for changed in deploy.documents(overlay / patch["path"]):
            assert changed["metadata"]["name"] == deploy.deployment()["metadata"]["name"]
            assert pod_of(changed)[1]["name"] == container["name"]
    resources = {
        name
        for patch in content["patches"]
        for changed in deploy.documents(overlay / patch["path"])
        for name in pod_of(changed)[1]["resources"]["limits"]
    }
    assert ("nvidia.com/gpu" in resources) == (overlay.name == "gpu")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_kustomize_builds_the_overlays(overlay: Any) -> None:
    result = subprocess.run(
        ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    built = list(yaml.safe_load_all(result.stdout))
    assert all(problems(resource) == [] for resource in built)
    (deployment,) = [resource for resource in built if resource["kind"] == "Deployment"]
    check_pod(deployment)
    (settings,) = [resource for resource in built if resource["kind"] == "ConfigMap"]
    _, container = pod_of(deployment)
    assert container["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
    assert container["image"] == f"registry.example.com/yap-server:{_tag(overlay.name)}"


def _tag(overlay: str) -> str:
    return {"cpu": "cpu", "gpu": "cuda"}[overlay]
