"""The BentoCloud files hold what BentoML's own classes know, and nothing that it would drop."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cattrs
import pytest
import yaml
from _bentoml_sdk.service.config import ServiceConfig  # type: ignore[import-untyped]
from bentoml._internal.cloud.schemas.modelschemas import DeploymentStrategy
from bentoml._internal.cloud.schemas.schemasv2 import CreateDeploymentSchema
from pydantic import TypeAdapter
from typing_extensions import get_type_hints, is_typeddict

from tests.unit import deploy_files as deploy

FILES = ("deployment.yaml", "canary.yaml")
# Below these stand names that people choose.
NAMES = ("services", "versions")


def read(name: str) -> Any:
    return deploy.document(deploy.BENTOCLOUD / name)


def check(content: dict[str, Any]) -> None:
    """Raises where BentoML would drop a key or take a value for something else.

    BentoML's own converter lets unknown keys pass; this one does not.
    """
    converter = cattrs.Converter(forbid_extra_keys=True)
    taken = converter.unstructure(converter.structure(content, CreateDeploymentSchema))
    assert holds(taken, content), "a value is of another type"
    for service in services(content):
        check_overrides(service.get("config_overrides", {}))
        assert service.get("deployment_strategy", "RollingUpdate") in {
            strategy.value for strategy in DeploymentStrategy
        }


def holds(taken: Any, content: Any) -> bool:
    """Whether `taken` is `content`, but for defaults that were filled in."""
    if isinstance(taken, dict) and isinstance(content, dict):
        return all(key in taken and holds(taken[key], content[key]) for key in content)
    if isinstance(taken, list) and isinstance(content, list):
        return len(taken) == len(content) and all(map(holds, taken, content))
    return type(taken) is type(content) and bool(taken == content)


def services(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every service's part, the canary's too."""
    yield from content.get("services", {}).values()
    for version in (content.get("canary") or {}).get("versions", {}).values():
        yield from version.get("services", {}).values()


def check_overrides(overrides: dict[str, Any], kind: Any = ServiceConfig) -> None:
    """What may be said in `@bentoml.service` may be overridden, and nothing else."""
    fields = get_type_hints(kind, include_extras=True)
    assert overrides.keys() <= fields.keys(), overrides
    for name, value in overrides.items():
        field = fields[name]
        if is_typeddict(field):
            check_overrides(value, field)
        else:
            TypeAdapter(field).validate_python(value, strict=True)


def keys(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key that BentoML, not the operator, has named."""
    if isinstance(node, dict):
        for key, value in node.items():
            if not path or path[-1] not in NAMES:
                yield (*path, key)
            yield from keys(value, (*path, key))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from keys(item, (*path, index))


def misspelt(content: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The content with one key that has a letter too many."""
    changed = copy.deepcopy(content)
    node: Any = changed
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}s"] = node.pop(path[-1])
    return changed


@pytest.mark.parametrize("name", FILES)
def test_bentoml_knows_every_key(name: str) -> None:
    check(read(name))


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name in FILES for path in keys(read(name))]
)
def test_a_misspelt_key_is_found(name: str, path: tuple[Any, ...]) -> None:
    with pytest.raises((cattrs.BaseValidationError, AssertionError)):
        check(misspelt(read(name), path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "yap", "scaling", "min_replicas"), "one"),
        (("services", "yap", "config_overrides", "traffic", "concurrency"), 0),
        (("services", "yap", "config_overrides", "traffic", "concurrency"), "24"),
        (("services", "yap", "deployment_strategy"), "Rolling"),
        (("envs", 1, "value"), 32),
    ],
)
def test_a_wrong_value_is_found(path: tuple[Any, ...], value: object) -> None:
    content = read("deployment.yaml")
    node = content
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises((cattrs.BaseValidationError, ValueError, AssertionError)):
        check(content)


def test_the_service_is_named_as_in_the_code() -> None:
    program = "import service; print(service.service.name)"
    name = subprocess.run(
        [sys.executable, "-c", program], cwd=deploy.ROOT, capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    main, canary = (read(file) for file in FILES)
    assert set(main["services"]) == {name}
    assert all(set(v["services"]) == {name} for v in canary["canary"]["versions"].values())


def test_no_env_of_the_bento_waits_for_a_value() -> None:
    """`bentoml deploy -f` refuses such a Bento even where the file gives the value."""
    build = yaml.safe_load((deploy.ROOT / "bentofile.yaml").read_text())
    assert all(env.get("value") for env in build.get("envs", []))


def test_the_canary_is_a_small_share_with_the_same_settings() -> None:
    main, canary = (read(file) for file in FILES)
    for version in canary["canary"]["versions"].values():
        assert 0 < version["weight"] <= 50
        assert version["envs"] == main["envs"]
        assert version["secrets"] == main["secrets"]
        assert version["bento"] != canary["bento"] == main["bento"]
