"""Properties of the commands: what is written, printed and returned, file by file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from speechbrain.utils.checkpoints import Checkpointer

import lmaczs.cli.doctor
import lmaczs.demo.scenes
import lmaczs.interpreter
from lmaczs.audio.io import convert_audio, load_audio, save_audio
from lmaczs.clap import FrozenClap
from lmaczs.cli import main
from lmaczs.decoder import MaskDecoder
from lmaczs.demo.scenes import SCENES
from lmaczs.interpreter import Refine, ZeroShotInterpreter
from lmaczs.report.page_data import read_page_data
from lmaczs.training.export import inference_yaml, write_run_card

TEMPLATE = "This is a sound of {}."
SAVED = {"explanation.wav", "residual.wav", "explanation.png", "explanation.json"}
LISTENED = {"explanation.flac", "residual.flac"}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def source(
    tiny_clap: FrozenClap,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Model folder with a random decoder."""
    decoder = MaskDecoder(tiny_clap, width=8)
    return model_folder(tmp_path_factory.mktemp("model"), decoder, tiny_clap_folder)


@pytest.fixture(scope="module")
def deaf_source(
    tiny_clap: FrozenClap,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Model folder with a decoder whose masks keep nothing."""
    decoder = MaskDecoder(tiny_clap, width=8)
    torch.nn.init.zeros_(decoder.draw.weight)
    decoder.draw.bias.data = torch.tensor([1e-12, 0.5]).logit()
    return model_folder(tmp_path_factory.mktemp("deaf"), decoder, tiny_clap_folder)


def model_folder(folder: Path, decoder: MaskDecoder, clap: Path) -> Path:
    """Write a decoder as a folder that can be loaded."""
    save_file(decoder.state_dict(), folder / "decoder.safetensors")
    text = inference_yaml(str(clap), "tiny", "stft", 8, TEMPLATE)
    (folder / "hyperparams.yaml").write_text(text)
    return folder


def recording(path: Path, seed: int = 0) -> Path:
    """Write 0.2 s of noise."""
    noise = torch.rand(3200, generator=torch.manual_seed(seed)) - 0.5
    return save_audio(path, noise, 16000)


def numbers(folder: Path) -> dict[str, float]:
    """Scalars of an explanation.json."""
    return scalars(json.loads((folder / "explanation.json").read_text()))


def scalars(record: dict[str, Any]) -> dict[str, Any]:
    """All but lists, which approx does not look into."""
    return {k: v for k, v in record.items() if not isinstance(v, list)}


def test_help_is_quick() -> None:
    """Neither torch nor transformers is imported to print a help text."""
    code = (
        "import sys; from lmaczs.cli import main\n"
        "try: main(['interpret', '--help'])\n"
        "finally: print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: lmaczs interpret")
    assert done.stdout.endswith("\n[]\n")


# --- refinement, and no decoder ------------------------------------------------------


@pytest.mark.parametrize(("option", "refine"), [("off", 0), ("auto", "auto"), ("2", 2)])
def test_refine_is_passed_on(
    option: str, refine: Refine, source: Path, tmp_path: Path
) -> None:
    """Off, auto and a number of steps are those of `interpret_file`."""
    path = recording(tmp_path / "a.wav")
    command = ["interpret", str(path), "--prompt", "rain", "--source", str(source)]
    options = ["--out", str(tmp_path / "out"), "--refine", option]
    assert main([*command, *options, "--device", "cpu"]) == 0
    interpreter = ZeroShotInterpreter.from_hparams(source, run_opts={"device": "cpu"})
    one = interpreter.interpret_file(path, "rain", refine=refine)
    found = numbers(tmp_path / "out" / "a" / "rain")
    assert found == pytest.approx(scalars(one.to_dict()), abs=1e-5)


def test_a_clap_without_a_decoder(
    tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """interpret and classify take --clap; masks are fitted to the recording."""
    path = recording(tmp_path / "a.wav")
    model = ["--clap", str(tiny_clap_folder), "--device", "cpu"]
    command = ["interpret", str(path), "--prompt", "rain", *model]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "fitted" in numbers(tmp_path / "out" / "a" / "rain")["model"]
    assert main(["classify", str(path), "--label", "rain", *model]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refine", "never"], "'never' is not auto, off or a number"),
        (["--refine", "-1"], "'-1' is not auto, off or a number"),
        (["--clap", "a", "--source", "b"], "not allowed with argument"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], message: str, tmp_path: Path, capsys: Capture
) -> None:
    """A sentence says what they may be; the status is 2."""
    command = ["interpret", str(tmp_path / "a.wav"), "--prompt", "rain"]
    with pytest.raises(SystemExit) as ended:
        main([*command, *[f"{options[0]}={options[1]}", *options[2:]]])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


# --- interpret ----------------------------------------------------------------------


def test_interpret_writes_every_prompt_of_every_file(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """DIR/<stem>/<slug>/ as save() writes it, the page, and a line a file."""
    files = [recording(tmp_path / f"{name}.wav", i) for i, name in enumerate("ab")]
    out = tmp_path / "new" / "out"
    prompts = ["A dog, barking!", "rain"]
    options = [word for prompt in prompts for word in ("--prompt", prompt)]
    command = ["interpret", *map(str, files), *options, "--source", str(source)]
    command += ["--refine", "off"]  # absent prompts have a mask
    assert main([*command, "--out", str(out), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    interpreter = ZeroShotInterpreter.from_hparams(source, run_opts={"device": "cpu"})
    for path, line in zip(files, lines, strict=True):
        parts = [out / path.stem / slug for slug in ("a-dog-barking", "rain")]
        assert {p.name for p in (out / path.stem).iterdir()} == {
            "a-dog-barking",
            "rain",
            "input.wav",
            "input.flac",
            "page_data.js",
            "recording.json",
        }
        for folder, one in zip(
            parts, interpreter.interpret_file(path, prompts, refine=0), strict=True
        ):
            assert {p.name for p in folder.iterdir()} == SAVED | LISTENED
            assert numbers(folder) == pytest.approx(scalars(one.to_dict()), abs=1e-5)
        values = (
            f"{prompt}: {found['verdict']}, ahead of {100 * found['presence']:.1f} % "
            f"of the reference prompts (similarity {found['similarity']:.3f} -> "
            f"{found['masked_similarity']:.3f})"
            for prompt, found in zip(prompts, map(numbers, parts), strict=True)
        )
        assert line.startswith(f"{path}: {'; '.join(values)} (")
        assert line.endswith(" s)")
        heard = load_audio(out / path.stem / "input.wav", interpreter.sample_rate)
        expected = load_audio(path, interpreter.sample_rate)
        torch.testing.assert_close(heard, expected, atol=1e-5, rtol=0)
    page = (out / "index.html").read_text()
    for link in ("a/rain/explanation.wav", "b/a-dog-barking/explanation.png"):
        assert link in page


def test_single_file_is_a_page_that_can_be_sent(source: Path, tmp_path: Path) -> None:
    """It refers to no other file; the others are written all the same."""
    path, out = recording(tmp_path / "a.wav"), tmp_path / "out"
    command = ["interpret", str(path), "--prompt", "rain", "--source", str(source)]
    command += ["--refine", "off", "--out", str(out)]
    assert main([*command, "--single-file"]) == 0
    page = (out / "index.html").read_text()
    assert 'id="data-1"' in page and "/page_data.js" not in page
    assert 'src="' not in page and 'href="' not in page
    assert (out / "a" / "rain" / "explanation.wav").is_file()
    assert main(command) == 0
    page = (out / "index.html").read_text()
    assert 'id="data-1"' not in page and "a/page_data.js" in page


def test_files_of_one_stem_do_not_overwrite_each_other(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Folders differ, whatever the file system thinks of case, and stay in DIR."""
    names = ["x/a.wav", "y/a.wav", "a-2.wav", "A.wav", "...wav", "index.html.wav"]
    files = [recording(tmp_path / name, i) for i, name in enumerate(names)]
    out = tmp_path / "in" / "out"
    command = ["interpret", *map(str, files), "--prompt", "rain", "--out", str(out)]
    assert main([*command, "--source", str(source)]) == 0
    assert capsys.readouterr().err == ""
    stems = ["a", "a-2", "a-2-2", "A-3", "recording", "index.html-2"]
    assert {path.name for path in out.iterdir()} == {*stems, "index.html"}
    assert list(out.parent.iterdir()) == [out]
    for path, stem in zip(files, stems, strict=True):
        heard = load_audio(out / stem / "input.wav", 16000)
        expected = convert_audio(load_audio(path, 32000), 32000, 16000)
        torch.testing.assert_close(heard, expected, atol=1e-4, rtol=0)


def spelt_in(command: list[str], folder: Path) -> list[str]:
    """Put a folder for each {} of a command line."""
    return [word.format(folder) for word in command]


@pytest.mark.parametrize(
    "command",
    [
        ["input/input.wav", "--out", "."],
        ["{}/input/input.wav", "--out", "other/.."],
        ["input/../input/input.wav", "--out", "{}"],
        ["link.wav", "--out", "linked"],
        ["explanation/dog/explanation.wav", "--out", "."],
        ["residual/dog/residual.wav", "--out", "."],
        ["a/a.wav", "input/input.wav", "input-2.wav", "--out", "."],
        ["input/input.wav", "a/a.wav", "--out", "input"],
        ["Upper/Input.wav", "Input.WAV", "--out", "."],
        ["a.wav", "a/input.wav", "--out", "."],
    ],
)
def test_no_recording_is_ever_replaced(
    command: list[str],
    source: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However it is named and wherever the results go, each is explained and stays."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    outside = recording(tmp_path / "far" / "link" / "input.wav")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "link").symlink_to(outside.parent)
    (tmp_path / "link.wav").symlink_to(outside)
    command = spelt_in(command, tmp_path)
    files = [Path(word) for word in command[: command.index("--out")]]
    for number, path in enumerate(files):
        if not path.exists():
            recording(path, number)
    before = {path: path.read_bytes() for path in (*files, outside)}
    links = {path for path in before if path.is_symlink()}
    options = ["--prompt", "dog", "--source", str(source)]
    assert main(["interpret", *command, *options]) == 0
    assert capsys.readouterr().err == ""
    assert {path: path.read_bytes() for path in before} == before
    assert {path for path in before if path.is_symlink()} == links
    out = Path(command[-1])
    page = (out / "index.html").read_text()
    assert page.count("<h2 ") == len(files)
    assert len({p.parent.parent for p in out.glob("*/dog/explanation.json")}) == len(
        files
    )


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_page_that_is_a_recording_is_one_line_and_status_2(
    link: Callable[[Path, Path], None] | None,
    source: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """The page has one name only: the folder is named, nothing is written."""
    page = path = recording(tmp_path / "a.wav").rename(tmp_path / "index.html")
    if link is not None:
        path = page.rename(tmp_path / "a.wav")
        link(path, page)
    before = path.read_bytes()
    command = ["interpret", str(path), "--prompt", "dog", "--source", str(source)]
    assert main([*command, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"lmaczs: --out {tmp_path}: ")
    assert len(printed.err.splitlines()) == 1
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == {path, page}


def test_empty_mask_is_said_to_be_empty(
    deaf_source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """No similarity of silence: in the terminal, the numbers and on the page."""
    path, out = recording(tmp_path / "a.wav"), tmp_path / "out"
    command = ["interpret", str(path), "--prompt", "siren", "--out", str(out)]
    assert main([*command, "--source", str(deaf_source), "--refine", "off"]) == 0
    found = numbers(out / "a" / "siren")
    printed = capsys.readouterr().out
    assert printed.startswith(f"{path}: siren: {found['verdict']}, ahead of ")
    assert f"(similarity {found['similarity']:.3f}, empty mask) (" in printed
    assert found["verdict"] in ("not heard", "not kept")
    assert found["masked_presence"] is None
    assert found["empty"] is True
    assert found["masked_similarity"] is None
    assert found["residual_similarity"] == pytest.approx(found["similarity"], abs=1e-4)
    page = (out / "index.html").read_text()
    assert "nothing of it in this recording (empty mask)" in page


def test_files_of_others_are_never_replaced(
    source: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a name that is written stays; the same line replaces its results."""
    monkeypatch.chdir(tmp_path)
    path = recording(Path("x/input.wav"))
    other = recording(Path("input/input.wav"), seed=1)
    before = other.read_bytes()
    command = ["interpret", str(path), "--prompt", "rain", "--source", str(source)]
    for _ in range(2):
        assert main([*command, "--out", "."]) == 0
        assert other.read_bytes() == before
        assert {p.name for p in Path(".").iterdir()} == {
            *("x", "input", "input-2", "index.html")
        }
    assert Path("input-2/rain/explanation.json").is_file()


def test_page_of_others_is_never_replaced(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """An index.html that no run wrote is named, and nothing is written."""
    page = tmp_path / "index.html"
    page.write_text("<h1>My sounds</h1>")
    path = str(recording(tmp_path / "a.wav"))
    command = ["interpret", path, "--prompt", "rain", "--source", str(source)]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"lmaczs: --out {tmp_path}: ")
    assert page.read_text() == "<h1>My sounds</h1>"
    assert not (tmp_path / "a").exists()


def test_page_shows_no_private_folders(source: Path, tmp_path: Path) -> None:
    """Recordings go by their names; those of one name by their folders, too."""
    files = [recording(tmp_path / name) for name in ("a.wav", "x/b.wav", "y/b.wav")]
    command = ["interpret", *map(str, files), "--prompt", "rain"]
    out = tmp_path / "out"
    assert main([*command, "--source", str(source), "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    for name in ("a.wav", "x/b.wav", "y/b.wav"):
        assert f">{name}</h2>" in page
    assert str(tmp_path) not in page


def test_file_that_cannot_be_read_is_one_line_and_the_others_go_on(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Not audio, missing, a folder without audio: one line each, status 1."""
    good = [recording(tmp_path / "a.wav"), recording(tmp_path / "z.wav")]
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.wav").write_text("no sound")
    bad = [empty, tmp_path / "text.wav", tmp_path / "missing.wav"]
    command = ["interpret", *map(str, [good[0], *bad, good[1]]), "--prompt", "rain"]
    assert main([*command, "--out", str(out), "--source", str(source)]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == len(bad)
    for line, path in zip(lines, bad, strict=True):
        assert line.startswith(f"lmaczs: {path}: ")
    assert [line.split(": ")[0] for line in printed.out.splitlines()] == [
        str(path) for path in good
    ]
    page = (out / "index.html").read_text()
    assert "a/rain/explanation.wav" in page
    assert "z/rain/explanation.wav" in page
    assert "missing.wav" not in page and page.count("<h2 ") == 2


def test_name_that_no_terminal_can_show_is_complained_about(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Bytes that are not UTF-8 in a file's name do not stop the other files."""
    odd, good = tmp_path / os.fsdecode(b"caf\xe9.wav"), recording(tmp_path / "a.wav")
    command = ["interpret", str(odd), str(good), "--prompt", "rain"]
    command += ["--source", str(source), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"lmaczs: {tmp_path}/caf\\udce9.wav: ")
    assert printed.out.startswith(f"{good}: ")


def test_doubtful_prompts_are_notes_and_those_of_no_text_are_errors(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """On stderr, once a prompt; the page and explanation.json have them, too."""
    paths = [str(recording(tmp_path / name)) for name in ("a.wav", "b.wav")]
    options = ["--source", str(source), "--out", str(tmp_path / "out")]
    assert main(["interpret", *paths, "--prompt", "clock_tick", *options]) == 0
    note = "underscores are read as blanks"
    assert capsys.readouterr().err == f"lmaczs: note: 'clock_tick': {note}\n"
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count(note) == 2
    record = tmp_path / "out" / "a" / "clock-tick" / "explanation.json"
    assert json.loads(record.read_text())["warnings"] == [note]
    for command in (["interpret", "--prompt"], ["classify", "--label"]):
        words = [command[0], paths[0], command[1], "dog\udcff", "--source", str(source)]
        assert main(words) == 2
        assert "'dog\\udcff' is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, jobs",
    [
        *((command, "1") for command in ("interpret", "scan", "classify")),
        pytest.param("classify", "2", marks=pytest.mark.slow),
    ],
)
def test_doubtful_recordings_are_notes_and_strict_refuses_them(
    source: Path, tmp_path: Path, capsys: Capture, command: str, jobs: str
) -> None:
    """A line on stderr for each, once, by whatever process; the others are done."""
    whole, cut = (recording(tmp_path / name) for name in ("whole.wav", "cut.wav"))
    cut.write_bytes(cut.read_bytes()[:-400])
    option = "--label" if command == "classify" else "--prompt"
    words = [command, str(whole), str(cut), option, "dog", "--source", str(source)]
    words += ["--jobs", jobs]
    if command != "classify":
        words += ["--out", str(tmp_path / "out")]
    text = f"{cut}: it is truncated: "
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.err.count("it is truncated") == 1
    assert f"lmaczs: note: {text}" in printed.err
    assert main([*words, "--strict"]) == 1
    printed = capsys.readouterr()
    assert f"lmaczs: {text}" in printed.err and "note" not in printed.err
    assert "whole.wav" in printed.out


@pytest.mark.slow
def test_a_notebooks_backend_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Colab exports one to `!lmaczs`, whose environment need not have it."""
    monkeypatch.setenv("MPLBACKEND", "module://nowhere.backend_inline")
    main(["doctor"])
    assert "ok      matplotlib" in capsys.readouterr().out


def test_prompt_given_twice_counts_once(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A repeated prompt or file gives nothing new."""
    path = str(recording(tmp_path / "a.wav"))
    command = ["interpret", path, path, "--prompt", "rain", "--prompt", "rain"]
    command += ["--out", str(tmp_path / "out"), "--source", str(source)]
    assert main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    folders = {p.name for p in (tmp_path / "out" / "a").iterdir()}
    shared = {"input.wav", "input.flac", "page_data.js", "recording.json"}
    assert folders == {"rain", *shared}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "/no/such/folder"], "--source /no/such/folder: "),
        (["--source", "owner/not-on-this-disk"], "--source owner/not-on-this-disk: "),
        (["--source", "{tmp}"], "--source {tmp}: "),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--device", "toaster"], "--device toaster: "),
        (["--out", "{tmp}/a.wav"], "--out {tmp}/a.wav: "),
    ],
)
def test_wrong_option_is_one_line_and_status_2(
    options: list[str], message: str, source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The option is named, nothing is written."""
    path = recording(tmp_path / "a.wav")
    options = [option.format(tmp=tmp_path) for option in options]
    out = tmp_path / "out"
    command = ["interpret", str(path), "--prompt", "rain", "--out", str(out)]
    assert main([*command, "--source", str(source), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"lmaczs: {message.format(tmp=tmp_path)}")
    assert len(printed.err.splitlines()) == 1
    assert not out.exists() or not list(out.iterdir())


def test_clap_without_all_of_its_weights_is_one_line(
    source: Path, tiny_clap_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A CLAP with a missing weight is not used; the error names the weight."""
    damaged = shutil.copytree(tiny_clap_folder, tmp_path / "clap")
    tensors = load_file(damaged / "model.safetensors")
    del tensors["logit_scale_a"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    model = shutil.copytree(source, tmp_path / "model")
    yaml = (model / "hyperparams.yaml").read_text()
    changed = yaml.replace(str(tiny_clap_folder), str(damaged))
    (model / "hyperparams.yaml").write_text(changed)
    command = ["classify", str(recording(tmp_path / "a.wav")), "--label", "rain"]
    assert main([*command, "--source", str(model)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lmaczs: --source {model}: {damaged} is no whole CLAP")
    assert "logit_scale_a" in line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["interpret", "a.wav", "--prompt", " "], "--prompt: it is empty"),
        (["classify", "a.wav"], "--label"),
        (["export", "run"], "DEST"),
        ([], "COMMAND"),
    ],
)
def test_incomplete_command_line_ends_at_once(
    command: list[str], message: str, capsys: Capture
) -> None:
    """What is missing is named, with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_reader_that_stops_reading_is_no_error(source: Path, tmp_path: Path) -> None:
    """As in `lmaczs classify ... | head -1`: no traceback."""
    path = recording(tmp_path / "a.wav")
    command = ["classify", str(path), "--label", "rain", "--source", str(source)]
    child = subprocess.Popen(
        [sys.executable, "-m", "lmaczs.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    with child:
        assert child.stderr.read() == b""
    assert child.returncode == 1


@pytest.mark.slow
def test_verbose_shows_the_traceback(source: Path, tmp_path: Path) -> None:
    """Whatever the error is, --verbose tells where it happened."""
    words = ["classify", str(tmp_path / "missing.wav"), "--label", "rain", "--verbose"]
    words += ["--source", str(source)]
    line = [sys.executable, "-m", "lmaczs.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"\nlmaczs: {tmp_path / 'missing.wav'}: " in f"\n{done.stderr}"
    assert "Traceback" in done.stderr


def test_bug_is_one_line(
    source: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected is named, and how to see where it happened."""

    def fail(*args: object, **named: object) -> None:
        raise KeyError("no such key")

    monkeypatch.setattr(ZeroShotInterpreter, "classify_file", fail)
    words = ["classify", "a.wav", "--label", "rain", "--source", str(source)]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lmaczs: KeyError: 'no such key'")
    assert "--verbose" in line


def test_commands_with_a_model_take_source_and_device(capsys: Capture) -> None:
    """--source and --device are options of every command that loads a model."""
    for command in ("interpret", "classify", "demo", "doctor"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert "--source" in text and "--device" in text and "--verbose" in text


def test_commands_can_be_run_twice_in_one_process(capsys: Capture) -> None:
    """Loading a command's module leaves the command line as it was."""
    import lmaczs.cli.doctor  # noqa: F401

    for _ in range(2):
        with pytest.raises(SystemExit):
            main(["--help"])
        assert " doctor " in capsys.readouterr().out


# --- classify -----------------------------------------------------------------------


def test_classify_prints_csv_that_reads_back(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """One row per file and label, as classify_file gives it, whatever the names are."""
    labels = ["dog", 'rain, "heavy"', "siren"]
    files = [recording(tmp_path / "a,1.wav"), recording(tmp_path / "b.wav", 1)]
    options = [word for label in labels for word in ("--label", label)]
    command = ["classify", *map(str, files), *options, "--source", str(source)]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    header, *rows = csv.reader(io.StringIO(printed.out))
    assert header == ["file", "label", "similarity", "probability"]
    interpreter = ZeroShotInterpreter.from_hparams(source, run_opts={"device": "cpu"})
    expected = [
        (str(path), *row)
        for path in files
        for row in interpreter.classify_file(path, labels).itertuples(index=False)
    ]
    assert [tuple(row[:2]) for row in rows] == [row[:2] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert [float(cell) for cell in row[2:]] == pytest.approx(wanted[2:], abs=1e-5)


def test_classify_goes_on_after_a_bad_file(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Its complaint is not in the CSV."""
    good, bad = recording(tmp_path / "a.wav"), tmp_path / "missing.wav"
    command = ["classify", str(bad), str(good), "--label", "dog", "--label", "dog"]
    assert main([*command, "--source", str(source)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"lmaczs: {bad}: ")
    assert len(printed.err.splitlines()) == 1
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["file"], row["label"]) for row in rows] == [(str(good), "dog")]


# --- demo, doctor, export -----------------------------------------------------------


@pytest.fixture
def one_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo has its first scene only."""
    monkeypatch.setattr(lmaczs.demo.scenes, "SCENES", SCENES[:1])


@pytest.mark.slow
def test_demo_interprets_every_scene(
    source: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there and what is not, in the table, in folders and on the page."""
    monkeypatch.setattr(lmaczs.interpreter, "default_source", lambda: source)
    assert main(["demo", "--out", str(tmp_path), "--refine", "off"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    rows = printed.out.splitlines()[1:-2]
    wanted = [
        (scene, prompt)
        for scene in SCENES
        for prompt in (*scene.prompts, scene.absent_prompt)
    ]
    for row, (scene, prompt) in zip(rows, wanted, strict=True):
        folder = tmp_path / scene.name / prompt.replace(" ", "-")
        assert {path.name for path in folder.iterdir()} == SAVED | LISTENED
        keys = ("similarity", "masked_similarity", "mask_mean", "mel_area")
        found = numbers(folder)
        cells = [f"{found[key]:.3f}" for key in keys]
        presence = f"{100 * found['presence']:.1f} %"
        expected = [*presence.split(), *cells, *found["verdict"].split()]
        assert row.split()[-len(expected) :] == expected
        assert row.startswith(scene.name)
        assert f" {prompt} " in row
        assert ("(absent)" in row) == (prompt == scene.absent_prompt)
    assert {path.stem for path in (tmp_path / "scenes").iterdir()} == {
        scene.name for scene in SCENES
    }
    assert printed.out.endswith(f"{tmp_path / 'index.html'}\n")


@pytest.mark.slow
def test_demo_replaces_no_sound_but_its_scenes(
    source: Path, tmp_path: Path, one_scene: None
) -> None:
    """A recording that has the name of a scene stays; scenes are written again."""
    scene = SCENES[0].name
    other = recording(tmp_path / "scenes" / f"{scene}.wav")
    before = other.read_bytes()
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path), "--source", str(source)]) == 0
    assert other.read_bytes() == before
    written = {path.stem for path in (tmp_path / "scenes").iterdir()}
    assert written == {scene, f"{scene}-2"}


def test_demo_says_which_masks_are_empty(
    deaf_source: Path, tmp_path: Path, capsys: Capture, one_scene: None
) -> None:
    """The table has a word in place of a similarity."""
    assert main(["demo", "--out", str(tmp_path), "--source", str(deaf_source)]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-2]
    assert len(rows) == len(SCENES[0].prompts) + 1
    assert all(
        re.search(r" empty +0\.000 +0\.000  not (heard|kept)$", row) for row in rows
    )


@pytest.mark.slow
def test_doctor_returns_1_and_prints_the_fix_where_something_is_wrong(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing model is wrong; everything that is not is ok."""
    monkeypatch.setattr(lmaczs.cli.doctor, "default_source", lambda: tmp_path)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("WRONG   default model: ")
    assert lines[-1].startswith("        -> install lmaczs again")
    assert all(line.startswith("ok      ") for line in lines[:-2])


@pytest.mark.slow
def test_doctor_returns_0_where_all_is_well(
    source: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model that works nothing is wrong."""
    monkeypatch.setattr(lmaczs.cli.doctor, "default_source", lambda: source)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok      ") for line in lines)


def test_export_makes_a_source(
    source: Path, tiny_clap: FrozenClap, tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """What export writes is what --source takes."""
    run, dest = tmp_path / "run", tmp_path / "dest"
    write_run_card(
        run / "save",
        clap_source=tiny_clap_folder,
        model_name="tiny",
        domain="mel",
        width=8,
        template=TEMPLATE,
        checkpoint_metric="AI",
        checkpoint_mode="max",
    )
    decoder = MaskDecoder(tiny_clap, domain="mel", width=8)
    Checkpointer(run / "save", {"decoder": decoder}).save_checkpoint({"AI": 1.0})
    assert main(["export", str(run), str(dest)]) == 0
    command = ["interpret", str(recording(tmp_path / "a.wav")), "--prompt", "rain"]
    command += ["--source", str(dest), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert numbers(tmp_path / "out" / "a" / "rain")["model"] == "tiny"
    run = run.rename(tmp_path / "another")
    assert main(["export", str(run), str(dest)]) == 2
    assert main(["export", str(run), str(dest), "--force"]) == 0


def test_export_that_fails_is_one_line_and_status_2(
    tmp_path: Path, capsys: Capture
) -> None:
    """The folder and the fix are named."""
    assert main(["export", str(tmp_path), str(tmp_path / "dest")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"lmaczs: {tmp_path}: no training run")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.slow
def test_a_long_recording_is_explained_block_by_block(
    source: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Its files are those of a short one, and it is on the page like that."""
    noise = torch.rand(301 * 8000, generator=torch.manual_seed(0)) - 0.5
    long = save_audio(tmp_path / "long.wav", noise, 8000)
    short = recording(tmp_path / "short.wav")
    out = tmp_path / "out"
    words = ["interpret", str(long), str(short), "--prompt", "dog", "--prompt", "rain"]
    words += ["--source", str(source), "--refine", "off", "--out", str(out)]
    assert main(words) == 0
    printed, noted = capsys.readouterr()
    assert printed.startswith(f"{long}: dog: ") and "; rain: " in printed
    assert "%" not in noted
    for name in ("dog", "rain"):
        names = {one.name for one in (out / "long" / name).iterdir()}
        assert names - {"explanation.flac", "residual.flac"} == SAVED
    page = (out / "index.html").read_text()
    assert "short.wav" in page and "long.wav" in page
    data = json.loads(read_page_data(out / "long" / "page_data.js"))
    assert data["seconds"] == pytest.approx(301) and data["columns"] > 1000
    wav = load_audio(out / "long" / "input.wav", data["sampleRate"])
    assert len(wav) == 301 * data["sampleRate"]
    assert set(data["prompts"]) == {"dog", "rain"}
    assert main(words) == 0
    assert capsys.readouterr().out.count("(done before") == 2
