"""shipped.py: folders at the top of a checkout; a wheel's are in test_packaging.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.utils.shipped import shipped_folder

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["pretrained", "hparams", "recipes"])
def test_a_checkout_has_one_copy(name: str) -> None:
    """It lies at the top."""
    assert shipped_folder(name) == ROOT / name
