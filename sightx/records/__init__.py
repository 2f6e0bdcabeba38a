"""Plain records that every room uses. They need numpy, pandas and `io` only."""

SPLITS = ("train", "validation", "test")
