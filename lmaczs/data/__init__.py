"""Data sets, manifests, splits, and the clips with prompts that a decoder learns on."""
