"""Several processes as one run: collectives, rendezvous, first-failure propagation, launcher."""
