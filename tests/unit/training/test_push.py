"""What of an exported folder goes to the Hub, and what keeps it from going there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from lmaczs.training.push import (
    PushError,
    push_export,
    require_decoder,
    shared_card,
    shared_files,
)
from lmaczs.utils.errors import InputError


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An exported folder in outline: a decoder for a CLAP beside it."""
    (tmp_path / "clap").mkdir()
    for name in ("decoder.safetensors", "run.json", "clap/config.json", "clap/.cache"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "hyperparams.yaml").write_text("clap_source: clap\nx: !ref <y>\n")
    (tmp_path / "README.md").write_text('---\ntags: [a]\n---\nsource="<this folder>"\n')
    return tmp_path


def test_the_files_are_what_can_be_loaded(exported: Path) -> None:
    """Nothing hidden, nothing of this machine; the card goes apart."""
    (exported / "notes.txt").touch()
    found = shared_files(exported)
    assert set(found) == {"decoder.safetensors", "hyperparams.yaml", "clap/config.json"}
    assert all(path.is_file() for path in found.values())


def test_the_card_names_the_repository_and_the_clap(exported: Path) -> None:
    """The example can be pasted; a CLAP of the Hub is the base model."""
    assert shared_card(exported, "me/dogs").text.strip() == 'source="me/dogs"'
    assert shared_card(exported, "me/dogs").data.get("base_model") is None
    (exported / "hyperparams.yaml").write_text("clap_source: laion/clap\n")
    assert shared_card(exported, "me/dogs").data.base_model == "laion/clap"
    assert "clap_source" in (exported / "hyperparams.yaml").read_text()


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("clap_source: gone\n", "its CLAP gone is missing"),
        ("clap_source: ..\n", "lies outside"),
        ("domain: mel\n", "names no clap_source"),
    ],
)
def test_a_folder_that_could_not_be_loaded_is_refused(
    yaml: str, reason: str, exported: Path
) -> None:
    """Its CLAP must come along."""
    (exported / "hyperparams.yaml").write_text(yaml)
    with pytest.raises(PushError, match=reason):
        shared_files(exported)


@pytest.mark.parametrize(
    "name", ["hyperparams.yaml", "decoder.safetensors", "README.md"]
)
def test_an_incomplete_folder_is_refused(name: str, exported: Path) -> None:
    """What is missing is named."""
    (exported / name).unlink()
    with pytest.raises(PushError, match=f"{name} is missing"):
        shared_files(exported)


@pytest.mark.parametrize("name", ["clap/LICENSE", "README.md", "learnt.json"])
def test_a_link_out_of_the_folder_is_not_shared(
    name: str, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It may lead to a key of this machine, if somebody else made the folder."""
    key = tmp_path_factory.mktemp("home") / "key"
    key.write_text("secret")
    (exported / name).unlink(missing_ok=True)
    (exported / name).symlink_to(key)
    with pytest.raises(InputError, match=f"{name} is a link out of"):
        shared_files(exported)


def test_a_damaged_card_is_refused(exported: Path) -> None:
    """The Hub would refuse it, too."""
    (exported / "README.md").write_text("---\n- a list\n---\n")
    with pytest.raises(PushError, match=r"README.md: the header"):
        shared_card(exported, "me/dogs")


@pytest.mark.parametrize("repo", ["dogs", "/dogs", "me/", "a/b/c"])
def test_a_repository_has_an_owner(repo: str, exported: Path) -> None:
    """Before anything is read or sent."""
    with pytest.raises(PushError, match="give owner/name"):
        push_export(exported, repo)


def test_a_repository_may_be_new_or_a_decoders() -> None:
    """Anything else is not written into."""
    for there in ([], [".gitattributes", "README.md"], ["hyperparams.yaml", "x"]):
        require_decoder("me/dogs", there)
    with pytest.raises(PushError, match="--force"):
        require_decoder("me/dogs", ["README.md", "model.safetensors"])


ANSWERS = {
    "/api/repos/create": {"url": "https://huggingface.co/me/dogs"},
    "/tree/main": [],
}
Mute = Callable[[str], None]


@pytest.fixture
def mute_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mute]:
    """Start a Hub that answers until a question's path ends so, and then never again.

    It is given up after a second.
    """
    over = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("LMACZS_HUB_TIMEOUT", "1")

    class Handler(BaseHTTPRequestHandler):
        last = ""

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if path.endswith(self.last):
                over.wait()
            found = [body for end, body in ANSWERS.items() if path.endswith(end)]
            data = json.dumps(found[0] if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ExitStack() as stack:
        server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        server.daemon_threads = True
        place = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        stack.callback(over.set)
        yield lambda path: setattr(Handler, "last", path)


@pytest.mark.slow
@pytest.mark.parametrize("last", ["/repos/create", "/tree/main", "/preupload/main"])
def test_a_hub_that_falls_silent_is_given_up(
    last: str, exported: Path, mute_hub: Mute
) -> None:
    """At whichever question: also at the last one, which carries the files."""
    mute_hub(last)
    with pytest.raises(PushError, match="me/dogs: not pushed .the Hub has sent noth"):
        push_export(exported, "me/dogs")
