"""A run, from a plan to an export: its steps, and the environments and processes they take."""
