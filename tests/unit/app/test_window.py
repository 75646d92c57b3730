"""window.py: what the window holds; tests/integration/test_app.py uses it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from lmaczs import ZeroShotInterpreter
from lmaczs.app.limits import Limits

pytest.importorskip("gradio", reason='no Gradio: pip install -e ".[app]"')

from lmaczs.app.window import build_app, shown

PAGE = '<!DOCTYPE html><p title="a &amp; b">“dog”</p>'


class Tags(HTMLParser):
    """Attributes of each element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str | None]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the attributes."""
        self.found[tag] = dict(attrs)


def test_the_page_is_in_a_frame() -> None:
    """As it is; the name of the file is text."""
    tags = Tags(shown(PAGE, 'a"><b>.wav', ["dog"], 1.26)).found
    assert tags["iframe"]["srcdoc"] == PAGE
    assert tags["iframe"]["title"] == 'Explanations of a"><b>.wav'
    assert "b" not in tags
    assert tags["a"]["download"] == "a-b.html"
    assert "1 explanation in 1.3 s" in shown(PAGE, "a.wav", ["dog"], 1.26)
    assert "2 explanations in" in shown(PAGE, "a.wav", ["dog", "rain"], 1.26)


def test_the_window_states_its_limits(tiny_clap_folder: Path, tmp_path: Path) -> None:
    """Of the length, where recordings are given; nothing is an endpoint for others."""
    interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder)
    app, _ = build_app(interpreter, Limits(seconds=7), 0, tmp_path / "samples")
    config = app.get_config_file()
    labels = {one["props"].get("label") for one in config["components"]}
    assert {"Recording, at most 7 s", "Prompts, one a line"} <= labels
    assert app.get_api_info()["named_endpoints"] == {}
