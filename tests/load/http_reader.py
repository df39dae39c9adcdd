"""HTTP/1.1 answers and server-sent events from pieces of bytes, without I/O."""

from __future__ import annotations

from collections.abc import Iterator

MAX_HEAD = 1 << 16
_MAX_EVENT = 1 << 20


class HttpError(ValueError):
    """The peer does not speak HTTP/1.1 as expected."""


class ResponseReader:
    """Reads one response from pieces of bytes, however they are cut."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = b""
        self._left: int | None = None  # of the body or of the chunk; None is until the end
        self._chunked = False
        self._in_body = False

    @property
    def reusable(self) -> bool:
        """Whether the connection can be used for another request."""
        return self.complete and self.headers.get("connection", "").lower() != "close"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of the body in `data`.

        Raises:
            HttpError: the bytes are no such response.
        """
        self._buffer += data
        if not self._in_body and not self._read_head():
            return
        while self._buffer and not self.complete:
            if self._chunked and not self._left and not self._next_chunk():
                return
            piece = self._buffer[: self._left]
            self._buffer = self._buffer[len(piece) :]
            if self._left is not None:
                self._left -= len(piece)
                self.complete = not self._chunked and self._left == 0
            yield piece

    def _read_head(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > MAX_HEAD:
                raise HttpError("The head of the answer is too long.")
            return False
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise HttpError(f"No HTTP answer: {lines[0][:80]!r}")
        self.status = int(parts[1])
        pairs = (line.partition(":") for line in lines[1:])
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self._chunked and "content-length" in self.headers:
            self._left = int(self.headers["content-length"])
            self.complete = self._left == 0
        self._buffer, self._in_body = rest, True
        return True

    def _next_chunk(self) -> bool:
        """Read a chunk's size, after the line end of the chunk before; whether a chunk begins."""
        start = 2 if self._left == 0 else 0
        end = self._buffer.find(b"\r\n", start)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise HttpError("The size of a chunk is too long.")
            return False
        size = int(self._buffer[start:end].partition(b";")[0], 16)
        if size == 0:
            self.complete = self._buffer.endswith(b"\r\n\r\n")  # trailers are not looked at
            return False
        self._buffer, self._left = self._buffer[end + 2 :], size
        return bool(self._buffer)


class EventReader:
    """Cuts a body into the data of its server-sent events."""

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of the events that `piece` completes.

        Raises:
            HttpError: an event is too long.
        """
        *lines, self._buffer = (self._buffer + piece).split(b"\n")
        if len(self._buffer) > _MAX_EVENT:
            raise HttpError("An event is too long.")
        for line in (raw.rstrip(b"\r") for raw in lines):
            if line.startswith(b"data:"):
                self._data.append(line[5:].lstrip(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
