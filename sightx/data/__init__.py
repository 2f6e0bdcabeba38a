"""Images and labels: tables, pixels, batches."""
