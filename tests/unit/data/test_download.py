"""Downloads: breaks are mended, nothing is half there, nothing hangs."""

from __future__ import annotations

import hashlib
import io
import random
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmaczs.data.download import DownloadError, download, ensure_esc50, unpack
from lmaczs.data.esc50 import read_esc50

CONTENT = random.Random(0).randbytes(300_000)
META = "filename,fold,target,category,esc10,src_file,take\na.wav,1,0,dog,True,7,A\n"
ESC50 = {"meta/esc50.csv": META.encode(), "audio/a.wav": CONTENT[:1000]}


@dataclass
class Answer:
    """How one request is answered; bytes are counted from the body's start."""

    status: int = 200
    ignores_range: bool = False
    cut_after: int | None = None
    stall_after: int | None = None  # -1: before the header


@dataclass
class Site:
    """A loopback server of one file.

    ``answers`` are taken one a request, afterwards all is well; ``ranges`` holds the
    header Range of each request.
    """

    url: str = ""
    content: bytes = CONTENT
    answers: list[Answer] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.content).hexdigest()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    """Answer one GET as the site is told to."""
    asked = handler.headers["Range"]
    site.ranges.append(asked)
    how = site.answers.pop(0) if site.answers else Answer()
    start = int(asked[len("bytes=") : -1]) if asked and not how.ignores_range else 0
    status = how.status
    if status == 200 and start:
        status = 206 if start < len(site.content) else 416
    body = site.content[start:] if status < 400 else b""
    if how.stall_after == -1:
        site.closing.wait()
        return
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    stop = how.cut_after if how.stall_after is None else how.stall_after
    handler.wfile.write(body[:stop])
    if how.stall_after is not None:
        site.closing.wait()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Site that is served while the test runs."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer as the test wants it."""
            answer(self, served)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/ESC-50.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a port that is taken, but where nobody listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/ESC-50.zip"


@pytest.fixture
def esc50_site(site: Site) -> Site:
    """Site of an ESC-50 of one clip, packed as released."""
    site.content = zipped({f"ESC-50-master/{k}": v for k, v in ESC50.items()})
    return site


def zipped(members: dict[str, bytes]) -> bytes:
    """Pack an archive, the members as they are."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def fetch(site: Site, path: Path, **options: float) -> None:
    """Download the site's file without pauses."""
    download(site.url, path, site.sha256, **{"pause": 0, **options})


def refusal(site: Site, path: Path, **options: float) -> str:
    """What is said of a download that fails; it leaves no file."""
    with pytest.raises(DownloadError) as caught:
        fetch(site, path, **options)
    assert not path.exists()
    return str(caught.value)


def files_below(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, hidden ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# --- one file -----------------------------------------------------------------------


def test_a_file_that_is_not_there(site: Site, tmp_path: Path) -> None:
    """One request without a range; only the file is left, in a new folder."""
    fetch(site, tmp_path / "new" / "a.zip")
    assert files_below(tmp_path) == {"new/a.zip": CONTENT}
    assert site.ranges == [None]


def test_a_digest_in_capitals(site: Site, tmp_path: Path) -> None:
    """As some tools print it."""
    download(site.url, tmp_path / "a.zip", site.sha256.upper())
    assert files_below(tmp_path) == {"a.zip": CONTENT}


def test_only_the_rest_is_asked_for(site: Site, tmp_path: Path) -> None:
    """A part of an earlier call is gone on with."""
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert site.ranges == ["bytes=1000-"]


def test_a_part_that_is_complete(site: Site, tmp_path: Path) -> None:
    """It is the file, and the server is not asked."""
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert site.ranges == []


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 1])
def test_a_part_of_a_longer_file(site: Site, tmp_path: Path, length: int) -> None:
    """A range that starts after the end is not insisted on."""
    (tmp_path / "a.zip.part").write_bytes(bytes(length))
    fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert site.ranges == [f"bytes={length}-", None]


