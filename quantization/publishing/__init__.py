"""A model to where it is served from: BentoML's model store, or the Hugging Face Hub."""
