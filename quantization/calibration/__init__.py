"""Calibration data: from a name to sequences of token ids, and a record of where they come from.

What is taken for a name is in `registry`, how rows become texts and talks in `rows`, how those
become token ids in `rendering` and `packing`, and which rows are left out in `selection`.
"""

from quantization.calibration.bundled import held_out
from quantization.calibration.preparing import CalibrationSet, Request, identity, load, prepare

__all__ = ["CalibrationSet", "Request", "held_out", "identity", "load", "prepare"]
