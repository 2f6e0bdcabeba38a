"""Files, locks, signals and system resources: each handled in one place."""
