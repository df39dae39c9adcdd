"""Who shares whose prefix cache.

The engine uses again what it has computed of any prompt that begins alike. That is what makes turns
fast, and it can be measured: a prompt that somebody has sent before is answered sooner. So prompts
of different tenants share nothing, but for those that open with a persona of the library, which is
no secret. vLLM salts the first block of a prompt and thereby all that follow: behind a client's own
persona the history is its tenant's alone too, behind one of the library it is not.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b

_BYTES = 16


class CacheSalts:
    """The salt of each tenant, for as long as this process lives."""

    def __init__(self, is_shared: Callable[[str], bool] = lambda _: False) -> None:
        """
        Args:
            is_shared: whether a persona is known to all tenants.
        """
        self._key = secrets.token_bytes(32)
        self._is_shared = is_shared

    def of(self, tenant: bytes, persona: str | None) -> str | None:
        """What goes into the first block of a prompt; None is what all tenants share.

        Args:
            tenant: whose prompt it is, as `KeyRing.check` names them.
            persona: what the prompt begins with, if there is one.
        """
        if persona and self._is_shared(persona):
            return None
        # Neither an API key nor its digest is handed on: salts go to another process.
        return blake2b(tenant, key=self._key, digest_size=_BYTES).hexdigest()
