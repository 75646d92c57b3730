"""files.py: a file or folder exists whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmaczs.utils.files import atomic_folder, atomic_write, sweep


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    """Before the end there is nothing under the name, afterwards only it."""
    path = tmp_path / "new" / "a.json"
    with atomic_write(path) as part:
        part.write_text("{}")
        assert part.suffix == ".json" and not path.exists()
    assert path.read_text() == "{}"
    with atomic_write(path, suffix="") as part:
        part.write_text("[]")
        assert not part.name.endswith(".json")
    assert path.read_text() == "[]"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """What a symbolic or a hard link led to stays as it was."""
    for name, link in (("soft", os.symlink), ("hard", os.link)):
        target, path = tmp_path / f"{name}.target", tmp_path / f"{name}.txt"
        target.write_text("old")
        link(target, path)
        with atomic_write(path) as part:
            part.write_text("new")
        assert target.read_text() == "old"
        assert path.read_text() == "new" and not path.is_symlink()


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    """An exception leaves the older file and no remains."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def contents(folder: Path) -> dict[str, str]:
    """Text of the files below a folder, by their paths in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_folder_appears_whole_in_place_of_the_older_one(tmp_path: Path) -> None:
    """Until the block ends the older one is there; nothing of it is left then."""
    dest = tmp_path / "new" / "run"
    for files in ({"a": "1", "b": "2"}, {"a": "3", "c": "4"}):
        before = contents(dest)
        with atomic_folder(dest) as part:
            for name, text in files.items():
                (part / name).write_text(text)
            assert contents(dest) == before
        assert contents(dest) == files
        assert list(dest.parent.iterdir()) == [dest]


def test_a_failure_keeps_the_older_folder(tmp_path: Path) -> None:
    """An exception leaves it as it was and no remains."""
    dest = tmp_path / "run"
    dest.mkdir()
    (dest / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(dest) as part:
        (part / "a").write_text("half")
        raise RuntimeError
    assert contents(tmp_path) == {"run/a": "old"}


def test_a_folder_that_cannot_be_moved_leaves_the_older_one(tmp_path: Path) -> None:
    """The error is raised, and what stood there stands there again."""
    dest = tmp_path / "run"
    dest.mkdir()
    (dest / "a").write_text("old")
    with pytest.raises(OSError), atomic_folder(dest) as part:
        part.rmdir()
    assert contents(tmp_path) == {"run/a": "old"}


def test_content_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves the older file or the whole new one, also in folders."""
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        fsync(handle)
        events.append(("disk", Path(f"/proc/self/fd/{handle}").resolve().name))

    def note_replace(old: Path, new: Path) -> None:
        events.append(("name", Path(old).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert events == [("disk", part.name), ("name", part.name)]
    events.clear()
    with atomic_folder(tmp_path / "run") as folder:
        (folder / "b.txt").write_text("new")
    assert events == [("disk", "b.txt"), ("name", folder.name)]


KILLED = """
import os, signal, sys
from pathlib import Path
from lmaczs.utils.files import atomic_folder, atomic_write
if sys.argv[2] == "replace":  # between the two steps of putting a folder in place
    count, replace = [], os.replace
    def step(old, new):
        count.append(old)
        if len(count) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(old, new)
    os.replace = step
with (atomic_write if sys.argv[2] == "file" else atomic_folder)(Path(sys.argv[1])) as p:
    if sys.argv[2] == "file":
        p.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    (p / "a").write_text("new")
    if sys.argv[2] == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["file", "folder", "replace"])
def test_what_a_killed_process_left_is_swept(tmp_path: Path, how: str) -> None:
    """Nothing unfinished is left, and what stood there stands there again."""
    dest = tmp_path / "run"
    if how == "file":
        dest.write_text("old")
    else:
        dest.mkdir()
        (dest / "a").write_text("old")
    line = [sys.executable, "-c", KILLED, str(dest), how]
    assert subprocess.run(line).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path)
    if how == "replace":  # the older one has its name back; the new one is not whole
        sweep(tmp_path)
    assert contents(tmp_path) == ({"run": "old"} if how == "file" else {"run/a": "old"})
    assert list(tmp_path.iterdir()) == [dest]


def test_sweeping_leaves_what_is_not_ours_or_still_written(tmp_path: Path) -> None:
    """Other hidden files, and those of a process that runs; no folder is no error."""
    parent = os.getppid()
    names = [f".a.{parent}.lmaczs-part.wav", ".b.123.part", ".c.lmaczs-part", "d"]
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_process_that_nobody_waits_for_has_ended(tmp_path: Path) -> None:
    """What it left is swept, although its number is still taken."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / f".a.{process.pid}.lmaczs-part").touch()
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == []


SAVING = """
import resource, sys, torch
from pathlib import Path
from lmaczs.utils.files import atomic_write
state = {str(n): torch.zeros(2000) for n in range(12)}  # 100 kB
for limit in range(500, 90_000, 7_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with atomic_write(Path(sys.argv[1]) / "a.ckpt") as part:
            torch.save(state, part)
    except OSError as error:
        print(error.filename)
"""


def test_torch_cannot_write_a_file_to_its_end(tmp_path: Path) -> None:
    """Wherever it stops, and whatever torch says, the error names the place."""
    command = [sys.executable, "-c", SAVING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [str(tmp_path)] * 13
    assert list(tmp_path.iterdir()) == []


def test_sweeping_may_be_of_one_name(tmp_path: Path) -> None:
    """Another machine's process may be at work on the others, in a shared folder."""
    own = os.getpid()  # an earlier process of the number left them
    for name in ("run", "run-2"):
        (tmp_path / f".{name}.{own}.lmaczs-part").mkdir()
    sweep(tmp_path, "run")
    assert [path.name for path in tmp_path.iterdir()] == [f".run-2.{own}.lmaczs-part"]
