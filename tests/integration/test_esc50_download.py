"""recipes/train.py fills an empty --data_folder with ESC-50, or says what to do."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmaczs.data.download import DownloadError

HPARAMS = Path(__file__).parents[2] / "hparams"
LABELS = ["dog", "rain"]


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive(write_esc50: Callable[..., Path], tmp_path: Path) -> Path:
    """Ten clips packed as the release is, in a folder of its own."""
    packed = tmp_path / "site/ESC-50-master"
    shutil.copytree(write_esc50(LABELS, folds=5), packed)
    site = str(packed.parent)
    made = shutil.make_archive(str(tmp_path / "site/master"), "zip", site, packed.name)
    return Path(made)


@pytest.fixture
def url(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the archive on a loopback server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serve = partial(Handler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{archive.name}"
        server.shutdown()
        thread.join()


def argv(folder: Path, clap: Path, **changes: Any) -> list[str]:
    """Command line for a training of one epoch."""
    values = {
        "data_folder": folder / "ESC50",
        "output_folder": folder / "out",
        "archive_clips": 10,
        "clap_source": clap,
        "device": "cpu",
        "num_threads": 1,
        "width": 8,
        "batch_size": 2,
        "number_of_epochs": 1,
        **changes,
    }
    written = [f"--{name}={value}" for name, value in values.items()]
    return [str(HPARAMS / "esc50.yaml"), "--noprogressbar", *written]


@pytest.mark.slow
def test_an_empty_folder_is_filled_and_trained_on(
    recipe: Callable[[str], ModuleType],
    archive: Path,
    url: str,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """The archive is fetched once and checked; what is there then is the data set."""
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    line = argv(tmp_path, tiny_clap_folder, archive_url=url, archive_sha256=sha256)
    recipe("train").main(line)
    assert (tmp_path / "out/test.json").is_file()
    assert len(list((tmp_path / "ESC50/audio").glob("*.wav"))) == 10
    assert not (tmp_path / "ESC50.zip").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"archive_url": "http://127.0.0.1:9/master.zip"}, "could not be downloaded"),
        ({"archive_url": "null"}, "is not there and has no address"),
    ],
)
def test_without_a_network(
    recipe: Callable[[str], ModuleType],
    tiny_clap_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    """One sentence says what to place where, and nothing is left."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match=f"{message}.*put its folders audio and"):
        recipe("train").main(argv(tmp_path, tiny_clap_folder, **changes))
    assert list(tmp_path.iterdir()) == []


def test_another_archive_than_the_yaml_names(
    recipe: Callable[[str], ModuleType],
    url: str,
    tiny_clap_folder: Path,
    tmp_path: Path,
) -> None:
    """The digest of the release is what counts unless another one is given."""
    with pytest.raises(DownloadError, match="expected 805afc61"):
        recipe("train").main(argv(tmp_path, tiny_clap_folder, archive_url=url))
    assert not (tmp_path / "ESC50").exists()
