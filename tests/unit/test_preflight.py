"""What is missing is told before anything starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.conftest import MakeSettings
from yap.errors import StartupError
from yap.preflight import check_bias_file, check_models, check_port

HOSTS = ("127.0.0.1", "0.0.0.0")  # noqa: S104 - somebody may listen on every interface
CHECK_MODELS = """
import sys
from yap.errors import StartupError
from yap.preflight import check_models
from yap.settings import Settings
mode, chat_model, tool_model = sys.argv[1:]
try:
    check_models(Settings(deploy_models=mode, chat_model=chat_model, tool_model=tool_model))
except StartupError as error:
    print(error)
"""


@pytest.fixture(params=HOSTS)
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server((request.param, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("host", HOSTS)
def test_a_port_in_use_is_named(taken: int, host: str) -> None:
    with pytest.raises(StartupError, match=f"port {taken} on {host} is in use.*PORT"):
        check_port(host, taken)


@pytest.mark.parametrize("host", HOSTS)
def test_a_free_port_is_fine_and_stays_free(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for _ in range(2):
        check_port(host, port)
    socket.create_server((host, port)).close()


def test_a_port_that_was_in_use_a_moment_ago_is_fine() -> None:
    """Connections that are closing keep a port busy for a minute; a restart need not wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()
    check_port("127.0.0.1", port)


def test_an_address_that_is_not_this_machines_is_named() -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1:8000.*HOST"):
        check_port("192.0.2.1", 8000)


def test_an_ipv6_address_is_understood() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener, pytest.raises(StartupError, match="in use"):
        check_port("::1", listener.getsockname()[1])


def test_a_model_folder_needs_no_hub(make_settings: MakeSettings, tmp_path: Path) -> None:
    check_models(make_settings(chat_model=str(tmp_path), tool_model=str(tmp_path)))


def offline(home: Path, mode: str, chat_model: str, tool_model: str) -> str:
    """What the check says with no network, in a process of its own: the Hub's client reads its
    environment when it is imported.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", CHECK_MODELS, mode, chat_model, tool_model],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A Hub cache that holds org/cached."""
    repo = tmp_path / "hub" / "models--org--cached"
    snapshot = repo / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123456789abcdef")
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "chat_model", "tool_model", "told"),
    [
        ("both", "org/cached", "org/cached", ""),
        ("both", "org/missing", "org/cached", 'CHAT_MODEL="org/missing" is not in the local cache'),
        ("both", "org/cached", "org/missing", 'TOOL_MODEL="org/missing" is not in the local cache'),
        ("chat", "org/cached", "org/missing", ""),
        ("tool", "org/missing", "org/cached", ""),
    ],
)
def test_a_hub_model_is_looked_up_in_the_local_cache(
    cached: Path, mode: str, chat_model: str, tool_model: str, told: str
) -> None:
    said = offline(cached, mode, chat_model, tool_model)
    assert said.startswith(told)
    assert bool(said) == bool(told)
    assert "\n" not in said


def test_a_file_of_phrases_that_cannot_be_used_is_refused_where_there_is_a_chat_model(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "phrases.json"
    path.write_text('{"as an AI": "never"}')
    with pytest.raises(StartupError, match='"as an AI" must have a number'):
        check_bias_file(make_settings(chat_logit_bias_file=path))
    check_bias_file(make_settings(chat_logit_bias_file=path, deploy_models="tool"))
    check_bias_file(make_settings())
