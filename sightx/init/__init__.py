"""`sightx init`: inspect data and write a first spec."""
