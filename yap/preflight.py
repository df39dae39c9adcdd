"""Checks before anything starts: are the models there, is the port free?"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from yap.errors import StartupError
from yap.settings import Settings


def check_models(settings: Settings) -> None:
    """Make sure that each deployed model can be found. Folders are checked by the settings; a
    Hub id is looked up in the local cache, and on the Hub where that may be asked.

    Raises:
        StartupError: a model is not there; the message names the variable.
    """
    if settings.chat_enabled:
        _check_hub_model("CHAT_MODEL", settings.chat_model)
    if settings.tool_enabled:
        _check_hub_model("TOOL_MODEL", settings.tool_model)


def check_bias_file(settings: Settings) -> None:
    """Make sure that the file of banned phrases can be used, where there is one.

    Raises:
        StartupError: it cannot; the message names the phrase.
    """
    if settings.chat_enabled and settings.chat_logit_bias_file is not None:
        from yap.chat.bias import read_bias_file

        read_bias_file(settings.chat_logit_bias_file)


def _check_hub_model(variable: str, model: str) -> None:
    if Path(model).is_dir():
        return
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        hf_hub_download(model, "config.json")
    except GatedRepoError:
        raise StartupError(
            f'{variable}="{model}" is gated on the Hugging Face Hub: ask for access on its page, '
            "then set HF_TOKEN."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise StartupError(
            f'{variable}="{model}" is neither a folder nor a model on the Hugging Face Hub '
            "(a private one needs HF_TOKEN)."
        ) from None
    except Exception as error:  # noqa: BLE001 - offline mode, no network, a proxy, a broken cache, ...
        raise StartupError(
            f'{variable}="{model}" is not in the local cache, and the Hugging Face Hub cannot be '
            f"reached ({type(error).__name__}). Connect, or give the path of a model folder."
        ) from None


def check_port(host: str, port: int) -> None:
    """Make sure that the address is free.

    Raises:
        StartupError: somebody listens there already, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartupError(
                    f"port {port} on {host} is in use: stop what listens there, or set PORT."
                ) from None
            raise StartupError(
                f"cannot listen on {host}:{port}: {error.strerror}; set HOST and PORT."
            ) from None
