"""recipes/make_manifest.py as its command line runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lmaczs.data.annotations import to_audacity, to_raven
from lmaczs.data.manifest import read_manifest
from lmaczs.events import Event, event_table

SCRIPT = Path(__file__).parents[2] / "recipes/make_manifest.py"


@pytest.fixture
def fsd50k(tmp_path: Path) -> Path:
    """A clip of FSD50K in each split, the first with a title and a description."""
    folder = tmp_path / "FSD50K"
    for name in ("ground_truth", "metadata", "dev_audio", "eval_audio"):
        (folder / f"FSD50K.{name}").mkdir(parents=True)
    for wav in ("dev_audio/1.wav", "dev_audio/2.wav", "eval_audio/3.wav"):
        (folder / f"FSD50K.{wav}").touch()
    lists = {
        "dev": "fname,labels,mids,split\n1,Bark,/m/1,train\n2,Rain,/m/2,val\n",
        "eval": 'fname,labels,mids\n3,"Dog_bark,Dog",/m/3\n',
    }
    uploads = {
        "dev": '{"1": {"title": "x.wav", "description": "my dog"}}',
        "eval": "{}",
    }
    for part in lists:
        (folder / f"FSD50K.ground_truth/{part}.csv").write_text(lists[part])
        info = folder / f"FSD50K.metadata/{part}_clips_info_FSD50K.json"
        info.write_text(uploads[part])
    return folder


@pytest.mark.slow
def test_the_command_writes_a_manifest(fsd50k: Path, tmp_path: Path) -> None:
    """One row per caption, in a folder that is created; a summary is printed."""
    out = tmp_path / "new/clips.csv"
    command = [sys.executable, SCRIPT, "fsd50k", fsd50k, out, "--descriptions"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{out}: 4 rows of 3 recordings (2 train, 1 valid, 1 test)\n"
    )
    table = read_manifest(out)
    assert table.text.tolist() == ["bark", "x. my dog", "rain", "dog bark, dog"]
    assert table.id.tolist() == ["1#1", "1#2", "2", "3"]


def test_a_folder_with_a_subfolder_for_each_label(
    recipe: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its manifest has labels and no splits: training draws them."""
    for name in ("door/1.wav", "door/2.wav", "tea_kettle/1.wav"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).touch()
    out = tmp_path / "clips.csv"
    recipe("make_manifest").main(["folder", str(tmp_path / "mine"), str(out)])
    assert capsys.readouterr().out == (
        f"{out}: 3 rows of 3 recordings (3 without split)\n"
    )
    table = read_manifest(out, for_test=True)
    assert table.label.tolist() == ["door", "door", "tea kettle"]
    assert table.split.tolist() == [""] * 3


def test_names_may_have_what_ends_a_line_elsewhere(
    recipe: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """The manifest leads to each; labels beside sounds are found by their names."""
    folder, out = tmp_path / "mine" / "dog", tmp_path / "clips.csv"
    folder.mkdir(parents=True)
    paths = [folder / f"a{end}b.wav" for end in '\r\n\v\f\x1c\x85\u2028\u2029,"']
    for path in paths:
        path.touch()
        events = event_table([Event(1.0, 2.0, 0.0, 8000.0, "dog", 0.7, 0.99, 0.2)])
        text = to_raven(events, path)
        path.with_suffix(".selections.txt").write_text(text, "utf-8", newline="")
        text = to_audacity(events)
        path.with_suffix(".labels.txt").write_text(text, "utf-8", newline="")
    for kind in ("folder", "raven", "audacity"):
        recipe("make_manifest").main([kind, str(tmp_path / "mine"), str(out)])
        table = read_manifest(out)
        assert sorted(table.path) == sorted(map(str, paths))
        assert set(table.label) == {"dog"}


@pytest.mark.slow
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    """No traceback, and no manifest; one that stood there stays."""
    out = tmp_path / "clips.csv"
    out.write_text("mine")
    command = [sys.executable, SCRIPT, "macs", tmp_path, out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"make_manifest.py: {tmp_path} holds no MACS.yaml")
    assert done.stderr.count("\n") == 1
    assert out.read_text() == "mine"


def test_a_manifest_is_written_whole_or_not_at_all(
    recipe: Callable[[str], ModuleType],
    fsd50k: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where writing breaks off, what stood there stays, and nothing is left beside."""
    out = tmp_path / "out/clips.csv"
    out.parent.mkdir()
    out.write_text("mine")

    def breaks_off(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:7].encode())
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", breaks_off)
    with pytest.raises(OSError, match="the disk is full"):
        recipe("make_manifest").main(["fsd50k", str(fsd50k), str(out)])
    assert [path.name for path in out.parent.iterdir()] == ["clips.csv"]
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["wavcaps", "a", "b.csv"], "invalid choice: 'wavcaps'"),
        (["macs", "a", "b.csv", "--descriptions"], "--descriptions is for fsd50k"),
    ],
)
def test_other_command_lines_are_refused(
    recipe: Callable[[str], ModuleType],
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A set that is not known, and an option that the set does not have."""
    with pytest.raises(SystemExit, match="2"):
        recipe("make_manifest").main(argv)
    assert message in capsys.readouterr().err
