"""Folders that are shipped with the package: models, YAMLs and recipes."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Place of ``pretrained``, ``hparams`` or ``recipes``.

    Inside an installed package; at the top of a checkout.
    """
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
