"""Write and read exported datasets: packs of preprocessed pixels, and tar shards of images."""
