"""ESC-50 from a server: whole or not at all, and checked."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmaczs.data.download import DownloadError, ensure_esc50
from lmaczs.data.esc50 import read_esc50

META = "filename,fold,target,category,esc10,src_file,take\na.wav,1,0,dog,True,7,A\n"
ESC50 = {"meta/esc50.csv": META.encode(), "audio/a.wav": bytes(range(256)) * 400}


def zipped(members: dict[str, bytes], top: str = "ESC-50-master/") -> bytes:
    """Pack an archive, the members as they are."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{top}{name}", data)
    return packed.getvalue()


@dataclass
class Site:
    """A loopback server of one file; ``sent`` is how much of it is sent."""

    url: str = ""
    content: bytes = zipped(ESC50)
    status: int = 200
    sent: int | None = None
    requests: int = 0

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Site of an ESC-50 of one clip, served while the test runs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer as the test wants it."""
            served.requests += 1
            self.send_response(served.status)
            self.send_header("Content-Length", str(len(served.content)))
            self.end_headers()
            self.wfile.write(served.content[: served.sent])

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/ESC-50.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def files_below(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def refusal(site: Site, folder: Path, sha256: str | None = None) -> str:
    """Message of a download that fails; it leaves nothing."""
    with pytest.raises(DownloadError) as caught:
        ensure_esc50(folder, site.url, sha256, clips=1)
    assert list(folder.parent.iterdir()) == []
    assert "\n" not in str(caught.value)
    assert f"put its folders audio and meta into {folder}" in str(caught.value)
    return str(caught.value)


# --- what is there then -------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("capitals", [True, False])
def test_an_empty_folder_is_filled(
    site: Site, tmp_path: Path, there: bool, capitals: bool
) -> None:
    """It can be read then, nothing lies beside it, a second call downloads nothing."""
    folder = tmp_path / "new" / "ESC50.v2"
    if there:
        folder.mkdir(parents=True)
    sha256 = site.sha256.upper() if capitals else site.sha256
    for _ in range(2):
        ensure_esc50(folder, site.url, sha256, clips=1)
    assert read_esc50(folder).label.tolist() == ["dog"]
    assert files_below(folder) == ESC50
    assert list(folder.parent.iterdir()) == [folder]
    assert site.requests == 1


@pytest.mark.parametrize("top", ["ESC-50-master/", ""])
def test_an_archive_that_was_put_there(site: Site, tmp_path: Path, top: str) -> None:
    """It is used without a request and kept; a folder around all of it is left out."""
    site.content = zipped(ESC50, top)
    (tmp_path / "ESC50.zip").write_bytes(site.content)
    ensure_esc50(tmp_path / "ESC50", site.url, site.sha256, clips=1)
    assert files_below(tmp_path / "ESC50") == ESC50
    assert (tmp_path / "ESC50.zip").read_bytes() == site.content
    assert site.requests == 0


def test_a_link_to_an_empty_folder(site: Site, tmp_path: Path) -> None:
    """The folder that it points to is filled, and the link stays."""
    link = tmp_path / "link"
    (tmp_path / "disk" / "data").mkdir(parents=True)
    link.symlink_to(tmp_path / "disk" / "data")
    ensure_esc50(link, site.url, site.sha256, clips=1)
    assert link.is_symlink()
    assert files_below(tmp_path / "disk" / "data") == ESC50


def test_the_current_folder(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder, one with a slash, is the one below the current folder."""
    monkeypatch.chdir(tmp_path)
    ensure_esc50("ESC50/", site.url, site.sha256, clips=1)
    assert files_below(tmp_path) == {f"ESC50/{k}": v for k, v in ESC50.items()}


def test_the_folder_is_as_any_other(site: Site, tmp_path: Path) -> None:
    """Others may read it as they may a folder that is made by hand."""
    (tmp_path / "usual").mkdir()
    ensure_esc50(tmp_path / "ESC50", site.url, None, clips=1)
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "ESC50")}
    assert len(modes) == 1


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
def test_a_member_outside(site: Site, tmp_path: Path, name: str) -> None:
    """Nothing is written outside the folder."""
    site.content = zipped({f"ESC-50-master/{k}": v for k, v in ESC50.items()}, "")
    packed = io.BytesIO(site.content)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, b"evil")
    site.content = packed.getvalue()
    ensure_esc50(tmp_path / "data" / "ESC50", site.url, None, clips=1)
    assert {path.parts[0] for path in map(Path, files_below(tmp_path))} == {"data"}
    assert list((tmp_path / "data").iterdir()) == [tmp_path / "data" / "ESC50"]
    assert not Path("/evil").exists()


