"""Properties of probes: whatever the code does, the others run and Python lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmaczs.cli.probe import ProbeResult, probe

FINE = "info = 6 * 7"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "raise OSError('libc10_cuda.so:\\n  cannot open')",
            "OSError: libc10_cuda.so: ",
        ),
        ("import no_such_package", "ModuleNotFoundError: "),
        ("raise SystemExit(4)", "SystemExit: 4"),
        ("this is no Python", "SyntaxError: "),
        ("import os; os._exit(3)", "it ends Python with exit status 3"),
        ("import os; os.abort()", "it ends Python with exit status -6"),
    ],
)
def test_failing_code_is_reported_and_the_rest_runs(code: str, error: str) -> None:
    """An exception or the end of the process costs one result, on one line."""
    results = probe({"first": FINE, "bad": code, "last": FINE})
    assert results["first"] == results["last"] == ProbeResult(info=42)
    assert results["bad"].info is None
    assert results["bad"].error.startswith(error)
    assert "\n" not in results["bad"].error


def test_hanging_code_is_ended() -> None:
    """What does not answer in time is reported, and what came before it is kept."""
    codes = {"first": FINE, "bad": "import time; time.sleep(600)"}
    for seconds in (2, 20, 200):  # until the first has time enough, on a busy machine
        results = probe(codes, seconds)
        assert "hangs" in results["bad"].error
        if not results["first"].error:
            break
    assert results["first"].info == 42


def test_what_code_prints_does_not_matter() -> None:
    """Packages that print at import, without a line's end too, confuse nothing."""
    code = "import sys; sys.stdout.write('loading'); sys.stderr.write('x' * 10**6)"
    assert probe({"loud": code, "fine": FINE})["fine"].info == 42


def test_code_sees_the_same_packages_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import path as in this process; the Hub is off whatever the user has set."""
    (tmp_path / "some_package.py").write_text("value = 'found'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    codes = {
        "path": "from some_package import value as info",
        "hub": "import os; info = os.environ['HF_HUB_OFFLINE']",
    }
    results = probe(codes)
    assert results == {"path": ProbeResult("found"), "hub": ProbeResult("1")}
