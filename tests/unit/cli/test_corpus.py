"""`lmaczs corpus`: what is written, resumed and refused."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lmaczs.audio.io import save_audio
from lmaczs.cli import build_parser, main
from lmaczs.cli.corpus import check, clips_of
from lmaczs.corpus import rows
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import file_of
from lmaczs.demo.scenes import render
from lmaczs.utils.errors import LmaczsError

RATE = 32000
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five short recordings, a damaged one, and a manifest of them."""
    folder = tmp_path_factory.mktemp("sounds")
    lines = ["path,label,start,stop"]
    for number, name in enumerate(("siren", "dog", "rain", "siren", "dog")):
        wav = render(name, RATE, 1.5, seed=number).float()
        save_audio(folder / f"{number}.wav", wav, RATE)
        lines.append(f"{number}.wav,{name},,")
    (folder / "5.wav").write_bytes((folder / "0.wav").read_bytes()[:20])
    (folder / "clips.csv").write_text("\n".join([*lines, "1.wav,dog,0.5,1\n"]))
    return folder


def run(out: Path, *words: str | Path) -> int:
    """Run the command for a siren and a dog, with the decoder's masks."""
    line = ["corpus", "--prompt", "siren", "--prompt", "dog", "--out", str(out)]
    line += ["--refine", "off", "--device", "cpu", "--block-clips", "2"]
    return main([*line, *map(str, words)])


