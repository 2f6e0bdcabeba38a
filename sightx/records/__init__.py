"""Plain records that travel between rooms. They need numpy and pandas only."""
