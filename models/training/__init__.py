"""Training scripts of the two small demo models."""
