"""The observers that ship."""
