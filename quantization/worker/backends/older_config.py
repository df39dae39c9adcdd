"""A config.json of transformers 5 in the words of transformers 4.

The older version does not refuse what it does not know: it takes its defaults, so that a model
with another rope base would be calibrated, and ruined, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Keys that say something to transformers 5 only where they differ from these.
_HARMLESS: Final = {"attention_bias": False}


def older(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with `rope_theta`, `rope_scaling` and `torch_dtype`.

    Raises:
        ValueError: it says something that the older version has no word for.
    """
    found = {**_HARMLESS, **config}
    if "dtype" in found:
        found["torch_dtype"] = found.pop("dtype")
    rope = found.pop("rope_parameters", None)
    if rope is None:
        return found
    if not isinstance(rope, Mapping) or any(isinstance(value, Mapping) for value in rope.values()):
        raise ValueError("its rope_parameters differ from layer to layer")
    values = dict(rope)
    theta = values.pop("rope_theta", None)
    if theta is None:
        raise ValueError("its rope_parameters name no rope_theta")
    partial = values.pop("partial_rotary_factor", None)
    found["rope_theta"] = theta
    if partial is not None:
        found["partial_rotary_factor"] = partial
    kind = values.get("rope_type", values.pop("type", "default"))
    found["rope_scaling"] = None if kind == "default" else {**values, "rope_type": kind}
    return found
