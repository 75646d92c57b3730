"""`lmaczs prompts`: what it prints, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.cli import main
from lmaczs.interpreter import ZeroShotInterpreter

Capture = pytest.CaptureFixture[str]
WORDINGS = ["dog", "a dog barking", "clock_tick", "犬"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings, a manifest of them with two labels, and a file of wordings."""
    folder = tmp_path_factory.mktemp("wordings")
    torch.manual_seed(0)
    rows = ["path,label"]
    for number in range(4):
        save_audio(folder / f"{number}.wav", torch.randn(8000) / 10, 16000)
        rows.append(f"{number}.wav,{'dog' if number % 2 else 'rain'}")
    (folder / "clips.csv").write_text("\n".join([*rows, "0.wav,dog"]))
    (folder / "wordings.txt").write_text("\n".join(WORDINGS), "utf-8")
    return folder


def run(folder: Path, clap: Path, *words: str) -> int:
    """Run the command with the file of wordings."""
    options = ["--prompts", str(folder / "wordings.txt"), "--clap", str(clap)]
    return main(["prompts", *words, *options])


def test_recordings_have_a_row_a_wording(
    folder: Path, tiny_clap_folder: Path, capsys: Capture
) -> None:
    """With the numbers of `interpret`; what is doubtful is noted on stderr."""
    files = [str(folder / f"{number}.wav") for number in (2, 0)]
    assert run(folder, tiny_clap_folder, *files) == 0
    captured = capsys.readouterr()
    table = pd.read_csv(io.StringIO(captured.out))
    assert table.file.unique().tolist() == files and len(table) == 8
    assert table["rank"].tolist() == [1, 2, 3, 4] * 2
    interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder)
    found = interpreter.interpret_file(files[0], WORDINGS, verify=False, refine=0)
    rows = table[table.file == files[0]].set_index("prompt")
    for one in found:
        row = rows.loc[one.prompt]
        assert row.similarity == pytest.approx(one.similarity, abs=2e-6)
        assert row.presence == pytest.approx(one.presence, abs=2e-6)
    for text in ("'clock_tick': underscores", "lacks '犬'", "text tower: 342 tokens"):
        assert text in captured.err


def test_folders_lists_and_channels(
    folder: Path, tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Recordings are named as for the other commands, each counted once."""
    sound = torch.stack([torch.zeros(8000), load_audio(folder / "1.wav", 16000)])
    soundfile.write(tmp_path / "both.wav", sound.T.numpy(), 16000, "FLOAT")
    (tmp_path / "list.txt").write_text(f"{folder / '1.wav'}\n{tmp_path / 'both.wav'}\n")
    (tmp_path / "empty").mkdir()
    words = [str(folder), str(tmp_path / "empty")]
    words += ["--files-from", str(tmp_path / "list.txt")]
    assert run(folder, tiny_clap_folder, *words) == 1
    captured = capsys.readouterr()
    assert f"{tmp_path / 'empty'}: there is no recording" in captured.err
    table = pd.read_csv(io.StringIO(captured.out))
    files = [*(folder / f"{number}.wav" for number in range(4)), tmp_path / "both.wav"]
    assert table.file.unique().tolist() == list(map(str, files))
    assert run(folder, tiny_clap_folder, str(files[-1]), "--channel", "2") == 0
    second = pd.read_csv(io.StringIO(capsys.readouterr().out))
    expected = table[table.file == str(files[1])]
    assert second.prompt.tolist() == expected.prompt.tolist()
    found = second.similarity.tolist()
    assert found == pytest.approx(expected.similarity.tolist(), abs=1e-4)


def test_strict_refuses_what_is_cut_off(
    folder: Path, tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Which is ranked as far as it goes without it."""
    path = tmp_path / "cut.wav"
    path.write_bytes((folder / "0.wav").read_bytes()[:-4000])
    assert run(folder, tiny_clap_folder, str(path)) == 0
    capsys.readouterr()
    assert run(folder, tiny_clap_folder, str(path), "--strict") == 1
    captured = capsys.readouterr()
    assert f"{path}: it is truncated" in captured.err and not captured.out


def test_manifest_ranks_by_its_label(
    folder: Path, tiny_clap_folder: Path, capsys: Capture
) -> None:
    """A clip of two rows is one clip with both labels."""
    manifest = str(folder / "clips.csv")
    assert run(folder, tiny_clap_folder, manifest, "--label", "dog") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(table.prompt) == set(WORDINGS)
    assert set(table.clips) == {3} and set(table.others) == {1}
    interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder)
    wavs = [load_audio(folder / f"{n}.wav", interpreter.sample_rate) for n in range(4)]
    expected = interpreter.rank_prompts(wavs, WORDINGS, [True, True, False, True])
    assert table.prompt.tolist() == expected.prompt.tolist()
    assert table.auc.tolist() == pytest.approx(expected.auc.tolist(), abs=1e-6)


