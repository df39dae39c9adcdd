"""The parts of docs/asyncapi.yaml, which scripts/generate_asyncapi.py puts together."""
