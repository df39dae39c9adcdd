"""BentoML's model store, filled without copying gigabytes more often than needed.

BentoML itself copies a model to $TMPDIR and from there to the store. Here its folder is made on the
store's own disk, with hard links where they can be, and renamed into place when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantization.errors import ExitCode, QuantizationError

_SPARE: Final = 64 << 20  # bytes that must stay free on the disk


@dataclass(frozen=True, slots=True)
class Content:
    """What a model is: its files with their sizes in bytes and their SHA-256."""

    folder: Path
    files: Mapping[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for size, _ in self.files.values())

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes and contents."""
        lines = (f"{name}\0{size}\0{sha}\n" for name, (size, sha) in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class ModelStore:
    """BentoML's store: the one in BENTOML_HOME, or that in another folder."""

    def __init__(self, root: Path | None = None) -> None:
        from bentoml._internal.configuration.containers import BentoMLContainer
        from bentoml._internal.models import ModelStore as Models

        self._root = root or Path(BentoMLContainer.model_store_dir.get())
        self._models = Models(self._root)

    def folder(self, tag: str) -> Path:
        """Where a model is, or would be."""
        return self._root / tag.replace(":", "/")

    def holds(self, tag: str, content: Content) -> bool:
        """Whether this very content is there under the tag.

        Raises:
            QuantizationError: something else is, or what is there is damaged.
        """
        from bentoml.exceptions import BentoMLException

        folder = self.folder(tag)
        if not folder.is_dir():
            return False  # not models.get, which takes the beginning of a version for the version
        try:
            metadata = self._models.get(tag).info.metadata
        except (BentoMLException, ValueError, KeyError):
            raise _broken(tag) from None
        if metadata.get("sha256") != content.digest:
            raise QuantizationError(
                f"The store holds another model as {tag}: give another --version, leave it out, or "
                f"delete that one (bentoml models delete {tag}).",
                ExitCode.REFUSED,
            )
        if any(_size(folder / name) != size for name, (size, _) in content.files.items()):
            raise _broken(tag)
        return True

    def put(
        self,
        tag: str,
        content: Content,
        labels: dict[str, str],
        metadata: dict[str, Any],
        *,
        link: bool,
    ) -> bool:
        """Store a model; whether by hard links.

        Raises:
            QuantizationError: it cannot be written.
        """
        files = {name: list(facts) for name, facts in content.files.items()}
        facts = {**metadata, "sha256": content.digest, "bytes": content.size, "files": files}
        try:
            with self._workplace() as work:
                made = _described(tag, labels, facts, work)
                linked = _fill(made, content, link=link)
                self._publish(made, self.folder(tag))
        except OSError as error:
            raise self._no_room(content, error) from error
        return linked

    @contextlib.contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A folder on the store's disk that is gone afterwards, whatever happens."""
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".packing-", dir=self._root.parent) as work:
            yield Path(work)

    def _publish(self, made: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        try:
            made.rename(target)
        except OSError as error:  # somebody packed the same meanwhile
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        (target.parent / "latest").write_text(target.name, encoding="utf-8")

    def _no_room(self, content: Content, error: OSError) -> QuantizationError:
        return QuantizationError(
            f"The model ({content.size / 1e9:.2f} GB) cannot be written to {self._root} "
            f"({error.strerror}): make room, or set BENTOML_HOME to a folder on another disk.",
            ExitCode.NO_ROOM,
        )


def _described(tag: str, labels: dict[str, str], facts: dict[str, Any], work: Path) -> Path:
    """A folder that is a model to BentoML, without files yet."""
    import bentoml
    from bentoml._internal.models import ModelStore as Models

    with bentoml.models.create(tag, labels=labels, metadata=facts, _model_store=Models(work)):
        pass
    made = work / tag.replace(":", "/")
    made.chmod(0o755)  # BentoML makes it for its maker alone; an image's user may be another
    return made


def _fill(made: Path, content: Content, *, link: bool) -> bool:
    origins = {name: (content.folder / name).resolve() for name in content.files}
    if link and _can_link(next(iter(origins.values())), made):
        for name, origin in origins.items():
            (made / name).hardlink_to(origin)
        return True
    if shutil.disk_usage(made).free < content.size + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for name, origin in origins.items():
        shutil.copyfile(origin, made / name)
    return False


def _can_link(origin: Path, folder: Path) -> bool:
    probe = folder / ".probe"
    try:
        probe.hardlink_to(origin)
    except OSError:
        return False
    probe.unlink()
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _broken(tag: str) -> QuantizationError:
    return QuantizationError(
        f"{tag} in the store is damaged: delete it (bentoml models delete {tag}) and pack again.",
        ExitCode.DAMAGED,
    )
