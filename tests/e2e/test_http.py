"""The HTTP endpoints, with BentoML's own client and without."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import bentoml
import pytest

from tests.e2e.harness import API_KEY, ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

MESSAGES = [
    {"role": "system", "content": "You are Anna, a warm and friendly companion."},
    {"role": "user", "content": "What is your name?"},
]


@pytest.fixture
def client(server: ServerProcess) -> bentoml.SyncHTTPClient:
    return bentoml.SyncHTTPClient(f"http://{server.address}", token=API_KEY)


def frames_of(events: str) -> list[dict[str, Any]]:
    """The frames of a stream of server-sent events."""
    return [json.loads(event.removeprefix("data: ")) for event in events.split("\n\n") if event]


def post(server: ServerProcess, path: str, body: object, key: str = API_KEY) -> tuple[int, str]:
    """POST without any client library; status and body."""
    request = urllib.request.Request(
        f"http://{server.address}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-API-Key": key},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_bentomls_client_streams_a_turn(client: bentoml.SyncHTTPClient) -> None:
    frames = frames_of("".join(client.chat(messages=MESSAGES, sampling={"temperature": 0})))
    types = [frame["type"] for frame in frames]
    assert types[0] == "toolcall"
    assert types[-2:] == ["final", "done"]
    assert "Anna" in frames[-2]["normalized_text"]
    assert frames[-1]["usage"]["completion_tokens"] > 0


def test_bentomls_client_classifies(client: bentoml.SyncHTTPClient) -> None:
    yes = client.classify(utterance="Can you look at my screen right now?")
    no = client.classify(utterance="I had soup for lunch.", earlier=["Hello!"])
    assert (yes["status"], no["status"]) == ("yes", "no")
    assert 0 <= no["probability"] < yes["probability"] <= 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "invalid_message"),
        ({"messages": MESSAGES, "sampling": {"top_k": 999}}, "top_k_out_of_range"),
        (
            {"messages": [{"role": "system", "content": "long " * 4000}, MESSAGES[1]]},
            "chat_prompt_too_long",
        ),
    ],
)
def test_bad_requests_get_status_400_and_the_code(
    server: ServerProcess, body: object, code: str
) -> None:
    status, text = post(server, "/chat", body)
    assert status == 400
    assert frames_of(text)[0]["error_code"] == code


def test_a_request_without_messages_is_refused(server: ServerProcess) -> None:
    assert post(server, "/chat", {"messages": []})[0] == 400


def test_what_is_not_deployed_says_so_by_code(chat_server: ServerProcess) -> None:
    status, text = post(chat_server, "/classify", {"utterance": "look"})
    assert status == 400
    assert json.loads(text)["error_code"] == "classifier_not_deployed"


@pytest.mark.parametrize("path", ["/chat", "/classify", "/docs.json"])
def test_without_the_key_there_is_nothing_to_see(server: ServerProcess, path: str) -> None:
    status, text = post(server, path, {}, key="wrong-key")
    assert status == 401
    assert json.loads(text)["error_code"] == "authentication_failed"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/chat", 405), ("POST", "/", 405), ("GET", "/ws", 426)],
)
def test_what_is_not_there_is_refused_with_an_error_frame(
    server: ServerProcess, method: str, path: str, status: int
) -> None:
    request = urllib.request.Request(
        f"http://{server.address}{path}", headers={"X-API-Key": API_KEY}, method=method
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == status
    assert json.loads(refused.value.read())["error_code"] == "invalid_message"


def test_probes_need_no_key(server: ServerProcess) -> None:
    for path in ("/", "/livez", "/healthz", "/readyz", "/metrics"):
        assert server.status(path) == 200
    assert server.status("/favicon.ico") == 204


def test_a_client_that_leaves_mid_stream_frees_the_engine(server: ServerProcess) -> None:
    request = urllib.request.Request(
        f"http://{server.address}/chat",
        json.dumps({"messages": MESSAGES}).encode(),
        {"Content-Type": "application/json", "X-API-Key": API_KEY},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.readline()
    deadline = time.monotonic() + 5
    while server.metric("vllm:num_requests_running") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.metric("vllm:num_requests_running") == 0
