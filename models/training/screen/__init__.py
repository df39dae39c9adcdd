"""Builds the demo screenshot-intent classifier: its data, its training and its model card."""
