"""server.py: what stops it before the model is loaded; tests of the app start it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from lmaczs import ZeroShotInterpreter
from lmaczs.app.limits import Limits
from lmaczs.app.server import require_app, serve_app
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import MissingExtraError


def test_a_missing_gradio_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the name of the extra."""
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[app\]"'):
        require_app()


def test_an_address_that_cannot_be_used(tiny_clap_folder: Path) -> None:
    """One that is taken, or is none: the message has the options."""
    pytest.importorskip("gradio")
    interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for host, number in (("127.0.0.1", port), ("192.0.2.1", 7860), ("::x", 1)):
            with pytest.raises(InputError, match=f"--host {host} --port {number}: "):
                serve_app(interpreter, Limits(), 0, host, number, print)
