"""What predictions are worth: metrics, decisions, pictures."""
