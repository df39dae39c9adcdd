"""How much a quantized model lost: perplexity, KL divergence, next-token agreement, size, speed.

`in_process` holds both models' full distributions against each other inside the quantizer, and
`served` both models in vLLM, as they are served; `comparison` says what the numbers are.
"""

from quantization.gauge.comparison import Comparison
from quantization.gauge.in_process import compare, discard, reference, token_budget
from quantization.gauge.result import (
    Bounds,
    Gauge,
    Run,
    Served,
    breaches,
    of_served,
    served_table,
    table,
)

__all__ = [
    "Bounds",
    "Comparison",
    "Gauge",
    "Run",
    "Served",
    "breaches",
    "compare",
    "discard",
    "of_served",
    "reference",
    "served_table",
    "table",
    "token_budget",
]
