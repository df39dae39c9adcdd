"""`python -m quantization push`, with the Hub's real client, against a Hub that takes uploads."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantization.digests import sha256
from quantization.errors import ExitCode, QuantizationError
from quantization.export.metadata import CARD, NAME, File, Metadata, Source
from quantization.publishing.push import check, destination, parcel, push
from tests.unit.quantization.writable_hub import (
    READER,
    WRITER,
    Repository,
    WritableHub,
    serving,
)

ROOT = Path(__file__).resolve().parents[4]
REPO = "me/companion-awq"
OFFICIAL = {"HF_AWQ_CHAT_REPO": REPO}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving() as found:
        yield found


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return make_export(tmp_path / "export", shards=3)


def make_export(folder: Path, shards: int) -> Path:
    """A folder with what `run` leaves: weights of some size, small files, metadata with digests."""
    folder.mkdir()
    for number in range(1, shards + 1):
        content = random.Random(number).randbytes(200_000)
        (folder / f"model-{number:05}-of-{shards:05}.safetensors").write_bytes(content)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    files = {
        path.name: File(bytes=path.stat().st_size, sha256=sha256(path)) for path in folder.iterdir()
    }
    metadata = Metadata(
        key="0123456789ab",
        created="2026-11-22T12:00:00Z",
        source_model="org/companion",
        source=Source(
            model="org/companion",
            on_hub=True,
            revision="0" * 40,
            architecture="LlamaForCausalLM",
            weight_bytes=2_400_000,
        ),
        recipe={"method": "awq", "bits": 4},
        fingerprint="f",
        awq_version="llmcompressor==0.14.0.1",
        tools={},
        quantization_config={},
        quantized_layers=1,
        weight_bytes=600_000,
        hardware="a CPU",
        files=files,
    )
    (folder / NAME).write_text(metadata.model_dump_json())
    (folder / CARD).write_text("---\nlibrary_name: vllm\n---\n# A companion\n")
    return folder


def api(hub: WritableHub, token: str = WRITER) -> object:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=token)


def sent(hub: WritableHub, folder: Path, token: str = WRITER, **variables: str) -> str:
    wanted = destination({}, OFFICIAL | variables)
    return push(api(hub, token), parcel(folder), wanted).commit  # type: ignore[arg-type]


def refused(hub: WritableHub, folder: Path, token: str = WRITER, **variables: str) -> str:
    """One sentence, with its exit code in front; nothing may have been sent."""
    with pytest.raises(QuantizationError) as caught:
        sent(hub, folder, token, **variables)
    assert hub.puts == 0
    assert "\n" not in caught.value.message
    assert token not in caught.value.message
    return f"{caught.value.code.name}: {caught.value.message}"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {"PATH": os.environ["PATH"], "HF_HUB_DISABLE_XET": "1", **OFFICIAL}
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [sys.executable, "-m", "quantization", "push", *arguments],
            cwd=ROOT,
            env={**kept, "HF_HOME": home, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


# What arrives.


def test_an_export_arrives_whole_in_a_private_repository_that_is_made(
    hub: WritableHub, export: Path
) -> None:
    sent(hub, export)
    assert hub.repositories[REPO].private
    assert hub.content(REPO) == {path.name: path.read_bytes() for path in export.iterdir()}
    assert hub.repositories[REPO].messages == ["org/companion in awq"]


def test_nothing_but_the_export_goes(hub: WritableHub, export: Path) -> None:
    (export / "notes.txt").write_text("private")
    (export / ".cache").mkdir()
    (export / ".cache" / "token").write_text("secret")
    assert parcel(export).left_out == (".cache", "notes.txt")
    sent(hub, export)
    assert {"notes.txt", ".cache/token"}.isdisjoint(hub.content(REPO))
    assert len(hub.content(REPO)) == 6


def test_branch_message_and_privacy_are_the_variables(hub: WritableHub, export: Path) -> None:
    variables = {
        "HF_AWQ_BRANCH": "v2/awq",
        "HF_AWQ_PRIVATE": "no",
        "HF_AWQ_COMMIT_MSG_CHAT": "The second one",
    }
    sent(hub, export, **variables)
    repository = hub.repositories[REPO]
    assert not repository.private
    assert repository.branches["main"] == {}
    assert len(repository.branches["v2/awq"]) == 6
    assert repository.messages == ["The second one"]


def test_a_killed_push_goes_on_where_it_broke_off(
    hub: WritableHub, export: Path, tmp_path: Path
) -> None:
    third = threading.Event()
    pushing = subprocess.Popen(
        [sys.executable, "-m", "quantization", "push", str(export)],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": WRITER,
            **OFFICIAL,
        },
        stderr=subprocess.DEVNULL,
    )

    def kill_at_the_third(before: int) -> None:
        if before == 2:
            os.kill(pushing.pid, signal.SIGKILL)
            third.set()
            raise ConnectionAbortedError  # what was under way does not arrive

    hub.on_put = kill_at_the_third
    assert pushing.wait(30) == -signal.SIGKILL
    assert third.wait(5)
    assert hub.repositories[REPO].branches["main"] == {}  # no half export under a valid name
    assert len(hub.objects) == 2
    hub.on_put = lambda _: None
    sent(hub, export)
    assert hub.puts == 4  # the one that did not arrive, again
    assert len(hub.content(REPO)) == 6


def test_it_goes_by_xet_where_the_client_does_so(hub: WritableHub, export: Path) -> None:
    done = run(str(export), HF_ENDPOINT=hub.url, HF_TOKEN=WRITER, HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    assert hub.puts == 0
    assert len(hub.shards) == 1
    packed = b"".join(hub.xorbs)
    arrived = hub.repositories[REPO].branches["main"]
    for path in export.glob("*.safetensors"):
        assert arrived[path.name] == sha256(path)
        assert path.read_bytes()[100_000:100_256] in packed
    assert len(arrived) == 6


def test_the_token_is_in_no_argument_and_in_no_output(hub: WritableHub, export: Path) -> None:
    done = run(str(export), HF_ENDPOINT=hub.url, HF_TOKEN=WRITER)
    assert done.returncode == 0, done.stderr
    assert f"6 files, 0.6 MB: {hub.url}/{REPO}/commit/" in done.stdout
    assert WRITER not in done.stdout + done.stderr
    assert hub.tokens - {""} == {WRITER}  # the client asks for one thing without
    given = run(str(export), "--token", WRITER)
    assert given.returncode == ExitCode.USAGE
    assert "set HF_TOKEN" in given.stderr
    assert WRITER not in given.stdout + given.stderr


# What is refused, before anything is sent.


def test_a_wrong_token_is_one_sentence_that_does_not_repeat_it(
    hub: WritableHub, export: Path
) -> None:
    wrong = "hf_wrongwrongwrong"
    done = run(str(export), HF_ENDPOINT=hub.url, HF_TOKEN=wrong)
    assert done.returncode == ExitCode.NO_ACCESS
    assert done.stderr.startswith("The Hub refused the token")
    assert done.stderr.count("\n") == 1
    assert wrong not in done.stderr
    assert hub.puts == 0


def test_a_token_that_may_only_read_is_refused(hub: WritableHub, export: Path) -> None:
    assert refused(hub, export, READER).startswith("NO_ACCESS: The token in HF_TOKEN may only read")


def test_somebody_elses_name_is_refused(hub: WritableHub, export: Path) -> None:
    said = refused(hub, export, HF_AWQ_CHAT_REPO="them/companion")
    assert said.startswith('NO_ACCESS: This token may not write to "them/companion"')


def test_a_missing_repository_is_not_made_where_that_is_not_allowed(
    hub: WritableHub, export: Path
) -> None:
    said = refused(hub, export, HF_AWQ_ALLOW_CREATE="0")
    assert said.startswith(f'NOT_FOUND: There is no repository "{REPO}"')
    hub.repositories[REPO] = Repository(private=True)
    said = refused(hub, export, HF_AWQ_ALLOW_CREATE="0", HF_AWQ_BRANCH="next")
    assert said.startswith(f'NOT_FOUND: "{REPO}" has no branch "next"')


def test_a_gated_repository_is_one_sentence(hub: WritableHub, export: Path) -> None:
    hub.repositories[REPO] = Repository(private=True, gated=True)
    assert refused(hub, export).startswith(f'NO_ACCESS: "{REPO}" is gated')


def test_a_private_upload_never_goes_to_a_public_repository(hub: WritableHub, export: Path) -> None:
    hub.repositories[REPO] = Repository(private=False)
    assert refused(hub, export).startswith(f'REFUSED: "{REPO}" is public')
    sent(hub, export, HF_AWQ_PRIVATE="0")
    assert len(hub.content(REPO)) == 6


def test_no_network_is_one_sentence(hub: WritableHub, export: Path) -> None:
    from huggingface_hub import HfApi

    nobody = HfApi(endpoint="http://127.0.0.1:9", token=WRITER)
    with pytest.raises(QuantizationError, match="check the network") as caught:
        push(nobody, parcel(export), destination({}, OFFICIAL))
    assert caught.value.code is ExitCode.UNREACHABLE


def test_a_check_changes_nothing(hub: WritableHub, export: Path) -> None:
    access = check(api(hub), destination({}, OFFICIAL))  # type: ignore[arg-type]
    assert (access.user, access.exists) == ("me", False)
    assert hub.repositories == {}
    assert not [line for line in hub.requested if not line.startswith("GET")]


# What is no export, or one no longer.


def not_pushed(folder: Path) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        parcel(folder)
    assert "\n" not in caught.value.message
    return caught.value


def test_what_this_pipeline_has_not_made_is_refused(export: Path, tmp_path: Path) -> None:
    assert not_pushed(tmp_path).code is ExitCode.NOT_FOUND
    metadata = json.loads((export / NAME).read_text())
    (export / NAME).write_text(json.dumps(metadata | {"pipeline": "another"}))
    assert not_pushed(export).code is ExitCode.DAMAGED
    (export / NAME).write_text(json.dumps(metadata | {"files": {}}))
    assert not_pushed(export).code is ExitCode.REFUSED


@pytest.mark.parametrize("harm", ["content", "size", "missing"])
def test_what_was_changed_since_is_refused(export: Path, harm: str) -> None:
    shard = export / "model-00002-of-00003.safetensors"
    content = shard.read_bytes()
    if harm == "content":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "size":
        shard.write_bytes(content[:-1])
    else:
        shard.unlink()
    error = not_pushed(export)
    assert error.code is ExitCode.DAMAGED
    assert shard.name in error.message


def test_no_file_from_elsewhere_is_smuggled_in(export: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of mine")
    metadata = json.loads((export / NAME).read_text())
    entry = {"bytes": 7, "sha256": sha256(secret)}
    for name in ("../secret", str(secret), ".hidden"):
        changed = metadata | {"files": metadata["files"] | {name: entry}}
        (export / NAME).write_text(json.dumps(changed))
        assert not_pushed(export).code is ExitCode.REFUSED
    (export / NAME).write_text(json.dumps(metadata))
    (export / CARD).unlink()
    (export / CARD).symlink_to(secret)
    assert not_pushed(export).code is ExitCode.REFUSED


# The command line.


def test_a_dry_run_asks_nobody_and_lists_what_would_go(export: Path) -> None:
    (export / "notes.txt").touch()
    done = run(str(export), "--dry-run", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        f'Would go to "{REPO}" (private if it is made), branch main:'
    )
    assert sum(line.startswith("  model-") for line in done.stdout.splitlines()) == 3
    assert "notes.txt" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"HF_AWQ_CHAT_REPO": ""}, "set HF_AWQ_CHAT_REPO"),
        ({"HF_AWQ_CHAT_REPO": "your-org/chat-awq"}, "set HF_AWQ_CHAT_REPO"),
        ({"HF_AWQ_CHAT_REPO": "companion"}, "OWNER/NAME"),
        ({"HF_AWQ_BRANCH": "../x"}, "no name of a branch"),
        ({"HF_AWQ_PRIVATE": "perhaps"}, 'HF_AWQ_PRIVATE="perhaps" must be 1 or 0'),
    ],
)
def test_bad_variables_are_one_sentence(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(QuantizationError, match=sentence) as caught:
        destination({}, OFFICIAL | variables)
    assert caught.value.code is ExitCode.USAGE


def test_without_a_token_nothing_is_tried(hub: WritableHub, export: Path) -> None:
    done = run(str(export), HF_ENDPOINT=hub.url)
    assert done.returncode == ExitCode.NO_ACCESS
    assert done.stderr == "Set HF_TOKEN to a token of yours that may write.\n"
    assert hub.requested == []
