"""The networks that ship."""
