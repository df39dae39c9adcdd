"""Yap: a text inference server for voice and roleplay companions."""

__version__ = "0.1.0"
