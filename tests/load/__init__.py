"""The load generator behind `tests/bench.py`. Needs websockets, pydantic and rich."""
