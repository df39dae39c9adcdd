"""The demo chat model: dialogue generator, tokenizer, training, evaluation and model card."""
