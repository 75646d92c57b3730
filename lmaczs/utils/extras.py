"""Optional packages, checked before any work rather than at first use."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from lmaczs.utils.errors import LmaczsError

EVALUATION = ("captum", "scipy.stats")


class MissingExtraError(LmaczsError, ImportError):
    """A package of an extra that cannot be imported, and how to install it."""


def require_packages(modules: Iterable[str], extra: str) -> None:
    """Import the modules of an extra in setup.cfg, or raise `MissingExtraError`."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise MissingExtraError(
                f"{package} cannot be imported ({' '.join(str(error).split())}): "
                f'install what the extra {extra} needs, pip install -e ".[{extra}]"'
            ) from error
