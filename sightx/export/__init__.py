"""Write and read datasets made by SightX: packs and shards."""
