"""Every error has a code of its own, and a status for HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from yap import errors
from yap.errors import AtCapacity, RateLimited, YapError
from yap.protocol import ErrorCode


def tree(root: type[YapError] = YapError) -> Iterator[type[YapError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


OURS = [kind for kind in tree() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS)
def test_an_error_has_a_code_and_a_status(kind: type[YapError]) -> None:
    assert kind.code in ErrorCode
    assert 400 <= kind.http_status < 600


@pytest.mark.parametrize("kind", OURS)
def test_the_tree_in_the_docstring_is_the_tree(kind: type[YapError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_error_can_have_another_code_than_its_kind() -> None:
    error = YapError("The server stops.", ErrorCode.SERVER_DRAINING)
    assert error.code is ErrorCode.SERVER_DRAINING
    assert YapError.code is ErrorCode.INTERNAL_ERROR
    assert str(error) == error.message == "The server stops."


def test_errors_carry_what_their_frame_needs() -> None:
    assert RateLimited("m", ErrorCode.CANCEL_RATE_LIMITED, 3).retry_in == 3
    full = AtCapacity("m", active=2, limit=2)
    assert (full.active, full.limit, full.code) == (2, 2, ErrorCode.SERVER_AT_CAPACITY)
