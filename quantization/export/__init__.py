"""What is left at the end: a folder that vLLM serves as it is, and that says how it was made."""
