"""Figures of explanations, the figures of the paper, and the HTML page."""
