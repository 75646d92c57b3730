"""Comparing explainers: conditions, baselines, scores, tables, sanity checks."""
