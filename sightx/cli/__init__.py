"""The commands: each parses and calls one function."""
