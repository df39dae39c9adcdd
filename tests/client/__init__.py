"""What the command-line clients share. Needs websockets, pydantic and rich, nothing heavier."""