def test_a_file_that_is_there(site: Site, tmp_path: Path) -> None:
    """A second call asks nobody."""
    fetch(site, tmp_path / "a.zip")
    fetch(site, tmp_path / "a.zip")
    assert site.ranges == [None]


def test_another_file_is_in_its_place(site: Site, tmp_path: Path) -> None:
    """It is neither taken for the file nor replaced."""
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"a\.zip is in the way"):
        fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": b"mine"}
    assert site.ranges == []


@pytest.mark.parametrize(
    "broken", [Answer(cut_after=200_000), Answer(stall_after=200_000)]
)
def test_a_break_is_mended(site: Site, tmp_path: Path, broken: Answer) -> None:
    """After a cut or a stall, what had come is not asked for again."""
    site.answers = [broken]
    fetch(site, tmp_path / "a.zip", timeout=0.2)
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    first, second = site.ranges
    assert first is None
    assert 100_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000


def test_breaks_with_progress_between_them(site: Site, tmp_path: Path) -> None:
    """They may be more than the attempts."""
    site.answers = [Answer(cut_after=70_000) for _ in range(4)]
    fetch(site, tmp_path / "a.zip", attempts=2)
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert len(site.ranges) == 5


def test_breaks_without_progress(site: Site, tmp_path: Path) -> None:
    """They are one too many some time; the part is kept for another call."""
    site.answers = [Answer(cut_after=200_000), *(Answer(cut_after=0) for _ in range(9))]
    message = refusal(site, tmp_path / "a.zip", attempts=3)
    assert message == f"{site.url}: the connection was cut"
    assert len(site.ranges) == 3
    had = len((tmp_path / "a.zip.part").read_bytes())
    assert had > 100_000
    site.answers = []
    fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert site.ranges[-1] == f"bytes={had}-"


def test_a_server_that_ignores_the_range(site: Site, tmp_path: Path) -> None:
    """What it sends is the whole file, not the rest."""
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    site.answers = [Answer(ignores_range=True)]
    fetch(site, tmp_path / "a.zip")
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert site.ranges == ["bytes=1000-"]


def test_a_server_that_never_gets_further(site: Site, tmp_path: Path) -> None:
    """Starting again and getting as far as before is no progress."""
    site.answers = [Answer(ignores_range=True, cut_after=200_000) for _ in range(9)]
    refusal(site, tmp_path / "a.zip", attempts=3)
    assert len(site.ranges) == 3


@pytest.mark.parametrize("part", [b"", CONTENT[:1000]])
def test_a_wrong_checksum(site: Site, tmp_path: Path, part: bytes) -> None:
    """Address and both digests are named, and nothing is kept."""
    expected = "0" * 64
    (tmp_path / "a.zip.part").write_bytes(part)
    with pytest.raises(DownloadError) as caught:
        download(site.url, tmp_path / "a.zip", expected)
    message = str(caught.value)
    assert all(one in message for one in (site.url, expected, site.sha256))
    assert files_below(tmp_path) == {}


def test_the_server_says_no(site: Site, tmp_path: Path) -> None:
    """404 is said at once."""
    site.answers = [Answer(status=404)]
    message = refusal(site, tmp_path / "a.zip")
    assert message == f"{site.url}: 404 Not Found"
    assert len(site.ranges) == 1


def test_a_range_is_refused_that_was_not_asked_for(site: Site, tmp_path: Path) -> None:
    """A server that answers 416 to everything is not asked for ever."""
    site.answers = [Answer(status=416) for _ in range(9)]
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert "416" in refusal(site, tmp_path / "a.zip")
    assert site.ranges == ["bytes=1000-", None]


def test_the_server_is_busy(site: Site, tmp_path: Path) -> None:
    """503 may pass; where it does not, it is said."""
    site.answers = [Answer(status=503)]
    fetch(site, tmp_path / "a.zip")
    assert len(site.ranges) == 2
    site.answers = [Answer(status=503) for _ in range(9)]
    message = refusal(site, tmp_path / "b.zip", attempts=2)
    assert message == f"{site.url}: 503 Service Unavailable"


