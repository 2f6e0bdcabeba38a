"""Write and read exports: datasets (packs of pixels, tar shards) and models (ONNX and others)."""
