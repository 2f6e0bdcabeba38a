"""What an experiment says: from a document to an `Experiment`, or every problem at once."""
