"""`lmaczs search`: what is printed, explained and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from lmaczs.audio.io import save_audio
from lmaczs.cli import main
from lmaczs.demo.scenes import render

RATE = 32000
NAMES = ("siren", "dog", "rain", "church_bells")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of each name."""
    folder = tmp_path_factory.mktemp("sounds")
    for name in NAMES:
        save_audio(folder / f"{name}.wav", render(name, RATE, 3.0, 0).float(), RATE)
    return folder


@pytest.fixture(scope="module")
def corpus(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of them."""
    out = tmp_path_factory.mktemp("corpus")
    words = ["corpus", str(sounds), "--prompt", "dog", "--refine", "off", "--quiet"]
    assert main([*words, "--device", "cpu", "--out", str(out)]) == 0
    return out


def run(corpus: Path, *words: str | Path) -> int:
    """Search on the CPU."""
    return main(["search", str(corpus), *map(str, words), "--device", "cpu"])


def test_the_nearest_come_first(corpus: Path, sounds: Path, capsys: Capture) -> None:
    """For each text, with similarity, presence and place."""
    assert run(corpus, "a dog barking", "siren", "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == ["a dog barking:", "siren:"] and len(lines) == 6
    assert lines[1].endswith(f"00:00.0-00:03.0  {sounds / 'dog.wav'}")
    assert lines[4].endswith(f"00:00.0-00:03.0  {sounds / 'siren.wav'}")
    values = [float(line.split()[0]) for line in lines[1:3]]
    assert values == sorted(values, reverse=True) and "%" in lines[1]


def test_rows_are_for_programs(corpus: Path, capsys: Capture) -> None:
    """Recordings search as texts do; the same sound is nearest to itself."""
    sound = json.loads((corpus / "corpus.json").read_text())
    assert sound["clips"] == len(NAMES)
    folder = corpus.parent
    like = save_audio(folder / "x.wav", render("rain", RATE, 3.0, 0).float(), RATE)
    assert run(corpus, "--audio", like, "--format", "jsonl", "--top", "9") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["file"].endswith("rain.wav") and rows[0]["prompt"] == "x.wav"
    assert rows[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert all(0 <= row["presence"] <= 1 for row in rows)


def test_hits_are_explained_on_a_page(
    corpus: Path, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The first ones, of texts and recordings; one that is gone is a line on stderr."""
    like = sounds / "siren.wav"
    words = ["dog", "--audio", like, "--explain", "1", "--top", "2"]
    out = tmp_path / "page"
    assert run(corpus, *words, "--refine", "off", "--out", out) == 0
    assert f"2 explanations: {out / 'index.html'}" in capsys.readouterr().err
    records = [json.loads(one.read_text()) for one in out.rglob("explanation.json")]
    found = {one["prompt"]: one["recording"] for one in records}
    assert found == {"dog": str(sounds / "dog.wav"), "siren.wav": str(like)}
    page = (out / "index.html").read_text()
    assert "1. dog.wav, 00:00.0 to 00:03.0" in page
    moved = (sounds / "dog.wav").rename(sounds / "moved.wav")
    try:
        assert run(corpus, *words, "--refine", "off", "--out", out, "--quiet") == 1
    finally:
        moved.rename(sounds / "dog.wav")
    assert "dog.wav" in capsys.readouterr().err


def test_explained_is_what_was_found(tmp_path: Path, capsys: Capture) -> None:
    """The corpus's channel of the recording, for each of prompts of one slug."""
    sounds = [render(name, RATE, 3.0, 0).float() for name in ("siren", "dog")]
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/two.wav", torch.stack(sounds, 1).numpy(), RATE)
    words = ["corpus", tmp_path / "in", "--prompt", "dog", "--channel", "2", "--quiet"]
    out, page = tmp_path / "corpus", tmp_path / "page"
    options = ["--refine", "off", "--device", "cpu", "--out"]
    assert main([*map(str, words), *options, str(out)]) == 0
    wanted = [
        "a dog",
        "a-dog",
        "--explain",
        "1",
        "--refine",
        "off",
        "--format",
        "jsonl",
    ]
    assert run(out, *wanted, "--out", page) == 0
    rows = map(json.loads, capsys.readouterr().out.splitlines())
    found = {row["prompt"]: row["similarity"] for row in rows}
    records = [json.loads(one.read_text()) for one in page.rglob("explanation.json")]
    explained = {one["prompt"]: one["similarity"] for one in records}
    assert explained == pytest.approx(found, abs=1e-4) and len(found) == 2
    assert {one["channel"] for one in records} == {2}


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "give what to search for"),
        (["dog", "--audio", "none.wav"], "none.wav"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    corpus: Path, capsys: Capture, words: list[str], reason: str
) -> None:
    """Status 2, one sentence."""
    assert run(corpus, *words) == 2
    assert reason in capsys.readouterr().err


def test_another_corpus_is_refused(
    corpus: Path, tmp_path: Path, capsys: Capture, tiny_clap_folder: Path
) -> None:
    """None, and one of another model."""
    assert run(tmp_path, "dog") == 2
    assert "holds no corpus; `lmaczs corpus` writes one" in capsys.readouterr().err
    assert run(corpus, "dog", "--clap", tiny_clap_folder) == 2
    assert "whose weights are others: give --source" in capsys.readouterr().err
