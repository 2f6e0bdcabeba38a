"""Look at a dataset before it is trained on, and report what would mislead."""
