"""The quantizers, each behind the same few functions; they are imported by a worker alone.

Nothing of the server is imported here: a worker runs in a quantizer's own environment.
"""
