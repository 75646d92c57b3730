"""The web app: recordings and prompts in, the page of their explanations out."""
