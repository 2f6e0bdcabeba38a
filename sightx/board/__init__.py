"""A local page over the registry of runs: read-only, without a network, in a browser."""
