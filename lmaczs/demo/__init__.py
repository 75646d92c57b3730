"""Synthetic scenes that `lmaczs demo` interprets."""
