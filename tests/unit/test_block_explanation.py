"""block_explanation.py: what is written block by block is that of the whole."""

from __future__ import annotations

import base64
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor, nn

from lmaczs import AudioError, ZeroShotInterpreter
from lmaczs.audio.blocks import AudioBlocks
from lmaczs.audio.io import load_audio, save_audio
from lmaczs.block_explanation import BlockOptions, explain_to
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.demo.scenes import render
from lmaczs.explanation import Interpretation, explain
from lmaczs.long_recording import Query
from lmaczs.report.figures import title_of
from lmaczs.report.page_data import read_page_data
from lmaczs.report.picture import save_png
from lmaczs.report.recording import save_recording
from lmaczs.utils.result_folder import file_sha256

RATE, SIZE, HOP = 32000, 160000, 640
PROMPTS = ("a dog barking", "heavy rain")
FILES = ("explanation.wav", "residual.wav")


@pytest.fixture(scope="module")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


def noise(samples: int) -> Tensor:
    """Noise, the same in each test."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(samples, generator=generator)


def query_of(clap: FrozenClap, decoder: MaskDecoder) -> Query:
    """Two prompts, and five reference prompts."""
    text = clap.encode_text(PROMPTS)
    generator = torch.Generator().manual_seed(1)
    others = torch.randn(5, text.shape[1], generator=generator)
    references = nn.functional.normalize(others, dim=1)
    return Query(clap, decoder, PROMPTS, text, references, "tiny", ((), ()))


def random_decoder(clap: FrozenClap) -> MaskDecoder:
    """Masks that are far from constant."""
    torch.manual_seed(2)
    decoder = MaskDecoder(clap, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(20)
        decoder.draw.bias.zero_()
    return decoder.eval()


def assert_same(folder: Path, whole: Interpretation) -> None:
    """Sounds, numbers and picture of a folder are those of an interpretation."""
    for name, sound in zip(FILES, (whole.waveform, whole.residual), strict=True):
        found = load_audio(folder / name, RATE)
        torch.testing.assert_close(found, sound, atol=1e-5, rtol=0)
    record = json.loads((folder / "explanation.json").read_text())
    expected = whole.to_dict()
    assert set(record) == set(expected)
    assert record["recording_sha256"] == file_sha256(record["recording"])
    expected |= {name: record[name] for name in ("recording", "recording_sha256")}
    found, events = record.pop("events"), expected.pop("events")
    assert len(found) == len(events)
    for one, other in zip(found, events, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for name, value in expected.items():
        close = isinstance(value, float)
        assert record[name] == (pytest.approx(value, abs=1e-5) if close else value)
    assert (folder / "explanation.png").stat().st_size > 10_000


@pytest.mark.parametrize("samples", [1600, SIZE, SIZE + 1, 400_777, 592_000])
def test_every_length_is_explained_as_the_whole(
    samples: int, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """With the masks of all windows, whatever the length."""
    query = query_of(tiny_clap, random_decoder(tiny_clap))
    path = save_audio(tmp_path / "a.wav", noise(samples), RATE)
    folders = [tmp_path / "dog", tmp_path / "rain"]
    options = BlockOptions(all_windows=True, at_once=3)
    explain_to(folders, query, AudioBlocks(path, RATE), options)
    whole = explain(
        tiny_clap,
        query.decoder,
        load_audio(path, RATE),
        PROMPTS,
        query.text,
        model="tiny",
        references=query.references,
    )
    assert whole[0].warnings == ()
    for folder, one in zip(folders, whole, strict=True):
        assert_same(folder, one)


def test_a_recording_is_interpreted_as_a_file_is(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Refined, with a sound that begins late, and with an absent prompt."""
    wav = 0.01 * noise(13 * RATE)
    sound = render("dog", RATE, 5.0, seed=0).float()
    wav[6 * RATE :][: len(sound)] += sound
    path = save_audio(tmp_path / "a.wav", wav, RATE)
    prompts = ["dog", "church bells"]
    whole = interpreter.interpret_file(path, prompts, refine=2)
    paths = interpreter.interpret_to(tmp_path / "out", path, prompts, refine=2)
    assert isinstance(paths, list)
    assert paths[0]["explanation.wav"] == tmp_path / "out/dog/explanation.wav"
    for found, one in zip(paths, whole, strict=True):
        assert_same(found["explanation.json"].parent, one)
    assert whole[1].empty and not whole[0].empty
    assert len(whole[0].events) == 1 and whole[1].events.empty
    assert 5.5 < whole[0].events.start[0] < whole[0].events.stop[0] < 11.5


