"""Optional packages: one that is missing is one sentence with its extra."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.extras import (
    EVALUATION,
    MissingExtraError,
    install_extra,
    pip,
    require_packages,
)


def test_what_is_installed_passes() -> None:
    """The tests have the extra eval; submodules and no module at all are fine."""
    require_packages(EVALUATION, "eval")
    require_packages(["os.path"], "none")
    require_packages([], "none")


def test_what_is_missing_is_named_with_its_extra() -> None:
    """The package rather than its submodule, the reason and the command."""
    with pytest.raises(MissingExtraError) as caught:
        require_packages(["json", "no_such_package.part"], "shards")
    assert str(caught.value) == (
        "no_such_package cannot be imported (No module named 'no_such_package'): "
        f"install what the extra shards needs, {install_extra('shards')}"
    )
    assert isinstance(caught.value, LmaczsError)
    assert isinstance(caught.value, ImportError)


def test_a_package_that_fails_at_import_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own reason is kept, on one line."""
    text = "raise ImportError('broken\\n  build')"
    (tmp_path / "a_broken_package.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"imported \(broken build\): install"):
        require_packages(["a_broken_package"], "eval")


def test_the_command_is_that_of_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip` where it is this Python's, else this Python itself."""
    for folder in ("own", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pip").touch(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "own" / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path / "own"))
    assert pip("install x") == "pip install x"
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert pip("install x") == f"{tmp_path}/own/python3 -m pip install x"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a b" / "python"))
    assert pip("install x") == f'"{tmp_path}/a b/python" -m pip install x'


def test_an_extra_is_installed_from_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its folder, from wherever the command is given."""
    checkout = Path(__file__).parents[3]
    monkeypatch.chdir(checkout)
    assert install_extra("app").endswith('pip install -e ".[app]"')
    monkeypatch.chdir(tmp_path)
    assert install_extra("app").endswith(f'pip install -e "{checkout}[app]"')
