"""Comparing explainers: conditions, rivals, scores, tables, sanity checks."""
