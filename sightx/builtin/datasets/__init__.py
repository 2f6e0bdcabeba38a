"""Datasets that come with SightX."""
