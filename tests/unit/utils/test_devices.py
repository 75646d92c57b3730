"""devices.py: torch's pages about a device become a sentence."""

from __future__ import annotations

import pytest
import torch

from lmaczs.utils.devices import device_reason


@pytest.mark.parametrize("name", ["mps", "xpu", "vulkan", "none", "cuda:99"])
def test_a_device_that_is_not_there_has_a_short_reason(name: str) -> None:
    """Whatever torch says of it, on a machine that has none of them."""
    with pytest.raises((RuntimeError, AssertionError)) as refusal:
        torch.zeros(1, device=name)
    reason = device_reason(refusal.value)
    assert 10 < len(reason) < 300 and "\n" not in reason
    assert not reason.endswith(".")


def test_other_reasons_stay() -> None:
    """The first sentence of them."""
    text = "Found no NVIDIA driver on your system. Please check\nthat you have one."
    assert device_reason(RuntimeError(text)) == "Found no NVIDIA driver on your system"
