"""`sightx init`: look at data, write a first spec."""
