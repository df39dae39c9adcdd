"""Whether vLLM serves a model on some hardware: with which kernel, and what memory is left."""
