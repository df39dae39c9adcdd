"""The commands, one module each, with the options that they share and what they print."""
