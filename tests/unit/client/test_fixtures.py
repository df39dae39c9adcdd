"""What the clients are given to say, by name or by file."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.client.fixtures import find_script, script_names


def test_each_script_is_found_by_its_name() -> None:
    assert script_names()
    for name in script_names():
        assert find_script(name)


def test_a_name_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        find_script("nosuch")
    assert all(name in str(raised.value) for name in script_names())


def test_a_file_that_is_no_script_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text("{")
    with pytest.raises(argparse.ArgumentTypeError, match=r"mine\.json is not JSON"):
        find_script(str(file))
