"""Corpora: any number of clips explained into Parquet tables, and searched."""
