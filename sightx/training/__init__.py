"""The loop: from an experiment and pixels to weights."""
