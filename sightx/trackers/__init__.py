"""Send runs to trackers; a run directory holds everything that is sent."""
