"""What the engine's processes find in their environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.conftest import MakeSettings
from yap.chat.tuning.environment import (
    cache_folder,
    environment,
    look_up_anew,
    look_up_once,
    prepare,
)
from yap.chat.tuning.hardware import GIB, Gpu, Hardware
from yap.errors import StartupError
from yap.settings import Settings

VARIABLES = (
    "VLLM_NO_USAGE_STATS",
    "VLLM_ENGINE_READY_TIMEOUT_S",
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_USE_FLASHINFER_SAMPLER",
    "OMP_NUM_THREADS",
)
CACHES = (
    "VLLM_CACHE_ROOT",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE",
    "CUDA_CACHE_PATH",
)
GPU = Hardware((Gpu(80 * GIB, None, (9, 0)),), 64 * GIB, 8)


def cpu(cores: int = 8) -> Hardware:
    return Hardware((), 16 * GIB, cores)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, *CACHES):
        monkeypatch.setenv(name, "")  # so that what is set later goes away again
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tools(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """A CUDA toolkit and a PATH that hold these programs and no other."""
    (folder / "bin").mkdir()
    for name in names:
        program = folder / "bin" / name
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(folder))
    monkeypatch.setenv("PATH", str(folder / "bin"))


def prepared(
    settings: Settings, hardware: Hardware, parameters: int | None = None
) -> dict[str, str]:
    prepare(settings, environment(settings, hardware, parameters))
    return {name: os.environ[name] for name in (*VARIABLES, *CACHES) if name in os.environ}


def test_on_a_gpu_reporting_the_deadline_and_caches_are_set(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools(monkeypatch, tmp_path, "nvcc", "ninja")
    found = prepared(make_settings(chat_start_timeout_s=123.9), GPU)
    assert {name: found[name] for name in found if name not in CACHES} == {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": "123",
    }
    assert found.keys() >= set(CACHES)


@pytest.mark.parametrize(
    ("there", "sampler"), [((), "0"), (("nvcc",), "0"), (("nvcc", "ninja"), None)]
)
def test_flashinfer_samples_only_where_it_can_compile(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    there: tuple[str, ...],
    sampler: str | None,
) -> None:
    tools(monkeypatch, tmp_path, *there)
    found = prepared(make_settings(), GPU)
    assert found.get("VLLM_USE_FLASHINFER_SAMPLER") == sampler


def test_on_a_cpu_the_engine_core_gets_threads_by_the_size_of_the_model(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parameters, threads in [(7_000_000, "1"), (7_000_000_000, "7"), (None, "7")]:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert prepared(settings, cpu(8), parameters)["OMP_NUM_THREADS"] == threads


def test_there_is_always_a_thread(settings: Settings) -> None:
    assert prepared(settings, cpu(1))["OMP_NUM_THREADS"] == "1"


def test_the_operators_threads_are_taken(make_settings: MakeSettings) -> None:
    assert prepared(make_settings(chat_cpu_threads=3), cpu())["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("name", [*VARIABLES, *CACHES])
def test_what_the_environment_says_already_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "mine")
    assert prepared(settings, cpu())[name] == "mine"


# Compiled kernels


def test_kernels_are_kept_in_one_folder_for_their_owner_alone(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "a" / "kernels"
    found = prepared(make_settings(chat_cache_dir=folder), GPU)
    assert all(Path(found[name]).is_relative_to(folder) for name in CACHES)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_by_default_they_are_where_caches_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_folder(settings) == tmp_path / "cache" / "yap"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder(settings) == Path("/home/somebody/.cache/yap")


def test_a_folder_that_cannot_be_is_refused_where_it_was_named(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    settings = make_settings(chat_cache_dir=tmp_path / "file" / "kernels")
    with pytest.raises(StartupError, match="CHAT_CACHE_DIR="):
        prepare(settings, ())


def test_a_default_folder_that_cannot_be_is_told(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level("WARNING", "yap.chat.tuning.environment"):
        prepare(settings, ())
    assert "every start compiles them anew" in caplog.text


@pytest.mark.parametrize("flags", [os.ST_NOEXEC, os.ST_NOEXEC | os.ST_NOSUID, 0])
def test_a_cache_that_nothing_can_be_run_from_stops_a_start_on_a_gpu(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: int
) -> None:
    class Mounted:
        f_flag = flags

    monkeypatch.setattr(os, "statvfs", lambda _folder: Mounted)
    settings = make_settings(chat_cache_dir=tmp_path / "kernels")
    prepare(settings, (), compiles=False)
    if not flags:
        prepare(settings, (), compiles=True)
        return
    with pytest.raises(StartupError, match="noexec: name a folder elsewhere in CHAT_CACHE_DIR"):
        prepare(settings, (), compiles=True)


def test_vllm_looks_its_variables_up_once_until_another_engine_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm import envs

    name = "VLLM_ENGINE_READY_TIMEOUT_S"
    monkeypatch.setenv(name, "11")
    look_up_anew()  # an engine that was built in this process may have left it
    try:
        look_up_once()
        look_up_once()
        monkeypatch.setenv(name, "22")
        assert getattr(envs, name) == 11
        look_up_anew()
        assert getattr(envs, name) == 22
    finally:
        look_up_anew()
