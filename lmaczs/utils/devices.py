"""Devices that torch does not have here, in a sentence."""

from __future__ import annotations

import re


def device_reason(error: Exception) -> str:
    """Why a device cannot be used: the first sentence of what torch says of it.

    It may list all its back ends, thousands of characters, which say no more.
    """
    text = " ".join(str(error).split())
    if text.startswith("Could not run"):
        return "torch has no such device here"
    return re.split(r"\. |: (?=\[)", text)[0].rstrip(".")
