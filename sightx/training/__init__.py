"""The training loop: from an experiment and its data to trained weights."""
