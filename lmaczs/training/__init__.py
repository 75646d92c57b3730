"""Training a mask decoder, fine-tuning it, exporting it."""
