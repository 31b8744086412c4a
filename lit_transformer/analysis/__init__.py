"""What people look at: words, alignments and pictures made of attention weights."""
