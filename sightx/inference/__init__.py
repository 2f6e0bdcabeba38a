"""From a run to a prediction."""
