"""What no client should send: what it is, how it is sent, and what must come of it."""
