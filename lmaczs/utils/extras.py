"""Optional packages: looked for before any work, not when they are first used."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from lmaczs.utils.errors import LmaczsError

__all__ = ["EVALUATION", "MissingExtraError", "require_packages"]

EVALUATION = ("captum", "scipy.stats")


class MissingExtraError(LmaczsError, ImportError):
    """A package of an extra that cannot be imported, and how to install it."""


def require_packages(modules: Iterable[str], extra: str) -> None:
    """Import modules that an extra brings.

    Parameters
    ----------
    modules : iterable of str
        Names that are imported.
    extra : str
        The extra in setup.cfg.

    Raises
    ------
    MissingExtraError
        If one of them cannot be imported.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise MissingExtraError(
                f"{package} cannot be imported ({' '.join(str(error).split())}): "
                f'install what the extra {extra} needs, pip install -e ".[{extra}]"'
            ) from error
