"""Exit with 0 when the service on this machine is ready for a turn, else with 1 and a sentence.

    python -I -S yap/healthcheck.py

A container's HEALTHCHECK runs it every few seconds, so it imports nothing but a little of the
standard library and needs no environment. `HOST` and `PORT` are those of the service.
"""

from __future__ import annotations

import http.client
import os
import sys

_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
_TIMEOUT_S = 4.0


def problem(host: str, port: int) -> str | None:
    """What keeps the service at this address from serving; None when nothing does."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{host}:{port} does not answer: {error}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"/readyz answers {status}"


def main() -> int:
    """The exit code."""
    host = os.environ.get("HOST", "").strip()
    found = problem(_EVERY_ADDRESS.get(host, host), int(os.environ.get("PORT") or 8000))
    if found is not None:
        print(found)  # noqa: T201 - docker inspect shows it
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
