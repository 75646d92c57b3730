"""The garbage collector rests while modules are imported, and not after it."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from lmaczs.utils.imports import collector_paused


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    """On or off, also after an import that fails."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), collector_paused():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_what_is_kept_is_frozen() -> None:
    """Objects made meanwhile are no longer collected, those made later are."""
    code = (
        "import gc\n"
        "from lmaczs.utils.imports import collector_paused\n"
        "with collector_paused(): made = [[] for _ in range(10_000)]\n"
        "assert gc.get_freeze_count() == 0\n"
        "with collector_paused(keep=True): pass\n"
        "assert gc.get_freeze_count() > 10_000\n"
        "own = []; own.append(own); del own\n"
        "assert gc.collect() >= 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
