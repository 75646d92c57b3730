"""The base class of every error that a user can cause."""

from __future__ import annotations


class LmaczsError(Exception):
    """What cannot be done: one sentence that names the file or option and the fix."""
