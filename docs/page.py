"""Pictures of pages, as Chromium shows them.

    lmaczs demo --out out
    python docs/page.py out/index.html docs/page.jpg
    lmaczs scan meadow.wav --prompt "a crow cawing" --out found
    python docs/page.py found/events.html docs/events.jpg
    lmaczs serve
    python docs/page.py http://127.0.0.1:7860 docs/app.jpg

Of a page of explanations one recording of the demo, of a scan's page its first one, of
the app its answer to the first sample.

Needs playwright (in the extra `test`) and Chromium on the path, or its file in
LMACZS_CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

RECORDING, PROMPT, SECONDS = "dog_at_the_church.wav", "dog", 1.08


def main(page: str, path: str) -> None:
    """Open the page and photograph a part of it."""
    with sync_playwright() as tools:
        executable = os.environ.get("LMACZS_CHROMIUM") or shutil.which("chromium")
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = tools.chromium.launch(executable_path=executable, args=arguments)
        window = browser.new_page(viewport={"width": 1000, "height": 1150})
        is_app = page.startswith("http")
        window.goto(page if is_app else Path(page).resolve().as_uri())
        shown = window.locator("body")
        if is_app:
            ask(window)
        elif window.locator(".whole").count():
            window.wait_for_selector(".whole[data-ready]")
            shown = window.locator(".whole").first
        else:
            shown = window.locator(f'.recording[data-file="{RECORDING}"]')
            choose(window)
        (window if is_app else shown).screenshot(path=path, type="jpeg", quality=82)
        browser.close()


def ask(window: Page) -> None:
    """Explain the first sample, and wait until it is drawn."""
    window.get_by_role("button", name="dog by the fire").click()
    window.get_by_label("Clear").first.wait_for()
    window.get_by_role("button", name="Explain", exact=True).click()
    frame = window.wait_for_selector("iframe").content_frame()
    assert frame is not None
    frame.wait_for_selector("#r1[data-ready]")


def choose(window: Page) -> None:
    """Choose and listen into the prompt."""
    shown = window.locator(f'.recording[data-file="{RECORDING}"]')
    shown.scroll_into_view_if_needed()
    window.wait_for_selector(f'[data-ready][data-file="{RECORDING}"]')
    shown.get_by_role("tab", name=PROMPT).click()
    shown.locator(".seek").fill(str(SECONDS))
    shown.get_by_role("radio", name="Explanation").check()
    window.evaluate("document.activeElement.blur()")


if __name__ == "__main__":
    main(*sys.argv[1:])
