"""Figures of merit: pure functions of tensors, one value per clip."""
