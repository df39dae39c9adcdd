"""What a model is, by its files: where they are, what they hold, which layers can be quantized.

`checkpoint.read` puts together what `source`, `tensors`, `text_config` and `detection` find.
"""
