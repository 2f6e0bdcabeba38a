"""List, find, filter, compare, tag, archive and repeat runs; their directories are the truth."""