def test_nobody_listens(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said at once, in a few words: without a network, waiting is no use."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"slept for {seconds} s")

    monkeypatch.setattr("lmaczs.data.download.time.sleep", sleep)
    with pytest.raises(DownloadError) as caught:
        download(nowhere, tmp_path / "a.zip", "0" * 64)
    assert str(caught.value) == f"{nowhere}: Connection refused"
    assert files_below(tmp_path) == {}


def test_an_address_that_is_none(tmp_path: Path) -> None:
    """A mistake in the YAML is a download that failed, too."""
    with pytest.raises(DownloadError, match="ESC-50.zip"):
        download("ESC-50.zip", tmp_path / "a.zip", "0" * 64)


def test_a_server_that_says_nothing(site: Site, tmp_path: Path) -> None:
    """Waiting has an end, and is not begun again."""
    site.answers = [Answer(stall_after=-1) for _ in range(9)]
    message = refusal(site, tmp_path / "a.zip", timeout=0.2)
    assert message == f"{site.url}: timed out"
    assert len(site.ranges) == 1


@pytest.mark.parametrize(
    ("progress", "terminal"), [(True, True), (True, False), (False, True)]
)
def test_the_bar(
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    progress: bool,
    terminal: bool,
) -> None:
    """It is shown in a terminal, unless it is not wanted."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch(site, tmp_path / "a.zip", progress=progress)
    shown = capsys.readouterr().err
    assert ("a.zip: 100%" in shown) == (progress and terminal)
    assert bool(shown) == (progress and terminal)


def test_a_file_without_a_digest(site: Site, tmp_path: Path) -> None:
    """A break is mended as ever; a part that is complete is fetched anew."""
    site.answers = [Answer(cut_after=200_000)]
    download(site.url, tmp_path / "a.zip", None, pause=0)
    assert files_below(tmp_path) == {"a.zip": CONTENT}
    assert len(site.ranges) == 2
    (tmp_path / "b.zip.part").write_bytes(CONTENT)
    download(site.url, tmp_path / "b.zip", None, pause=0)
    assert (tmp_path / "b.zip").read_bytes() == CONTENT


# --- an archive ---------------------------------------------------------------------


@pytest.mark.parametrize("top", ["ESC-50-master/", ""])
@pytest.mark.parametrize("there", [True, False])
def test_an_archive_is_unpacked(tmp_path: Path, top: str, there: bool) -> None:
    """A folder around all of it is left out; an empty folder is no hindrance."""
    archive, folder = tmp_path / "a.zip", tmp_path / "data"
    archive.write_bytes(zipped({f"{top}{k}": v for k, v in ESC50.items()}))
    if there:
        folder.mkdir()
    unpack(archive, folder)
    assert files_below(folder) == ESC50
    assert sorted(tmp_path.iterdir()) == [archive, folder]


def test_the_folder_is_as_any_other(tmp_path: Path) -> None:
    """Others may read it as they may a folder that is made by hand."""
    (tmp_path / "a.zip").write_bytes(zipped(ESC50))
    (tmp_path / "usual").mkdir()
    unpack(tmp_path / "a.zip", tmp_path / "data")
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "data")}
    assert len(modes) == 1


def test_a_link_to_an_empty_folder(tmp_path: Path) -> None:
    """The folder that it points to is filled, and the link stays."""
    link = tmp_path / "link"
    (tmp_path / "disk" / "data").mkdir(parents=True)
    link.symlink_to(tmp_path / "disk" / "data")
    (tmp_path / "a.zip").write_bytes(zipped(ESC50))
    unpack(tmp_path / "a.zip", link)
    assert link.is_symlink()
    assert files_below(tmp_path / "disk" / "data") == ESC50


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_interrupted_while_unpacking(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    kind: type[BaseException],
) -> None:
    """What was unpacked is removed; an empty folder stays empty."""
    archive, folder = tmp_path / "a.zip", tmp_path / "data"
    archive.write_bytes(zipped(ESC50))
    if there:
        folder.mkdir()

    def interrupted(self: zipfile.ZipFile, path: Path) -> None:
        self.extract("meta/esc50.csv", path)
        raise kind

    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupted)
    with pytest.raises(kind):
        unpack(archive, folder)
    assert sorted(tmp_path.iterdir()) == [archive, folder][: 1 + there]
    assert files_below(tmp_path).keys() == {"a.zip"}


def test_a_damaged_archive(tmp_path: Path) -> None:
    """A wrong byte in one of the members leaves nothing of the others."""
    packed = zipped(ESC50)
    at = packed.index(ESC50["audio/a.wav"])
    (tmp_path / "a.zip").write_bytes(packed[:at] + b"\0\0" + packed[at + 2 :])
    with pytest.raises(ValueError, match=r"a\.zip is not a whole zip archive"):
        unpack(tmp_path / "a.zip", tmp_path / "data")
    assert files_below(tmp_path).keys() == {"a.zip"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "../data2/evil"])
def test_a_member_outside(tmp_path: Path, name: str) -> None:
    """An archive that reaches out of its folder is refused, and nothing written."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({**ESC50, name: b"evil"}))
    with pytest.raises(ValueError, match="would write outside its folder: .*evil"):
        unpack(archive, tmp_path / "data")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_folder_with_content(tmp_path: Path) -> None:
    """It is not touched."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "notes.txt").write_bytes(b"mine")
    (tmp_path / "a.zip").write_bytes(zipped(ESC50))
    with pytest.raises(FileExistsError, match="data is not empty"):
        unpack(tmp_path / "a.zip", folder)
    assert files_below(folder) == {"notes.txt": b"mine"}


def test_an_archive_that_is_checked(tmp_path: Path) -> None:
    """The content is seen before it is in its place, and what is refused is not."""
    (tmp_path / "a.zip").write_bytes(zipped({f"x/{k}": v for k, v in ESC50.items()}))
    seen = []

    def check(content: Path) -> None:
        assert not (tmp_path / "data").exists()
        seen.append(files_below(content))
        raise ValueError("another one")

    with pytest.raises(ValueError, match="another one"):
        unpack(tmp_path / "a.zip", tmp_path / "data", check)
    assert seen == [ESC50]
    assert files_below(tmp_path).keys() == {"a.zip"}


# --- the data set -------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_folder_is_filled(
    esc50_site: Site, tmp_path: Path, there: bool
) -> None:
    """It can be read then, the archive is gone, and a second call asks nobody."""
    folder = tmp_path / "ESC50.v2"
    if there:
        folder.mkdir()
    for _ in range(2):
        given = ensure_esc50(folder, esc50_site.url, esc50_site.sha256, clips=1)
        assert given == folder
    assert read_esc50(folder).label.tolist() == ["dog"]
    assert list(tmp_path.iterdir()) == [folder]
    assert len(esc50_site.ranges) == 1


def test_a_part_of_the_archive_is_gone_on_with(
    esc50_site: Site, tmp_path: Path
) -> None:
    """As an interrupted command has left it."""
    (tmp_path / "ESC50.zip.part").write_bytes(esc50_site.content[:500])
    ensure_esc50(tmp_path / "ESC50", esc50_site.url, esc50_site.sha256, clips=1)
    assert files_below(tmp_path / "ESC50") == ESC50
    assert esc50_site.ranges == ["bytes=500-"]


def test_an_archive_that_was_put_there(esc50_site: Site, tmp_path: Path) -> None:
    """It is used without a request and, as it is not ours, kept."""
    (tmp_path / "ESC50.zip").write_bytes(esc50_site.content)
    ensure_esc50(tmp_path / "ESC50", esc50_site.url, esc50_site.sha256, clips=1)
    assert files_below(tmp_path / "ESC50") == ESC50
    assert (tmp_path / "ESC50.zip").read_bytes() == esc50_site.content
    assert esc50_site.ranges == []


def test_the_current_folder(
    esc50_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder, one with a slash, is the one below the current folder."""
    monkeypatch.chdir(tmp_path)
    ensure_esc50("ESC50/", esc50_site.url, esc50_site.sha256, clips=1)
    assert files_below(tmp_path) == {f"ESC50/{k}": v for k, v in ESC50.items()}


def test_a_folder_with_something_else(esc50_site: Site, tmp_path: Path) -> None:
    """It is named and not touched, and nothing is downloaded."""
    folder = tmp_path / "music"
    (folder / "audio").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"music is not empty.*esc50\.csv is"):
        ensure_esc50(folder, esc50_site.url, esc50_site.sha256, clips=1)
    assert list(folder.iterdir()) == [folder / "audio"]
    assert esc50_site.ranges == []


