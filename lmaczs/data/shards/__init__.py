"""Clips in tar files, for data sets too large for a disk."""
