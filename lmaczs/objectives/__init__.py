"""Loss terms of the papers and our own, and their weighted sums."""
