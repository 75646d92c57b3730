"""What a mask decoder is trained for: the papers' terms, ours, and their sums."""
