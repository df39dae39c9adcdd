"""The process that holds the classifier, so that it never competes with the streams for Python.

    python -m yap.screen.worker OPTIONS

It is started by `classifier.py` with its `Options` as JSON, and talks in lines of JSON over its
standard input and output:

    in   {"id": 7, "utterance": "look at this", "earlier": ["hi"]}    judge this
    in   {"drop": 7}                                                  nobody waits for it any more
    out  {"ready": true}  or  {"refused": "TOOL_MODEL=... "}          once, at the start
    out  {"ids": [7], "probabilities": [0.97]}                        a batch's answers
    out  {"ids": [7], "failed": true}                                 a batch that raised

One thread reads and tokenizes, one computes. The process ends when its input does, that is, when
the service is gone, however it went.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from typing import Any, BinaryIO

from yap.errors import StartupError
from yap.logs import configure_logging
from yap.screen.batcher import Batcher, Entry
from yap.screen.checkpoint import Checkpoint, Options

log = logging.getLogger(__name__)

# A CPU pays for every token of padding; a GPU's time at these sizes is in the launches.
_CPU_PADDING = 8
# Tokens of a batch from which what it left behind is given back. glibc keeps it, and batches of
# ever other shapes fragment its heap: 0.6 GiB grew to 1.7 in twelve minutes of long conversations.
_TRIM_TOKENS = 2048


class Worker:
    """Reads requests, computes them in batches, writes answers."""

    def __init__(self, checkpoint: Checkpoint, batcher: Batcher, out: BinaryIO) -> None:
        self._checkpoint = checkpoint
        self._batcher = batcher
        self._out = out
        self._writing = threading.Lock()
        # Returns freed memory to the system; not every C library has it.
        self._give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def read(self, requests: BinaryIO) -> None:
        """Take requests until there are no more; for a thread of its own."""
        for line in requests:
            request = json.loads(line)
            if "drop" in request:
                self._batcher.drop(request["drop"])
            else:
                self._take(request)
        # The service has gone. What still computes is of use to nobody.
        os._exit(0)

    def compute(self) -> None:
        """Answer batches, one after the other, for ever."""
        while batch := self._batcher.take():
            ids = [entry.id for entry in batch]
            try:
                answers = self._checkpoint.probabilities([entry.token_ids for entry in batch])
            except Exception:
                log.exception("The classifier failed on a batch of %d", len(batch))
                self.write({"ids": ids, "failed": True})
            else:
                self.write({"ids": ids, "probabilities": answers})
                tokens = sum(len(entry.token_ids) for entry in batch)
                if tokens >= _TRIM_TOKENS and self._give_back is not None:
                    self._give_back(0)

    def write(self, answer: dict[str, Any]) -> None:
        """Send one line."""
        with self._writing:
            self._out.write(json.dumps(answer).encode() + b"\n")
            self._out.flush()

    def _take(self, request: dict[str, Any]) -> None:
        try:
            token_ids = self._checkpoint.token_ids(request["utterance"], request["earlier"])
        except Exception:
            log.exception("The classifier's tokenizer failed")
            self.write({"ids": [request["id"]], "failed": True})
        else:
            self._batcher.put(Entry(request["id"], token_ids))


def main() -> None:
    """Serve until the input ends."""
    # BentoML sends it to the service and to us at once; the last turns still have questions.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Libraries print; the protocol's way out is kept from them, and what they print is logged.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    arguments = json.loads(sys.argv[1])
    configure_logging(**arguments["logging"])
    options = Options(**arguments["options"])
    try:
        checkpoint = Checkpoint(options)
    except StartupError as error:
        out.write(json.dumps({"refused": str(error)}).encode() + b"\n")
        out.flush()
        sys.exit(1)
    padding = _CPU_PADDING if checkpoint.on_cpu else None
    batcher = Batcher(options.batch_texts, options.batch_tokens, padding)
    worker = Worker(checkpoint, batcher, out)
    threading.Thread(target=worker.read, args=(sys.stdin.buffer,), name="read", daemon=True).start()
    worker.write({"ready": True})
    worker.compute()


if __name__ == "__main__":
    main()
