"""Check the settings, and print what the start script needs to know, one ``NAME=value`` a line.

``HOST``, ``PORT``: where to listen. ``PROBE_HOST``: where to reach it from here. ``OFFLINE``: 1
when every model that is served is a folder, so that nothing need be fetched. For the word 4bit or
8bit, ``QUANTIZATION`` for the engine where the chat model has that width already, else ``MAKE``:
the chat model, which is to be quantized first. Exit status 2 with a message when it cannot be.
"""

import argparse
import errno
import ipaddress
import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yap.settings import Settings, SettingsError, load_settings

PROBES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not listened on


class Refused(Exception):
    """The server cannot be started like this; the message says why and what to do."""


def weight_bits(config: Mapping[str, Any]) -> int:
    """Bits of a weight by a checkpoint's ``config.json``; 16 when it is not quantized."""
    quantization = config.get("quantization_config") or {}
    if "bits" in quantization:  # AWQ, GPTQ
        return int(quantization["bits"])
    for group in (quantization.get("config_groups") or {}).values():  # compressed-tensors
        bits = (group.get("weights") or {}).get("num_bits")
        if bits:
            return int(bits)
    if quantization.get("load_in_4bit"):
        return 4
    if quantization.get("load_in_8bit") or quantization.get("quant_method") == "fp8":
        return 8
    return 16


def read_config(model: str) -> dict[str, Any]:
    """A checkpoint's ``config.json``, from its folder or from the Hub."""
    path = Path(model) / "config.json"
    if not Path(model).is_dir():
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(model, "config.json"))
        except Exception as error:  # noqa: BLE001 - whatever the Hub client raises
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise Refused(f"config.json of {model} cannot be had from the Hub: {first}") from None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None
    return config if isinstance(config, dict) else {}


def quantization(word: str, settings: Settings) -> dict[str, str]:
    """What 4bit or 8bit means for the chat model; raises ``Refused`` when it cannot be."""
    if not settings.chat_enabled:
        raise Refused(f"{word} is about the chat model, and DEPLOY_MODELS=tool serves none")
    bits = int(word.removesuffix("bit"))
    found = weight_bits(read_config(settings.chat_model))
    if found == bits:
        return {"QUANTIZATION": "auto"}  # the checkpoint says itself how it is quantized
    if found != 16:
        raise Refused(f"{settings.chat_model} is quantized to {found} bits already, not {bits}")
    return {"MAKE": settings.chat_model}


def check_port(host: str, port: int) -> None:
    """Raise ``Refused`` when the server could not listen there."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"port {port} on {host} is in use by another program; stop it, or choose "
                    "another port with PORT"
                ) from None
            raise Refused(f"cannot listen on {host} port {port}: {error.strerror}") from None


def facts(settings: Settings, word: str) -> dict[str, str]:
    models = [settings.chat_model] if settings.chat_enabled else []
    models += [settings.tool_model] if settings.tool_enabled else []
    found = {
        "HOST": settings.host,
        "PORT": str(settings.port),
        "PROBE_HOST": PROBES.get(settings.host, settings.host),
        "OFFLINE": "1" if all(Path(model).is_dir() for model in models) else "0",
    }
    if word:
        found |= quantization(word, settings)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the settings before a start.")
    parser.add_argument("--quantize", choices=("", "4bit", "8bit"), default="")
    parser.add_argument(
        "--port-in-use", action="store_true", help="the server listens there already"
    )
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        if not arguments.port_in_use:
            check_port(settings.host, settings.port)
        found = facts(settings, arguments.quantize)
    except (SettingsError, Refused) as error:
        for sentence in str(error).splitlines():
            print(f"error: {sentence}", file=sys.stderr)
        return 2
    for name, value in found.items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
