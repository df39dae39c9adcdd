"""What the engine is told at start: decided from the model's files, the hardware, the settings.

`planning.decide` makes the plan; `python -m yap.chat.tuning` prints it. docs/tuning.md tells how
each decision is made.
"""
