"""`lmaczs serve` in a browser: uploads, a microphone, several users, nothing kept."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
import soundfile
import torch
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright

from lmaczs.demo.scenes import write_scenes

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("LMACZS_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
MAX_SECONDS, MAX_MB = 8, 1
LONGEST = 300  # seconds until what has to happen, on a busy machine, too
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="no Chromium: install one, or name it in LMACZS_CHROMIUM",
    ),
    pytest.mark.skipif(
        find_spec("gradio") is None, reason='no Gradio: pip install -e ".[app]"'
    ),
]


class Server:
    """`lmaczs serve` in a process, whose temporary files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        limits = f"--max-seconds {MAX_SECONDS} --max-megabytes {MAX_MB}".split()
        with socket.socket() as one:
            # until the server listens, the system gives the port to nobody else
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
            self.port: int = one.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lmaczs.cli", "serve", "--device", "cpu"]
                + ["--port", str(self.port), *limits],
                env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self.process.stdout is not None
            ready, _, _ = select.select([self.process.stdout], [], [], LONGEST)
            assert ready, "nothing is printed"
            self.line = self.process.stdout.readline()
        self.before = self.files()

    def files(self) -> set[Path]:
        """Those in its folder."""
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def leaves_nothing(self, seconds: float = LONGEST) -> bool:
        """Whether soon there are no files but those of the start."""
        end = time.monotonic() + seconds
        while self.files() != self.before and time.monotonic() < end:
            time.sleep(0.2)
        return self.files() == self.before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app with the embedded default; stopped, it has removed all its files."""
    one = Server(tmp_path_factory.mktemp("server"))
    yield one
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(LONGEST) == 0
    assert one.files() == set()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demonstration's recordings with a sample changed: they are no samples."""
    folder = tmp_path_factory.mktemp("scenes")
    found = {}
    for scene, path in write_scenes(folder, 32000):
        samples, rate = soundfile.read(path, dtype="float32")
        samples[0] = 0.01
        soundfile.write(path, samples, rate)
        found[scene.name] = path
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, with a microphone that beeps."""
    expect.set_options(timeout=1000 * LONGEST)
    with sync_playwright() as tools:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        arguments.append("--use-fake-ui-for-media-stream")
        arguments.append("--use-fake-device-for-media-stream")
        launched = tools.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def user(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Function that opens the app as a new user; nothing else may be fetched."""
    pages: list[Page] = []
    problems: list[str] = []

    def opened(width: int = 1400) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(1000 * LONGEST)
        page = context.new_page()
        own = (f"http://127.0.0.1:{server.port}/", "data:", "blob:", "about:")
        page.on(
            "request",
            lambda r: None if r.url.startswith(own) else problems.append(r.url),
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_role("button", name="Explain", exact=True).wait_for()
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.context.close()
    assert problems == []


def upload(page: Page, path: Path) -> None:
    """Choose a file, and wait until it is there."""
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_label("Clear").first.wait_for()


def ask(page: Page, *prompts: str) -> None:
    """Type prompts and press the button."""
    page.get_by_label("Prompts, one a line").fill("\n".join(prompts))
    page.get_by_role("button", name="Explain", exact=True).click()


def answer(page: Page, name: str) -> Frame:
    """The frame with the explanations of a recording, when it is drawn."""
    frame = page.wait_for_selector(f'iframe[title="Explanations of {name}"]')
    inner = frame.content_frame()
    assert inner is not None
    inner.wait_for_selector("#r1[data-ready]")
    return inner


def verdicts(frame: Frame) -> list[str]:
    """Prompts and verdicts, as the tabs have them."""
    return [" ".join(t.split()) for t in frame.locator("[role=tab]").all_inner_texts()]


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    """The address is printed; another address of the machine is not served."""
    assert server.line == f"http://127.0.0.1:{server.port}/ (Ctrl-C stops it)\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), 5)


def test_upload_see_hear_and_download(
    user: Callable[..., Page],
    browser: Browser,
    server: Server,
    scenes: dict[str, Path],
    tmp_path: Path,
) -> None:
    """A file's explanations play in the app, and from the page that is downloaded."""
    page = user()
    upload(page, scenes["dog_by_the_fire"])
    ask(page, "dog", "siren")
    frame = answer(page, "dog_by_the_fire.wav")
    assert verdicts(frame) == ["dog kept", "siren not heard"]
    frame.get_by_role("radio", name="Explanation").check()
    frame.locator(".play").click()
    frame.wait_for_function("document.querySelector('#r1 .seek').value > 0.3")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the page").click()
    assert download.value.suggested_filename == "dog-by-the-fire.html"
    download.value.save_as(tmp_path / "page.html")
    alone = browser.new_context(offline=True).new_page()
    alone.set_default_timeout(1000 * LONGEST)
    alone.goto((tmp_path / "page.html").as_uri())
    alone.wait_for_selector("#r1[data-ready]")
    alone.locator(".play").click()
    alone.wait_for_function("document.querySelector('#r1 .seek').value > 0.3")
    assert verdicts(alone.main_frame) == ["dog kept", "siren not heard"]
    alone.context.close()
    page.context.close()
    assert server.leaves_nothing()


def test_three_users_at_once(
    user: Callable[..., Page], scenes: dict[str, Path], server: Server
) -> None:
    """Each gets the explanations of the own recording and prompts, and of no other."""
    wanted = {
        "dog_by_the_fire": ("dog", "crackling fire"),
        "clock_in_the_rain": ("clock tick", "dog"),
        "siren_and_church_bells": ("siren", "church bells"),
    }
    pages = {name: user() for name in wanted}
    for name, page in pages.items():
        upload(page, scenes[name])
    for name, page in pages.items():
        ask(page, *wanted[name])
    for name, page in pages.items():
        frame = answer(page, f"{name}.wav")
        found = frame.locator("[role=tab] .name").all_inner_texts()
        assert tuple(found) == wanted[name]
        assert verdicts(frame)[0].endswith("kept")
        assert page.locator("iframe.lmaczs-page").count() == 1
    for page in pages.values():
        page.context.close()
    assert server.leaves_nothing()


def test_two_users_of_one_file(
    user: Callable[..., Page], scenes: dict[str, Path], server: Server
) -> None:
    """Who leaves takes no file away that another needs."""
    first, second = user(), user()
    for page in (first, second):
        upload(page, scenes["dog_at_the_church"])
        ask(page, "dog")
        answer(page, "dog_at_the_church.wav")
    first.context.close()
    time.sleep(2)
    assert not server.leaves_nothing(0)
    ask(second, "church bells", "dog")
    second.get_by_text("2 explanations in").wait_for()
    assert len(verdicts(answer(second, "dog_at_the_church.wav"))) == 2
    second.context.close()
    assert server.leaves_nothing()


def test_contrast(user: Callable[..., Page], scenes: dict[str, Path]) -> None:
    """The words say how far a prompt is ahead of the other."""
    page = user()
    page.get_by_text("dog by the fire").click()  # one of the samples
    page.get_by_label("Clear").first.wait_for()
    page.get_by_label("Explain each prompt against the others").check()
    ask(page, "dog", "crackling fire")
    frame = answer(page, "dog_by_the_fire.wav")
    assert "above “crackling fire” by 0.235" in frame.locator("#r1").inner_text()


def test_the_microphone(user: Callable[..., Page], server: Server) -> None:
    """What is recorded is explained, and removed."""
    page = user()
    page.get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("0:02", exact=True).wait_for()  # so long it has recorded
    # it is sent when the browser has encoded it, and then looked at
    with page.expect_request("**/queue/join*"):
        page.get_by_role("button", name="Stop", exact=True).first.click()
    ask(page, "a beep")
    frame = answer(page, "audio.wav")
    assert float(frame.locator(".length").inner_text().split()[0]) > 1
    page.context.close()
    assert server.leaves_nothing()


def test_what_is_refused(
    user: Callable[..., Page], tmp_path: Path, scenes: dict[str, Path], server: Server
) -> None:
    """Each in a sentence: what is missing, too long, too large, or no audio."""
    page = user()
    said = page.get_by_test_id("toast-body")
    ask(page, "dog")
    expect(said).to_contain_text("there is no recording: upload or record one")
    long, large = tmp_path / "long.flac", tmp_path / "large.wav"
    soundfile.write(long, torch.zeros(16000 * (MAX_SECONDS + 1)).numpy(), 16000)
    soundfile.write(large, torch.zeros(600_000).numpy(), 96000)
    (tmp_path / "text.wav").write_text("no audio")
    for path, reason in (
        (long, "long.flac: it is 9.0 s long, at most 8 s are taken: cut it"),
        (tmp_path / "text.wav", "text.wav: no audio in a format that is read here"),
    ):
        upload(page, path)
        expect(said).to_contain_text(reason)
        page.get_by_label("Clear").first.click()
    page.locator("input[type=file]").first.set_input_files(large)
    expect(said).to_contain_text("exceed the maximum allowed size")
    address = f"http://127.0.0.1:{server.port}/gradio_api/upload"
    with large.open("rb") as file:  # past the window
        sent = requests.post(address, files={"files": file}, timeout=LONGEST)
    assert sent.status_code == 413
    page = user()
    upload(page, scenes["dog_by_the_fire"])
    ask(page, "  ")
    said = page.get_by_test_id("toast-body")
    expect(said).to_contain_text("there is no prompt: type one a line")
    for one in page.context.browser.contexts:
        one.close()
    assert server.leaves_nothing()


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_runs_over_the_edge(user: Callable[..., Page], width: int) -> None:
    """Neither the window nor the page in it is wider than the screen."""
    page = user(width)
    page.get_by_text("siren and church bells").click()
    page.get_by_label("Clear").first.wait_for()
    ask(page, "siren", "church bells", "dog")
    frame = answer(page, "siren_and_church_bells.wav")
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= width
    assert frame.evaluate(f"{wide} <= innerWidth")
    table = frame.locator(".numbers").bounding_box()
    card = frame.locator("#r1").bounding_box()
    assert table is not None and card is not None
    assert table["x"] + table["width"] <= card["x"] + card["width"]
    tall = frame.evaluate("document.body.offsetHeight - innerHeight")
    assert abs(tall) <= 2