def test_without_a_network(nowhere: str, tmp_path: Path) -> None:
    """One sentence says what to place where."""
    folder = tmp_path / "ESC50"
    with pytest.raises(DownloadError) as caught:
        ensure_esc50(folder, nowhere, "0" * 64)
    assert str(caught.value) == (
        f"ESC-50 could not be downloaded ({nowhere}: Connection refused): "
        f"download it yourself and put its folders audio and meta into {folder}"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_an_address(tmp_path: Path) -> None:
    """Likewise, and nothing is tried."""
    folder = tmp_path / "ESC50"
    with pytest.raises(DownloadError, match=f"put its folders .* into {folder}$"):
        ensure_esc50(folder, None, "")
    assert list(tmp_path.iterdir()) == []


def test_another_archive_than_was_meant(esc50_site: Site, tmp_path: Path) -> None:
    """It is not unpacked, and nothing of it is left."""
    with pytest.raises(DownloadError, match=f"{esc50_site.sha256}, not {'0' * 64}"):
        ensure_esc50(tmp_path / "ESC50", esc50_site.url, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_whose_digest_is_not_known(esc50_site: Site, tmp_path: Path) -> None:
    """It is taken for what its list says; a cut connection is gone on with."""
    esc50_site.answers = [Answer(cut_after=0)]
    ensure_esc50(tmp_path / "ESC50", esc50_site.url, None, clips=1)
    assert files_below(tmp_path) == {f"ESC50/{k}": v for k, v in ESC50.items()}
    assert len(esc50_site.ranges) == 2


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
    site.content = zipped({f"ESC-50-master/{k}": v for k, v in members.items()})
    with pytest.raises(DownloadError, match=f"{message}.*put its folders"):
        ensure_esc50(tmp_path / "ESC50", site.url, None, clips=1)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_download(esc50_site: Site, tmp_path: Path) -> None:
    """Without a digest the archive's own CRCs tell, and it is not kept."""
    packed = esc50_site.content
    at = packed.index(ESC50["audio/a.wav"])
    esc50_site.content = packed[:at] + b"\0\0" + packed[at + 2 :]
    with pytest.raises(DownloadError, match="not a whole zip archive"):
        ensure_esc50(tmp_path / "ESC50", esc50_site.url, None, clips=1)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_of_the_users_own(esc50_site: Site, tmp_path: Path) -> None:
    """It is named, and not removed."""
    (tmp_path / "ESC50.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"ESC50\.zip is not a whole zip archive"):
        ensure_esc50(tmp_path / "ESC50", esc50_site.url, None, clips=1)
    assert files_below(tmp_path) == {"ESC50.zip": b"mine"}


def test_processes_other_than_the_main_one(
    esc50_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave the download to it."""
    distributed = "speechbrain.utils.distributed"
    monkeypatch.setattr(f"{distributed}.if_main_process", lambda: False)
    ensure_esc50(tmp_path / "ESC50", esc50_site.url, esc50_site.sha256, clips=1)
    assert esc50_site.ranges == []
    assert list(tmp_path.iterdir()) == []