@pytest.mark.slow
def test_contrasts_and_recordings_are_as_in_a_file(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Margins and their warnings; recordings as prompts, beside prompts in words."""
    wav = 0.01 * noise(12 * RATE)
    for name, start in (("dog", 1), ("siren", 6)):
        wav[start * RATE :][: 5 * RATE] += render(name, RATE, 5.0, seed=0).float()
    path = save_audio(tmp_path / "a.wav", wav, RATE)
    options = {"contrast": ["siren", "clock_tick"], "refine": 1}
    whole = interpreter.interpret_file(path, ["dog", "siren"], **options)
    paths = interpreter.interpret_to(
        tmp_path / "out", path, ["dog", "siren"], **options
    )
    for found, one in zip(paths, whole, strict=True):
        assert one.margin is not None and one.contrast and one.warnings
        assert_same(found["explanation.json"].parent, one)
    like = save_audio(tmp_path / "b.wav", render("dog", RATE, 5.0, seed=1), RATE)
    single = interpreter.interpret_file(path, prompt_audio=like, refine=0)
    one = interpreter.interpret_to(tmp_path / "like", path, prompt_audio=like, refine=0)
    assert isinstance(one, dict) and single.presence >= 0.95
    record = json.loads(one["explanation.json"].read_text())
    assert record["prompt"] == "b.wav" and record["prompt_audio"] == str(like)
    assert record["presence"] == single.presence
    assert record["masked_presence"] is not None
    both = interpreter.interpret_to(
        tmp_path, path, "siren", prompt_audio=like, refine=0
    )
    assert [paths["explanation.json"].parent.name for paths in both] == [
        "siren",
        "b-wav",
    ]
    again = json.loads(both[1]["explanation.json"].read_text())
    assert again["masked_similarity"] == pytest.approx(record["masked_similarity"])


def test_windows_without_the_prompt_keep_nothing(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Unless all windows are decoded; the sum is the input in both cases."""
    path = save_audio(tmp_path / "a.wav", noise(7 * RATE), RATE)
    for all_windows in (False, True):
        paths = interpreter.interpret_to(
            tmp_path, path, "dog", False, 0, all_windows=all_windows
        )
        assert isinstance(paths, dict)
        kept, left = (load_audio(paths[name], RATE) for name in FILES)
        torch.testing.assert_close(kept + left, load_audio(path, RATE))
        record = json.loads(paths["explanation.json"].read_text())
        assert record["verdict"] is None and record["masked_similarity"] is None
        assert all_windows or not kept.any()


def test_no_step_at_the_edge_of_a_window(tiny_clap: FrozenClap, tmp_path: Path) -> None:
    """Where all masks are one half, so is the explanation: cross-fades sum to one."""
    decoder = MaskDecoder(tiny_clap, width=8)
    nn.init.zeros_(decoder.draw.weight)
    decoder.draw.bias.data = torch.tensor([0.3, 0.5]).logit()
    query = query_of(tiny_clap, decoder.eval())
    path = save_audio(tmp_path / "a.wav", noise(3 * SIZE + 5000), RATE)
    folders = [tmp_path / "dog", tmp_path / "rain"]
    options = BlockOptions(verify=False, all_windows=True)
    explain_to(folders, query, AudioBlocks(path, RATE), options)
    whole = explain(tiny_clap, decoder, noise(SIZE), PROMPTS, query.text, verify=False)
    level = float(whole[0].mask[whole[0].mask > 0].mean())
    assert whole[0].mask.max() == pytest.approx(level, abs=1e-5)
    kept = load_audio(folders[0] / "explanation.wav", RATE)
    spectrum = tiny_clap.front_end.stft(load_audio(path, RATE))
    shared = tiny_clap.front_end.visible[:, None] * level * spectrum
    expected = tiny_clap.front_end.istft(shared, len(kept))
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)


