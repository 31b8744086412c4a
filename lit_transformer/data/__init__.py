"""From text to token batches."""

CACHE_DIR = "~/.cache/lit_transformer"
"""Default folder for prepared corpora."""
