"""`lmaczs scan`: what is written, where, and by which rule."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.cli import build_parser, main
from lmaczs.cli.scan import event_folders, rule_of
from lmaczs.data.annotations import from_audacity, from_raven
from lmaczs.demo.scenes import render
from lmaczs.events import EventRule
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.report.page_data import read_page_data
from lmaczs.utils.errors import InputError
from lmaczs.utils.result_folder import ResultState, write_state

RATE = 32000
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def meadow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of faint noise with a siren from 3 s on."""
    wav = 0.001 * torch.randn(12 * RATE, generator=torch.Generator().manual_seed(0))
    sound = render("siren", RATE, 5.0, seed=0).float()
    wav[3 * RATE :][: len(sound)] += sound
    return save_audio(tmp_path_factory.mktemp("sounds") / "meadow.wav", wav, RATE)


def run(path: Path, out: Path, *options: str) -> int:
    """Scan a recording for a siren and a dog, without refinement."""
    words = ["scan", str(path), "--prompt", "siren", "--prompt", "dog"]
    words += ["--refine", "off", "--device", "cpu", "--out", str(out)]
    return main([*words, *options])


def test_tables_sounds_and_a_page_are_written(
    meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """All three tables have the same events; each event has a sound and a picture."""
    assert run(meadow, tmp_path) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{meadow}: siren: 1; dog: 0 (")
    assert "%" not in err  # no bar in a pipe
    folder = tmp_path / "meadow.events"
    table = pd.read_csv(folder / "events.csv")
    assert table.prompt.tolist() == ["siren"]
    assert table.path.tolist() == [str(meadow)]
    raven = from_raven(folder / "meadow.selections.txt")
    audacity = from_audacity(folder / "meadow.labels.txt")
    for other in (raven, audacity):
        assert other.start.tolist() == pytest.approx(table.start.tolist())
        assert other.high_hz.tolist() == pytest.approx(table.high_hz.tolist(), abs=0.1)
    assert raven.begin_path.tolist() == [str(meadow)]
    one = folder / "0001" / "siren"
    assert json.loads((one / "explanation.json").read_text())["prompt"] == "siren"
    assert (one / "explanation.png").is_file()
    sound = load_audio(folder / "0001" / "input.wav", RATE)
    assert len(sound) <= 5 * RATE
    page = (tmp_path / "events.html").read_text()
    assert "meadow.wav, 00:0" in page and "0001" in page
    assert 'href="#r2"' in page and "1 event of 1 recording" in page
    entry = json.loads((folder / "recording.json").read_text())["entries"][1]
    limits = r'class="box".* data-start="(.*?)" data-stop="(.*?)"'
    (whole, alone), first = re.findall(limits, page), entry["window_start"]
    assert list(map(float, whole)) == pytest.approx([table.start[0], table.stop[0]])
    own = max(0, table.start[0] - first), min(table.stop[0] - first, len(sound) / RATE)
    assert list(map(float, alone)) == pytest.approx(own)
    data = json.loads(read_page_data(folder / "page_data.js"))
    assert data["seconds"] == 12 and data["prompts"] == {}
    assert (data["rows"], data["columns"]) == (256, 601)


def test_tables_alone(meadow: Path, tmp_path: Path, capsys: Capture) -> None:
    """Without sounds there is no page; a second scan takes the place of the first."""
    for _ in range(2):
        assert run(meadow, tmp_path, "--tables-only", "--force") == 0
    assert [one.name for one in tmp_path.iterdir()] == ["meadow.events"]
    names = {one.name for one in (tmp_path / "meadow.events").iterdir()}
    tables = {"events.csv", "meadow.labels.txt", "meadow.selections.txt"}
    assert names == tables | {"recording.json"}


def test_what_was_scanned_is_not_scanned_again(
    meadow: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same line, rows and page; not with another option, nor if a file is gone."""
    assert run(meadow, tmp_path) == 0
    line = capsys.readouterr().out
    page = (tmp_path / "events.html").read_text()
    (tmp_path / "events.html").unlink()
    searched = []
    explain_events = ZeroShotInterpreter.explain_events

    def search(*args: Any) -> Any:
        searched.append(args)
        return explain_events(*args)

    monkeypatch.setattr(ZeroShotInterpreter, "explain_events", search)
    assert run(meadow, tmp_path) == 0
    again = capsys.readouterr().out
    assert not searched and "(done before" in again
    assert again.partition(" (")[0] == line.partition(" (")[0]
    assert (tmp_path / "events.html").read_text() == page
    assert run(meadow, tmp_path, "--presence", "0.97") == 0 and len(searched) == 1
    (tmp_path / "meadow.events" / "0001" / "input.wav").unlink()
    assert run(meadow, tmp_path, "--presence", "0.97") == 0 and len(searched) == 2
    os.truncate(tmp_path / "meadow.events" / "events.csv", 10)
    assert run(meadow, tmp_path, "--presence", "0.97") == 0 and len(searched) == 3
    assert run(meadow, tmp_path, "--presence", "0.97", "--force") == 0
    assert len(searched) == 4


def test_prompts_are_given_as_to_interpret(
    meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A file of them, recordings, and what they are against; at least one."""
    like = save_audio(tmp_path / "b.wav", render("siren", RATE, 5.0, seed=1), RATE)
    (tmp_path / "prompts.txt").write_text("siren\n")
    words = ["scan", str(meadow), "--device", "cpu", "--refine", "off", "--tables-only"]
    words += ["--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "give a prompt" in capsys.readouterr().err
    both = ["--prompts", str(tmp_path / "prompts.txt"), "--prompt-audio", str(like)]
    assert main([*words, *both, "--shared", "--presence", "0.9"]) == 0
    assert f"{meadow}: siren: 1; b.wav: 1 (" in capsys.readouterr().out
    against = ["--prompt", "siren", "--contrast", "siren", "--contrast", "dog"]
    assert main([*words, *against]) == 0
    assert "siren: 1 (" in capsys.readouterr().out
    state = json.loads((tmp_path / "out/meadow.events/recording.json").read_text())
    assert state["options"]["contrast"] == ["siren", "dog"]
    against = ["--prompt", "a siren", "--contrast", "siren"]
    assert main([*words, *against, "--presence", "0.9"]) == 0
    assert "a siren: 0 (" in capsys.readouterr().out


def test_rows_are_those_of_the_table(
    meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Where they are found, and where they were found before."""
    for _ in range(2):
        assert run(meadow, tmp_path, "--tables-only", "--format", "jsonl") == 0
        (row,) = map(json.loads, capsys.readouterr().out.splitlines())
        table = pd.read_csv(tmp_path / "meadow.events" / "events.csv")
        assert row.pop("file") == str(meadow)
        assert row == table.drop(columns="path").to_dict("records")[0]


def test_what_is_doubtful_is_noted(tmp_path: Path, capsys: Capture) -> None:
    """Also where nothing is found; the page has it, too, without an event."""
    path = save_audio(tmp_path / "a.wav", torch.zeros(6 * RATE), RATE)
    for options in (["--tables-only"], []):
        assert run(path, tmp_path / "out", *options) == 0
        err = capsys.readouterr().err
        assert f"{path}: the recording is digital silence" in err
    page = (tmp_path / "out" / "events.html").read_text()
    assert "Note: the recording is digital silence" in page
    assert "No prompt is an event in this recording." in page


def test_a_page_goes_with_its_sounds(meadow: Path, tmp_path: Path) -> None:
    """Tables alone, written over sounds, leave no page that plays what is gone."""
    assert run(meadow, tmp_path) == 0 and (tmp_path / "events.html").is_file()
    assert run(meadow, tmp_path, "--tables-only") == 0
    assert [one.name for one in tmp_path.iterdir()] == ["meadow.events"]


def test_a_moved_recording_is_named_where_it_is(meadow: Path, tmp_path: Path) -> None:
    """In the same folder: by the tables, and by the page, which plays it."""
    before, after = tmp_path / "before", tmp_path / "after"
    after.mkdir()
    shutil.copytree(meadow.parent, before)
    assert run(before / "meadow.wav", tmp_path / "out") == 0
    path = (before / "meadow.wav").rename(after / "meadow.wav")
    assert run(path, tmp_path / "out") == 0
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names == {"meadow.events", "events.html"}
    folder = tmp_path / "out" / "meadow.events"
    assert pd.read_csv(folder / "events.csv").path.tolist() == [str(path)]
    assert from_raven(folder / "meadow.selections.txt").begin_path[0] == str(path)
    page = (tmp_path / "out" / "events.html").read_text()
    assert 'data-input="../after/meadow.wav"' in page


def test_recordings_of_one_name_are_told_apart(meadow: Path, tmp_path: Path) -> None:
    """On the page by the folder that they lie in."""
    for name in ("north", "south"):
        shutil.copytree(meadow.parent, tmp_path / "in" / name)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    page = (tmp_path / "out" / "events.html").read_text()
    for name in ("north/meadow.wav", "south/meadow.wav"):
        assert f">{name}</h2>" in page and f">{name}, 00:0" in page


@pytest.mark.parametrize("prompt", ["10", "nan", "=1+1"])
def test_a_prompt_may_be_a_number(
    prompt: str, meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Its events are counted and printed as text, as what they are."""
    words = ["scan", str(meadow), "--prompt", prompt, "--presence", "0"]
    words += ["--candidate", "0", "--min-length", "0", "--tables-only"]
    words += ["--refine", "off", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*words, "--format", "jsonl"]) == 0
    rows = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert rows and all(row["prompt"] == prompt for row in rows)
    assert main(words) == 0
    assert f"{prompt}: {len(rows)} (done before" in capsys.readouterr().out


def test_a_rule_that_cannot_be_is_refused(
    meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Status 2, one line, nothing written."""
    assert run(meadow, tmp_path, "--presence", "95") == 2
    assert "lmaczs: --presence is 95.0: give 0 to 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_leaves_the_others(
    meadow: Path, tmp_path: Path, capsys: Capture
) -> None:
    """It gets a line on stderr, and no folder."""
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound")
    words = ["scan", str(broken), str(meadow), "--prompt", "siren", "--tables-only"]
    words += ["--refine", "off", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert "siren: 1" in out and str(broken) in err
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["meadow.events"]


def test_options_are_those_of_the_rule() -> None:
    """Without one the rule's own default holds."""
    parse = build_parser().parse_args
    words = ["scan", "a.wav", "--prompt", "dog"]
    assert rule_of(parse(words)) == EventRule()
    given = ["--presence", "0.97", "--candidate", "0.8", "--on", "0.5", "--off", "0.4"]
    given += ["--min-length", "0.2", "--max-gap", "1", "--shared"]
    expected = EventRule(0.97, 0.8, 0.5, 0.4, 0.2, 1.0, exclusive=False)
    assert rule_of(parse([*words, *given])) == expected
    for wrong, said in (
        (["--off", "0.8"], "--on is 0.7 and --off is 0.8: give 0 < off <= on <= 1"),
        (["--min-length", "-1"], "--min-length is -1.0: give seconds"),
    ):
        with pytest.raises(InputError, match=f"^{said}$"):
            rule_of(parse([*words, *wrong]))


def test_folders_replace_nothing_but_scans(tmp_path: Path) -> None:
    """A folder of the user's, a file, or a recording inside make the next name."""
    sounds = [tmp_path / "a/x.wav", tmp_path / "b/X.flac", tmp_path / "y.wav"]
    out = tmp_path / "out"
    names = [one.name for one in event_folders(out, sounds).values()]
    assert names == ["x.events", "X-2.events", "y.events"]
    (out / "x.events").mkdir(parents=True)
    (out / "x.events/thesis.txt").touch()
    (out / "y.events").touch()
    files = [*sounds[::2], tmp_path / "z.wav", out / "w.events/w.wav"]
    files += [tmp_path / "v.wav", tmp_path / "u.wav"]
    for path in files[2:]:
        folder = out / f"{path.stem}.events"
        owner = tmp_path / "b" / "u.wav" if path.stem == "u" else path
        write_state(folder, ResultState(str(owner), "", {}, {}))
        (folder / "events.csv").touch()
    (out / "w.events/w.wav").touch()
    (out / "v.events/notes.txt").touch()
    names = [one.name for one in event_folders(out, files).values()]
    numbered = [f"{name}-2.events" for name in "xywvu"]
    assert names == [*numbered[:2], "z.events", *numbered[2:]]
