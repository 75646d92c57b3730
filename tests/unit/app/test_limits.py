"""limits.py: what is a limit."""

from __future__ import annotations

import pytest

from lmaczs.app.limits import Limits
from lmaczs.utils.errors import InputError


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e10])
def test_limits_are_positive(value: float) -> None:
    """Nothing else is a limit."""
    with pytest.raises(InputError, match="a limit is above 0.*: seconds is"):
        Limits(seconds=value)
