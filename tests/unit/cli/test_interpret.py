"""interpret.py: what is done once, and what is done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from lmaczs.audio.io import save_audio
from lmaczs.cli import main
from lmaczs.cli.interpret import finding, number
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.report.words import verdict_words

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def line(tiny_clap_folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Function that makes a command line for recordings in `tmp_path`."""

    def make(*files: str, prompts: str = "rain", out: str = "out") -> list[str]:
        for file in files:
            path = tmp_path / file
            if not path.exists():
                seed = torch.manual_seed(len(file))
                save_audio(path, torch.rand(3200, generator=seed) - 0.5, 16000)
        words = [w for prompt in prompts.split(",") for w in ("--prompt", prompt)]
        model = ["--clap", str(tiny_clap_folder), "--device", "cpu"]
        paths = [str(tmp_path / file) for file in files]
        return ["interpret", *paths, *words, *model, "--out", str(tmp_path / out)]

    return make


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recordings that were explained, as they are."""
    names: list[str] = []
    interpret_file = ZeroShotInterpreter.interpret_file

    def spy(self: Any, path: Path, *args: Any, **named: Any) -> Any:
        names.append(path.name)
        return interpret_file(self, path, *args, **named)

    monkeypatch.setattr(ZeroShotInterpreter, "interpret_file", spy)
    return names


def test_explanations_name_their_recording(
    line: Callable[..., list[str]], tmp_path: Path
) -> None:
    """With the digest of its bytes."""
    assert main(line("a.wav")) == 0
    path = tmp_path / "a.wav"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("recording.json", "rain/explanation.json"):
        record = json.loads((tmp_path / "out" / "a" / name).read_text())
        assert record["recording"] == str(path)
        assert record["recording_sha256"] == digest


def test_what_is_done_is_not_done_again(
    line: Callable[..., list[str]],
    explained: list[str],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """It is a line all the same, and on the page; what is new is done."""
    assert main(line("a.wav", prompts="rain,dog")) == 0
    first = capsys.readouterr().out
    page = (tmp_path / "out" / "index.html").read_text()
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "a").rglob("*.*")}
    assert main(line("a.wav", prompts="rain,dog")) == 0
    again = capsys.readouterr().out
    assert explained == ["a.wav"]
    assert again.endswith(" (done before: --force does it again)\n")
    assert again.rpartition(" (")[0] == first.rpartition(" (")[0]
    assert (tmp_path / "out" / "index.html").read_text() == page
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert main(line("a.wav", "b.wav")) == 0
    assert explained == ["a.wav", "b.wav"]
    assert (tmp_path / "out" / "index.html").read_text().count("<h2 ") == 2


@pytest.mark.parametrize(
    "change",
    [
        *("recording", "force", "refine", "prompt", "contrast", "explanation.wav"),
        *("page_data.js", "explanation.json", "recording.json", "unfinished", "cut"),
    ],
)
def test_what_is_not_the_same_or_not_whole_is_done_again(
    change: str, line: Callable[..., list[str]], explained: list[str], tmp_path: Path
) -> None:
    """Another recording of the name, other options, a file that is gone or cut."""
    command, folder = line("a.wav"), tmp_path / "out" / "a"
    assert main(command) == 0
    match change:
        case "recording":
            save_audio(tmp_path / "a.wav", torch.rand(3200) - 0.5, 16000)
        case "prompt":
            command = line("a.wav", prompts="rain,dog")
        case "force" | "refine" | "contrast":
            options = {"refine": ["2"], "contrast": ["dog"]}
            command += [f"--{change}", *options.get(change, [])]
        case "unfinished":
            state = json.loads((folder / "recording.json").read_text())
            state["whole"] = False
            (folder / "recording.json").write_text(json.dumps(state))
        case "cut":
            os.truncate(folder / "rain" / "residual.wav", 100)
        case name:
            (path,) = folder.rglob(name)
            path.unlink()
    assert main(command) == 0
    assert explained == ["a.wav", "a.wav"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a", "index.html"}
    assert main(command) == 0
    assert len(explained) == 2 + (change == "force")


def test_a_moved_recording_is_named_where_it_is(
    line: Callable[..., list[str]], explained: list[str], tmp_path: Path
) -> None:
    """It is not explained again, and what was written has its place."""
    assert main(line("a.wav", prompts="rain,dog")) == 0
    (tmp_path / "later").mkdir()
    path = (tmp_path / "a.wav").rename(tmp_path / "later" / "a.wav")
    assert main(line("later/a.wav", prompts="dog")) == 0 and len(explained) == 1
    for name in ("recording.json", "rain/explanation.json", "dog/explanation.json"):
        record = json.loads((tmp_path / "out" / "a" / name).read_text())
        assert record["recording"] == str(path)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a", "index.html"}


def test_prompts_of_one_name_count_each(
    line: Callable[..., list[str]], explained: list[str], tmp_path: Path
) -> None:
    """Another recording as the first of two prompts is another explanation."""
    words = line("a.wav", prompts="rain")
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        line(f"{name}/dog.wav")
        words += ["--prompt-audio", str(tmp_path / name / "dog.wav")]
    assert main(words) == 0
    count = len(explained)
    assert main(words) == 0 and len(explained) == count
    save_audio(tmp_path / "x" / "dog.wav", torch.rand(3200) - 0.5, 16000)
    assert main(words) == 0 and len(explained) == 2 * count


def test_recordings_of_one_name_never_share_a_folder(
    line: Callable[..., list[str]], explained: list[str], tmp_path: Path
) -> None:
    """In one run or in several; each is found again."""
    for names in (["x/a.wav"], ["yy/a.wav"], ["yy/a.wav", "x/a.wav"]):
        assert main(line(*names)) == 0
    assert explained == ["a.wav", "a.wav"]
    for number_, name in (("", "x"), ("-2", "yy")):
        folder = tmp_path / "out" / f"a{number_}"
        record = json.loads((folder / "rain" / "explanation.json").read_text())
        assert record["recording"] == str(tmp_path / name / "a.wav")


def test_a_run_that_is_killed_is_taken_up(
    line: Callable[..., list[str]],
    explained: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole recordings stay, the one at work is done again into its folder."""
    import lmaczs.report.recording as recording

    write = recording.write_page_data

    def stop(folder: Path, *args: Any) -> Any:
        if folder.name == "b":
            raise KeyboardInterrupt
        return write(folder, *args)

    monkeypatch.setattr(recording, "write_page_data", stop)
    assert main(line("a.wav", "b.wav", "c.wav")) == 130
    assert (tmp_path / "out" / "b" / "rain" / "explanation.json").is_file()
    monkeypatch.setattr(recording, "write_page_data", write)
    assert main(line("a.wav", "b.wav", "c.wav")) == 0
    assert explained == ["a.wav", "b.wav", "b.wav", "c.wav"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a", "b", "c", "index.html"}
    # nor is what another line has begun to replace taken for what was done
    monkeypatch.setattr(recording, "write_page_data", stop)
    assert main([*line("b.wav"), "--refine", "2"]) == 130
    monkeypatch.setattr(recording, "write_page_data", write)
    explained.clear()
    assert main(line("a.wav", "b.wav", "c.wav")) == 0 and explained == ["b.wav"]


def test_rows_of_explanations(
    line: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    """One for each prompt: what explanation.json holds, its file and its folder."""
    command = line("a.wav", prompts="rain,clock_tick")
    for _ in range(2):
        assert main([*command, "--format", "json", "--quiet"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for row, slug in zip(json.loads(out), ("rain", "clock-tick"), strict=True):
            folder = tmp_path / "out" / "a" / slug
            assert row.pop("file") == str(tmp_path / "a.wav")
            assert row.pop("folder") == str(folder)
            assert row == json.loads((folder / "explanation.json").read_text())
    assert main([*command, "--format", "csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("file,prompt,verdict,presence,") and len(rows) == 2


def test_quiet_prints_errors_only(
    line: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    """No line of a recording, no note."""
    (tmp_path / "none.wav").touch()
    command = line("a.wav", "none.wav", prompts="clock_tick")
    assert main([*command, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"lmaczs: {tmp_path / 'none.wav'}: ")
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_jobs_write_the_same(
    line: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    """Numbers, files and lines of one process, but for rounding."""
    names = ["a.wav", "bb.wav", "ccc.wav"]
    (tmp_path / "none.wav").touch()
    printed = []
    for out, jobs in (("one", "1"), ("two", "2")):
        files = [*names[:1], "none.wav", *names[1:]]
        assert main([*line(*files, out=out), "--jobs", jobs]) == 1
        text = capsys.readouterr()
        printed.append([one.split(": ")[0] for one in text.out.splitlines()])
        assert f"{tmp_path / 'none.wav'}: " in text.err
    assert printed[0] == printed[1]
    for path in (tmp_path / "one").rglob("explanation.json"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        one, two = (json.loads(p.read_text()) for p in (path, other))
        assert one.pop("warnings") == two.pop("warnings")
        assert one.pop("contrast") == two.pop("contrast")
        for first, second in zip(one.pop("events"), two.pop("events"), strict=True):
            assert first == pytest.approx(second, abs=1e-4)
        assert one == pytest.approx(two, abs=1e-4)


def test_one_channel(
    line: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    """Its explanation is that of a file of it, by all three commands."""
    noise = torch.rand(2, 3200, generator=torch.manual_seed(0)) - 0.5
    soundfile.write(tmp_path / "both.wav", noise.T.numpy(), 16000, "FLOAT")
    save_audio(tmp_path / "second.wav", noise[1], 16000)
    for name, options in (("both", ["--channel", "2"]), ("second", [])):
        assert main([*line(f"{name}.wav"), *options]) == 0
    one, two = (
        json.loads((tmp_path / "out" / name / "rain" / "explanation.json").read_text())
        for name in ("both", "second")
    )
    assert (one["channel"], two["channel"]) == (2, None)
    assert one["similarity"] == pytest.approx(two["similarity"], abs=1e-6)
    capsys.readouterr()
    assert main([*line("both.wav"), "--channel", "mix"]) == 0
    assert "done before" not in capsys.readouterr().out
    assert main([*line("both.wav"), "--channel", "3"]) == 1
    assert "it has no channel 3, but 2" in capsys.readouterr().err
    model = line()[-6:-2]
    values = []
    for name, options in (("both", ["--channel", "2"]), ("second", [])):
        words = ["classify", str(tmp_path / f"{name}.wav"), "--label", "rain", *model]
        assert main([*words, *options, "--format", "jsonl"]) == 0
        values.append(json.loads(capsys.readouterr().out)["similarity"])
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    words = ["scan", str(tmp_path / "both.wav"), "--prompt", "rain", *model]
    assert main([*words, "--channel", "3", "--out", str(tmp_path / "scans")]) == 1
    assert "it has no channel 3, but 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*line("both.wav"), "--channel", "left"])
    assert "'left' is not mix, or 1 or more" in capsys.readouterr().err


def test_words_of_a_record() -> None:
    """Verdict and similarities; silence has no number."""
    record = {
        **{"prompt": "rain", "similarity": 0.5, "masked_similarity": 0.75},
        **{"empty": False, "verdict": "kept", "presence": 0.99},
    }
    words = f"rain: {verdict_words(record)} (similarity 0.500 -> 0.750)"
    assert finding(record) == words
    assert finding({**record, "empty": True}).endswith("(similarity 0.500, empty mask)")
    assert number(None) == "none"
