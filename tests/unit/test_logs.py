"""Log records go to stderr once, as people or as collectors read them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import pytest

from tests.unit.stand_ins import Clock
from yap.logs import JsonFormatter, Seldom, configure_logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's logger, as it was afterwards."""
    root = logging.getLogger("yap")
    before = root.handlers[:], root.level, root.propagate
    yield logging.getLogger("yap.tests")
    root.handlers[:], root.level, root.propagate = before


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_record_is_written_once_however_often_logging_is_configured(
    style: Literal["text", "json"],
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        configure_logging("INFO", style)
    logger.info("hello %s", "there")
    logger.debug("not this")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("hello there") == 1
    assert "not this" not in err


def test_the_level_is_the_operators(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("ERROR", "text")
    logger.warning("quiet")
    logger.error("loud")
    err = capsys.readouterr().err
    assert "loud" in err
    assert "quiet" not in err


def test_json_is_one_object_a_line(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", "json")
    logger.info('line one\nline "two" %s', "é")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logger.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert list(first) == ["time", "level", "logger", "message"]
    assert first["message"] == 'line one\nline "two" é'
    assert (first["level"], first["logger"]) == ("INFO", "yap.tests")
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert "ZeroDivisionError" in second["exception"]


def test_json_keeps_the_time_of_the_record() -> None:
    record = logging.LogRecord("yap", logging.INFO, __file__, 1, "hi", None, None)
    record.created = 0.0
    assert json.loads(JsonFormatter().format(record))["time"] == "1970-01-01T00:00:00.000+00:00"


def test_importing_the_package_sets_no_logging_up() -> None:
    code = (
        "import logging, yap.server; "
        "print(logging.getLogger('yap').handlers, logging.root.handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_what_happens_over_and_over_is_said_seldom_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    seldom = Seldom(logging.getLogger("tests.seldom"), 60, clock)
    for second in range(130):
        clock.now = 1000.0 + second
        seldom.error("a", "It broke at %d", second)
    seldom.error("b", "Another thing broke")
    assert [record.getMessage() for record in caplog.records] == [
        "It broke at 0",
        "It broke at 60 (and 59 times more since this was last said)",
        "It broke at 120 (and 59 times more since this was last said)",
        "Another thing broke",
    ]
