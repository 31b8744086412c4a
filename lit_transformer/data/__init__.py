"""Text to token batches."""

CACHE_DIR = "~/.cache/lit_transformer"
"""Where prepared corpora are kept unless told otherwise."""
