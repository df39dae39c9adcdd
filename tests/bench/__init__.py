"""Benchmarks: command-line programs that measure, and print what they measured under."""