def test_a_page_shows_what_was_written(tiny_clap: FrozenClap, tmp_path: Path) -> None:
    """The copy of the input is the input; picture and masks are those of the whole."""
    query = query_of(tiny_clap, random_decoder(tiny_clap))
    path = save_audio(tmp_path / "a.wav", noise(400 * HOP), RATE)
    home = tmp_path / "a"
    options = BlockOptions(verify=False, all_windows=True, page_folder=home)
    folders = [home / "dog", home / "rain"]
    explain_to(folders, query, AudioBlocks(path, RATE), options)
    wav = load_audio(path, RATE)
    torch.testing.assert_close(load_audio(home / "input.wav", RATE), wav)
    found = json.loads(read_page_data(home / "page_data.js"))
    whole = explain(tiny_clap, query.decoder, wav, PROMPTS, query.text, False)
    save_recording(tmp_path / "b", whole)
    expected = json.loads(read_page_data(tmp_path / "b" / "page_data.js"))
    assert (found["rows"], found["columns"]) == (expected["rows"], expected["columns"])
    pairs = [(found["picture"], expected["picture"])]
    for name, other in (("dog", "a-dog-barking"), ("rain", "heavy-rain")):
        one, two = found["prompts"][name], expected["prompts"][other]
        pairs.append((one["mask"], two["mask"]))
        assert one["where"] == pytest.approx(two["where"], abs=20)
        assert (home / name / "explanation.flac").is_file()
    for one, other in pairs:
        first, second = (
            np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
            for text in (one, other)
        )
        assert np.abs(first.astype(int) - second).max() <= 1


def test_a_recording_that_breaks_off_leaves_nothing(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """What stood there is still there; no half-written file is."""
    wav = noise(3 * SIZE)
    wav[-10] = math.nan
    soundfile.write(tmp_path / "a.wav", wav.numpy(), RATE, subtype="FLOAT")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "explanation.wav").write_text("earlier")
    query = query_of(tiny_clap, random_decoder(tiny_clap))
    audio = AudioBlocks(tmp_path / "a.wav", RATE)
    with pytest.raises(AudioError, match="NaN"):
        explain_to([folder], query, audio, BlockOptions())
    assert [one.name for one in folder.iterdir()] == ["explanation.wav"]
    assert (folder / "explanation.wav").read_text() == "earlier"


def test_the_picture_is_that_of_the_whole(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """Twenty seconds, whose columns are averaged otherwise: hardly a pixel differs."""
    query = query_of(tiny_clap, random_decoder(tiny_clap))
    path = save_audio(tmp_path / "a.wav", noise(999 * HOP), RATE)
    folders = [tmp_path / "dog", tmp_path / "rain"]
    options = BlockOptions(verify=False, all_windows=True)
    records = explain_to(folders, query, AudioBlocks(path, RATE), options)
    wav = load_audio(path, RATE)
    one = explain(tiny_clap, query.decoder, wav, PROMPTS, query.text, False)[0]
    title, seconds = title_of(records[0]), len(wav) / RATE
    save_png(tmp_path / "b.png", one.stft, one.mask, RATE, seconds, title)
    names = folders[0] / "explanation.png", tmp_path / "b.png"
    first, second = (np.asarray(Image.open(name).convert("RGB"), int) for name in names)
    assert first.shape == second.shape
    assert np.abs(first - second).mean() < 1
