"""Where clients connect to, and how they wait for it."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.client.endpoint import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    Patience,
    pauses,
    websocket_url,
)
from tests.client.errors import CannotConnectError, KeyRefusedError, of_frame
from yap.protocol import Error, ErrorCode


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("127.0.0.1:8000", "ws://127.0.0.1:8000/ws"),
        ("[::1]:8000", "ws://[::1]:8000/ws"),
        ("ws://host:1/ws", "ws://host:1/ws"),
        ("wss://host/talk?x=1", "wss://host/talk?x=1"),
        ("https://host", "wss://host/ws"),
        ("http://host/", "ws://host/ws"),
    ],
)
def test_addresses_are_urls(server: str, url: str) -> None:
    assert websocket_url(server) == url


@pytest.mark.parametrize("server", ["", "ws://", "ftp://host", "/ws"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="host"):
        websocket_url(server)


def test_pauses_grow_and_stay_bounded() -> None:
    drawn = list(islice(pauses(), 50))
    assert drawn[0] <= FIRST_PAUSE_S
    assert max(drawn) <= LONGEST_PAUSE_S
    assert min(drawn[10:]) >= LONGEST_PAUSE_S / 2


async def test_a_wrong_key_is_not_tried_again() -> None:
    error = of_frame(Error(error_code=ErrorCode.AUTHENTICATION_FAILED, message="no"))
    assert isinstance(error, KeyRefusedError)
    with pytest.raises(KeyRefusedError):
        await Patience(60).wait(error)


async def test_patience_ends() -> None:
    patience = Patience(0.05)
    error = CannotConnectError("down")

    async def wait_for_ever() -> None:
        while True:
            await patience.wait(error)

    with pytest.raises(CannotConnectError):
        await wait_for_ever()
