"""Optional packages, checked before any work rather than at first use."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

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
                f"install what the extra {extra} needs, {install_extra(extra)}"
            ) from error


def install_extra(extra: str) -> str:
    """The command that installs an extra, from the checkout where there is one."""
    checkout = Path(__file__).parents[2]
    if not (checkout / "pyproject.toml").is_file():
        return pip(f'install "lmaczs[{extra}]"')
    here = "." if checkout == Path.cwd() else str(checkout)
    return pip(f'install -e "{here}[{extra}]"')


def pip(arguments: str) -> str:
    """A command of pip for the Python that runs.

    The `pip` of the shell may be that of another one: in notebooks, and where a
    virtual environment is used without being activated.
    """
    found = shutil.which("pip")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return f"pip {arguments}"
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip {arguments}"