# --- what is refused ----------------------------------------------------------------


def test_a_folder_with_something_else(site: Site, tmp_path: Path) -> None:
    """It is named and not touched, and nothing is downloaded."""
    folder = tmp_path / "music"
    (folder / "audio").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"music is not empty.*esc50\.csv is"):
        ensure_esc50(folder, site.url, site.sha256, clips=1)
    assert list(folder.iterdir()) == [folder / "audio"]
    assert site.requests == 0


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence states the reason, and what to place where."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/ESC-50.zip"
        message = refusal(Site(url), tmp_path / "ESC50")
    assert message.startswith("ESC-50 could not be downloaded (Connection refused)")


@pytest.mark.parametrize("url", [None, "ESC-50.zip"])
def test_without_an_address(tmp_path: Path, url: str | None) -> None:
    """Nothing is left, whether there is none or it is none."""
    with pytest.raises(DownloadError, match="put its folders audio and meta"):
        ensure_esc50(tmp_path / "ESC50", url, None)
    assert list(tmp_path.iterdir()) == []


def test_the_server_refuses(site: Site, tmp_path: Path) -> None:
    """Its status is in the sentence."""
    site.status = 404
    assert "(404 Not Found)" in refusal(site, tmp_path / "ESC50")


@pytest.mark.parametrize("digest", [True, False])
def test_a_connection_that_breaks(site: Site, tmp_path: Path, digest: bool) -> None:
    """Half an archive is never unpacked."""
    site.sent = len(site.content) // 2
    refusal(site, tmp_path / "ESC50", site.sha256 if digest else None)


def test_another_archive_than_was_meant(site: Site, tmp_path: Path) -> None:
    """Both digests are named, whether it was downloaded or put there."""
    wanted = "0" * 64
    message = refusal(site, tmp_path / "ESC50", wanted)
    assert wanted in message
    assert site.sha256 in message
    (tmp_path / "ESC50.zip").write_bytes(site.content)
    with pytest.raises(DownloadError, match=f"{site.sha256}, not {wanted}"):
        ensure_esc50(tmp_path / "ESC50", site.url, wanted, clips=1)
    assert [path.name for path in tmp_path.iterdir()] == ["ESC50.zip"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"README.md": b"moved"}, r"no meta/esc50\.csv"),
        ({"meta/esc50.csv": META.encode()}, "lists 1 clips and holds 0 of them, not 1"),
        ({**ESC50, "meta/esc50.csv": META.encode() * 2}, "lists 3 clips"),
    ],
)
def test_an_archive_that_is_not_all_of_it(
    site: Site, tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    """Nothing is left of it that a second call would take for the data set."""
    site.content = zipped(members)
    with pytest.raises(DownloadError, match=message):
        ensure_esc50(tmp_path / "ESC50", site.url, None, clips=1)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive(site: Site, tmp_path: Path) -> None:
    """Without a digest the archive's own CRCs show it; yours is kept."""
    at = site.content.index(ESC50["audio/a.wav"])
    site.content = site.content[:at] + b"\7\7" + site.content[at + 2 :]
    assert "Bad CRC-32" in refusal(site, tmp_path / "ESC50")
    (tmp_path / "ESC50.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="not a zip file"):
        ensure_esc50(tmp_path / "ESC50", site.url, None, clips=1)
    assert files_below(tmp_path) == {"ESC50.zip": b"mine"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_interrupted_while_unpacking(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
) -> None:
    """What was unpacked is removed; an empty folder stays empty."""
    (tmp_path / "ESC50").mkdir()

    def interrupted(self: zipfile.ZipFile, path: Path) -> None:
        self.extract(self.namelist()[0], path)
        raise kind("the disk is full")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupted)
    with pytest.raises((KeyboardInterrupt, DownloadError)):
        ensure_esc50(tmp_path / "ESC50", site.url, None, clips=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["ESC50"]
