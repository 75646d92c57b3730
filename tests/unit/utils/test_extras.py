"""Optional packages: one that is missing is one sentence with its extra."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.utils.errors import LmaczsError
from lmaczs.utils.extras import EVALUATION, MissingExtraError, require_packages


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
        'install what the extra shards needs, pip install -e ".[shards]"'
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