def tree(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    files = (one for one in sorted(folder.rglob("*")) if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


def test_recordings_become_tables(
    sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A line of counts, one for what cannot be read, no progress in a pipe; a page."""
    out = tmp_path / "out"
    assert run(out, sounds, "--keep", "presence > 0.99") == 1
    said, error = capsys.readouterr()
    assert said.startswith(f"{out}: 6 of 6 clips in ") and said.count("\n") == 1
    assert f"clips that cannot be read: 1, see {out}/failures" in error
    assert "5.wav" in error and "%" not in error
    find = duckdb.sql
    count = find(f"select count(*) from '{out}/scores/*/*.parquet'").fetchall()
    assert count == [(10,)]
    best = find(
        f"""select parse_filename(path), arg_max(prompt, presence)
        from '{out}/clips/*/*.parquet' join '{out}/scores/*/*.parquet'
        using (clip, "window") group by all order by all"""
    ).fetchall()
    assert best[:2] == [("0.wav", "siren"), ("1.wav", "dog")]
    kept = find(
        f"select folder from '{out}/scores/*/*.parquet' where folder is not null"
    ).fetchall()
    assert kept and all((out / one / "explanation.wav").is_file() for (one,) in kept)
    page = (out / "index.html").read_text()
    assert all(one in page for (one,) in kept)
    assert "0.wav, 00:00.0 to 00:01.5, clip 0" in page and "Band (Hz)" in page
    assert f"note: {len(kept)} explanations: {out}/index.html" in error


def test_what_is_done_is_left_out(
    sounds: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is gone is done again, alone; the result is the same."""
    out = tmp_path / "out"
    manifest = sounds / "clips.csv"
    assert run(out, manifest) == 0
    before = tree(out)
    (out / "clips" / "part=00000" / "00000001.parquet").unlink()
    assert run(out, manifest) == 0
    said = capsys.readouterr().out.splitlines()
    assert "2 of 6 clips in" in said[1] and "2 of 3 blocks were done before" in said[1]
    assert tree(out) == before
    monkeypatch.setattr(rows, "explain_batch", None)  # nothing is left to be done
    assert run(out, manifest, "--quiet") == 0
    assert not any(capsys.readouterr())


def test_what_failed_before_is_said_again(
    sounds: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same status; a block that is done again counts its own failures once."""
    out = tmp_path / "out"
    assert run(out, sounds) == 1
    failed = capsys.readouterr().err
    assert failed.startswith("lmaczs: clips that cannot be read: 1, see ")
    (out / "clips" / "part=00000" / "00000002.parquet").unlink()
    assert run(out, sounds) == 1 and capsys.readouterr().err == failed
    monkeypatch.setattr(rows, "explain_batch", None)  # nothing is left to be done
    assert run(out, sounds) == 1
    said, error = capsys.readouterr()
    assert "0 of 6 clips in" in said and error == failed


def test_a_full_disk_ends_it(
    sounds: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first block that it costs; what was done stays, and is resumed."""
    out, write = tmp_path / "out", Store.write

    def full(self: Store, name: str, data: bytes) -> None:
        if name == file_of("events", 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", full)
        assert run(out, sounds / "clips.csv") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("lmaczs: block 1 is not done: ")
    assert second.startswith(f"lmaczs: --out {out}: its disk is full; make room")
    assert run(out, sounds / "clips.csv") == 0
    assert "1 of 3 blocks were done before" in capsys.readouterr().out


def test_a_corpus_among_its_recordings_is_resumed(
    sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    """What is kept, and the page of a search, are no recordings of it."""
    shutil.copytree(sounds, tmp_path / "sounds")
    folder, out = tmp_path / "sounds", tmp_path / "sounds/out"
    assert run(out, folder, "--keep", "presence > 0.99") == 1
    assert list(out.glob("kept/*/input.wav"))
    page = ["--explain", "1", "--refine", "off", "--out", str(folder / "page")]
    assert main(["search", str(out), "dog", "--device", "cpu", *page]) == 0
    capsys.readouterr()
    assert run(out, folder, "--keep", "presence > 0.99") == 1
    assert "3 of 3 blocks were done before" in capsys.readouterr().out


def test_what_is_wrong_with_clips_is_no_matter_of_the_folder(
    tmp_path: Path, capsys: Capture
) -> None:
    """The manifest is named, which may be read only when the corpus is planned."""
    manifest = tmp_path / "m.parquet"
    rows = {"path": ["a.wav"], "start": [-1.0]}
    pq.write_table(pa.table(rows), manifest)
    assert run(tmp_path / "out", manifest) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lmaczs: {manifest}: {tmp_path}/a.wav from -1 to nan s")


def test_threads_are_as_before(sounds: Path, tmp_path: Path) -> None:
    """One is used, whose rounding is that of every engine; a notebook goes on."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert run(tmp_path / "out", sounds / "0.wav") == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "words, reason",
    [
        (
            ["--keep", "presence > 0.5"],
            "with no --keep, not --keep 'presence > 0.5': name another folder",
        ),
        (["--prompt", "rain"], "of other prompts: name another folder"),
        (["--no-events"], "made with events, not --no-events"),
        (["--refine", "auto"], "made with --refine off, not --refine auto"),
    ],
)
def test_another_corpus_in_the_folder_is_refused(
    sounds: Path, tmp_path: Path, capsys: Capture, words: list[str], reason: str
) -> None:
    """One sentence; nothing is changed."""
    out = tmp_path / "out"
    assert run(out, sounds / "0.wav") == 0
    before = tree(out)
    assert run(out, sounds / "0.wav", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lmaczs: --out {out} holds a corpus ") and reason in said
    assert run(out, sounds / "1.wav") == 2
    assert "of other clips" in capsys.readouterr().err
    assert tree(out) == before


def values_in(out: Path) -> list[object]:
    """Of scores, events and failures, without numbers of clips."""
    clips, scores, events, failures = (
        f"'{out}/{table}/*/*.parquet'"
        for table in ("clips", "scores", "events", "failures")
    )
    scored = f"""select path, prompt, similarity, presence, verdict, mass,
        folder is null from {clips} join {scores} using (clip, "window")
        order by path, "window", prompt"""
    found = f"""select path, prompt, e.start, e.stop from {events} e
        join {clips} using (clip) order by path, prompt, e.start"""
    failed = f"select path, reason from {failures} order by all"
    rows = (duckdb.sql(query).fetchall() for query in (scored, found, failed))
    return [value for table in rows for row in table for value in row]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["", "--jobs 2", "--engine ray --jobs 2"])
def test_new_recordings_are_added(
    sounds: Path, tmp_path: Path, capsys: Capture, engine: str
) -> None:
    """By the same line, wherever they sort; the same rows as at once, found by search.

    What was there stays to the byte; one that is gone is named.
    """
    folder, out, whole = (tmp_path / name for name in ("in", "out", "whole"))
    folder.mkdir()
    options = (*engine.split(), "--keep", "presence > 0.99")
    for names in (("1.wav", "4.wav", "5.wav"), ("0.wav", "2.wav"), ("3.wav",)):
        before = {} if not out.exists() else tree(out)
        for name in names:
            shutil.copy(sounds / name, folder / f"day-{name}")
        assert run(out, folder, *options) == 1  # 5.wav is no sound
        after = tree(out)
        tables = [name for name in before if name[:4] in ("clip", "scor", "even")]
        assert all(after[name] == before[name] for name in tables)
    said, errors = capsys.readouterr()
    assert "1 of 6 clips in" in said and "3 of 4 blocks were done before" in said
    assert f"--out {out}: 1 clip is added to its 5" in errors
    assert run(whole, folder, *options) == 1
    found, expected = map(values_in, (out, whole))
    assert found == pytest.approx(expected, abs=1e-4) and found.count("siren") >= 5
    capsys.readouterr()
    assert main(["search", str(out), "rain", "--device", "cpu", "--top", "1"]) == 0
    assert capsys.readouterr().out.endswith("day-2.wav\n")
    assert run(out, folder, *options) == 1
    assert "0 of 6 clips in" in capsys.readouterr().out
    (folder / "day-2.wav").unlink()
    before = tree(out)
    assert run(out, folder, *options) == 2
    reason = f"1 of its 6 are not given, such as {folder}/day-2.wav"
    assert reason in capsys.readouterr().err and tree(out) == before


@pytest.mark.slow
def test_engines_write_the_same_bytes(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, in others, and by Ray: tables, sounds, pictures and page."""
    options = ("--keep", "presence > 0.99")
    engines = [("--jobs", "2"), ("--engine", "ray", "--jobs", "2")]
    assert run(tmp_path / "out", sounds, *options) == 1
    expected = tree(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    for number, engine in enumerate(engines):
        out = Path(str(number))  # actors work in another folder
        assert run(out, sounds, *options, *engine) == 1
        assert tree(out) == expected


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "give a FILE"),
        (["--files-from", os.devnull], f"--files-from {os.devnull} is empty"),
        (["none/*.wav"], "no file matches this pattern"),
        (["a.csv", "b.wav"], "a.csv is a manifest: give it alone"),
        (["none.csv"], "none.csv does not exist"),
        (["a.wav", "--keep", "loud"], "--keep 'loud': 'loud' is no comparison"),
        (["a.wav", "--address", "x:1"], "--address is a cluster's"),
        (
            ["a.wav", "--engine", "ray", "--address", "127.0.0.1:9"],
            "--address 127.0.0.1:9: no cluster answers there",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_early(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is loaded or a folder made."""
    monkeypatch.chdir(tmp_path)
    line = ["corpus", *words, "--prompt", "dog", "--out", "out"]
    args = build_parser().parse_args(line)
    with pytest.raises(LmaczsError) as caught:
        check(args)
        list(clips_of(args))
    assert reason in str(caught.value)


def test_urls_are_taken_as_they_are(tmp_path: Path) -> None:
    """Beside paths, which are made absolute; in lists, too."""
    words = ["s3://b/x y.wav", "y.wav", "s3://b/z.wav"]
    (tmp_path / "list.txt").write_text("\n".join(words[1:]))
    expected = [str(Path("y.wav").absolute()), words[0], words[2]]
    given = ["--files-from", str(tmp_path / "list.txt"), "--prompt", "dog"]
    for line in (words, [words[0], *given], [words[0], words[2]]):
        args = build_parser().parse_args(["corpus", *line, "--out", "s3://b/o"])
        (table,) = clips_of(args)
        assert table["path"].to_pylist() == expected[3 - len(table) :]
