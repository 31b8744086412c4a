"""Attention weights for people: words, alignments, figures and a page."""
