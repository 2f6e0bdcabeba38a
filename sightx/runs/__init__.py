"""The run directory and everything in it."""
