"""Pictures of explanations, the papers' figures, and the HTML page."""
