"""Images and labels: datasets, decoding, the pixel cache, batches."""
