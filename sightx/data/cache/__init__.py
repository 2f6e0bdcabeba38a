"""The pixel cache: preprocessed images on disk, shared by all specs."""