def test_file_that_cannot_be_read_is_one_line(
    folder: Path, tiny_clap_folder: Path, capsys: Capture
) -> None:
    """The others are done."""
    files = [str(folder / "none.wav"), str(folder / "1.wav")]
    assert run(folder, tiny_clap_folder, *files) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5 and "none.wav" in captured.err


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["clips.csv"], "clips.csv is a manifest: give the label", 2),
        (["clips.csv", "0.wav", "--label", "dog"], "give it alone", 2),
        (["0.wav", "--label", "dog"], "--label dog is one of a manifest", 2),
        (["clips.csv", "--label", "dog", "--channel", "2"], "--channel 2 is for", 2),
        (["clips.csv", "--label", "dgo"], "--label dgo: did you mean 'dog'", 1),
    ],
)
def test_wrong_command_line_is_one_sentence(
    words: list[str],
    message: str,
    status: int,
    folder: Path,
    tiny_clap_folder: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That names the option."""
    monkeypatch.chdir(folder)
    assert run(folder, tiny_clap_folder, *words) == status
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out


def test_interpret_takes_prompts_of_all_kinds(
    folder: Path, tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Words, a file of them, recordings: each has its folder and its part of a line."""
    words = ["interpret", str(folder / "0.wav"), "--clap", str(tiny_clap_folder)]
    words += ["--prompt", "rain", "--prompts", str(folder / "wordings.txt")]
    words += ["--prompt-audio", str(folder / "1.wav"), "--out", str(tmp_path / "out")]
    assert main([*words, "--refine", "1"]) == 0
    line = capsys.readouterr().out
    assert all(f"{prompt}: " in line for prompt in ["rain", *WORDINGS, "1.wav"])
    record = tmp_path / "out" / "0" / "1-wav" / "explanation.json"
    found = json.loads(record.read_text())
    assert found["prompt"] == "1.wav"
    assert found["prompt_audio"] == str(folder / "1.wav")


def test_interpret_takes_a_contrast(
    folder: Path, tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Two prompts against each other; line, page and explanation.json have margins."""
    words = ["interpret", str(folder / "0.wav"), "--clap", str(tiny_clap_folder)]
    for prompt in ("dog", "rain"):
        words += ["--prompt", prompt, "--contrast", prompt]
    out = tmp_path / "out"
    assert main([*words, "--refine", "1", "--out", str(out)]) == 0
    line, page = capsys.readouterr().out, (out / "index.html").read_text("utf-8")
    for prompt, other in (("dog", "rain"), ("rain", "dog")):
        found = json.loads((out / "0" / prompt / "explanation.json").read_text())
        assert found["contrast"] == [other]
        kind = "above" if found["margin"] > 0 else "below"
        shown = f"{kind} “{other}” by {abs(found['margin']):.3f}"
        assert shown in line and shown in page


def test_recording_that_is_the_prompt_is_never_replaced(
    folder: Path, tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """Though its place is that of a result of an earlier run."""
    out = tmp_path / "out"
    words = ["interpret", str(folder / "0.wav"), "--clap", str(tiny_clap_folder)]
    words += ["--refine", "0", "--out", str(out)]
    assert main([*words, "--prompt", "dog"]) == 0
    copy = out / "0" / "input.wav"
    before = copy.read_bytes()
    assert main([*words, "--prompt-audio", str(copy)]) == 0
    assert copy.read_bytes() == before
    assert (out / "0-2" / "input-wav" / "explanation.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give a prompt: --prompt"),
        (["--prompts", "none.txt"], "none.txt cannot be read"),
        (["--prompt-audio", "none.wav"], "--prompt-audio none.wav: there is no such"),
        (["--prompt-audio", "0.wav", "--contrast", "dog"], "--contrast is for prompts"),
        (["--prompt", "dog", "--contrast", "dog"], "--contrast 'dog' is a prompt, too"),
    ],
)
def test_prompts_that_cannot_be_used_end_at_once(
    options: list[str],
    message: str,
    folder: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line with status 2, before a model is loaded or a folder made."""
    monkeypatch.chdir(folder)
    assert main(["interpret", "0.wav", "--clap", "none", *options]) == 2
    assert message in capsys.readouterr().err and not (folder / "out").exists()
