"""The report of a run: one HTML file with everything that a reader needs to judge it."""
