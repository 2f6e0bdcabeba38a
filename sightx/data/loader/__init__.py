"""From pixel rows to batches on a device."""
