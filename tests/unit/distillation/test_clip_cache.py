"""Clips to train on: which, their features, and the cache of those."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from lmaczs.audio.effects import change_speed
from lmaczs.audio.io import AudioError, load_audio
from lmaczs.audio.resampling import resample
from lmaczs.data.manifest import ManifestError
from lmaczs.data.segments import Segment
from lmaczs.distillation.clip_cache import (
    ClipFeatures,
    clip_features,
    clip_table,
    label_weights,
    load_clips,
    unlabelled_clips,
)
from lmaczs.frontend import FrontEnd
from lmaczs.utils.errors import InputError

RATE = 32000
SPEEDS = [Fraction(1), Fraction(4, 5), Fraction(5, 4)]


def make_extractor(**changes: Any) -> ClapFeatureExtractor:
    """Front end of a second of sound: 26 frames."""
    numbers = {
        "feature_size": 64,
        "sampling_rate": RATE,
        "hop_length": 1280,
        "fft_window_size": 4096,
        "max_length_s": 1,
        "frequency_min": 50,
        "truncation": "rand_trunc",
    }
    return ClapFeatureExtractor(**{**numbers, **changes})


class CountingTagger:
    """A tagger that scores the level of each half and counts its calls."""

    class_names = ["loud", "quiet"]

    def __init__(self, fingerprint: str = "a") -> None:
        self.fingerprint = fingerprint
        self.calls = 0

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [2, 2] of a waveform at 16 kHz, and no embeddings."""
        self.calls += 1
        level = wav[:16000].view(2, 8000).abs().mean(1)
        return torch.stack([level, 1 - level], 1), torch.zeros(2, 0)


def write(path: Path, seconds: float = 0.5, hertz: float = 500.0) -> Path:
    """Write a sine that becomes louder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    wav = 0.5 * np.sin(2 * np.pi * hertz * time) * (0.2 + time / seconds)
    soundfile.write(path, wav, RATE, subtype="FLOAT")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with the recordings a.wav, b.wav and c.wav."""
    for i, name in enumerate("abc"):
        write(tmp_path / f"{name}.wav", 0.5, 500.0 * (i + 1))
    return tmp_path


def write_manifest(folder: Path, *lines: str) -> str:
    """Write a manifest beside the recordings."""
    (folder / "clips.csv").write_text("\n".join(lines))
    return str(folder / "clips.csv")


def write_esc50(folder: Path) -> str:
    """Lay recordings of two labels out as ESC-50."""
    rows = [("1-1-A-0.wav", 1, "sea_waves", True), ("4-2-A-1.wav", 4, "dog", True)]
    for name, *_ in rows:
        write(folder / "audio" / name)
    table = pd.DataFrame(rows, columns=["filename", "fold", "category", "esc10"])
    (folder / "meta").mkdir()
    table.assign(src_file=[1, 2]).to_csv(folder / "meta" / "esc50.csv", index=False)
    return str(folder)


# --- one clip -----------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.7])
def test_clip_features_are_the_extractors(tmp_path: Path, seconds: float) -> None:
    """Of each speed, in dB, what the checkpoint's extractor gives for that sound."""
    extractor = make_extractor()
    front_end = FrontEnd(extractor)
    path = write(tmp_path / "a.wav", seconds)
    mel, scores = clip_features(load_audio(path, RATE), front_end, SPEEDS)
    assert mel.shape == (3, 64, 26)
    assert scores.shape == (3, 1, 0)
    for speed, one in zip(SPEEDS, mel, strict=True):
        wav = change_speed(load_audio(path, RATE), speed)
        if len(wav) > RATE:  # a longer clip gives its middle; HF would draw a stretch
            surplus = len(wav) - RATE
            wav = wav[surplus // 2 : surplus // 2 + RATE]
        features = extractor(wav.numpy(), sampling_rate=RATE, return_tensors="pt")
        decibels = 10 * one.clamp_min(1e-10).log10()
        expected = features.input_features[0, 0].T
        torch.testing.assert_close(decibels, expected, atol=1e-3, rtol=0)


def test_the_tagger_scores_what_the_encoder_reads(tmp_path: Path) -> None:
    """Each speed, repeated up to the encoder's length, at the tagger's rate."""
    path = write(tmp_path / "a.wav", 0.4)
    front_end, tagger = FrontEnd(make_extractor()), CountingTagger()
    _, scores = clip_features(load_audio(path, RATE), front_end, SPEEDS, tagger)
    assert scores.shape == (3, 2, 2)
    for speed, one in zip(SPEEDS, scores, strict=True):
        wav = change_speed(load_audio(path, RATE), speed)
        fitted = torch.zeros(RATE)
        copies = RATE // len(wav)
        fitted[: copies * len(wav)] = wav.repeat(copies)
        expected, _ = tagger.forward(resample(fitted, 2, 1))
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)


# --- kept features ------------------------------------------------------------------


class Reader:
    """Loads clips through one cache; tells whether they were computed."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "new" / "clips.pt"
        self.tagger = CountingTagger()

    def read(
        self, table: pd.DataFrame, speeds: Sequence[float] = (1, 0.8), **numbers: Any
    ) -> tuple[ClipFeatures, bool]:
        """Features, and whether the tagger was called for them."""
        before = self.tagger.calls
        front_end = FrontEnd(make_extractor(**numbers))
        found = load_clips(table, front_end, speeds, self.tagger, self.cache)
        return found, self.tagger.calls > before


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Reader whose cache does not exist yet."""
    return Reader(tmp_path)


@pytest.fixture
def table(folder: Path) -> pd.DataFrame:
    """The three recordings."""
    paths = [str(folder / f"{name}.wav") for name in "abc"]
    return pd.DataFrame({"path": paths}).assign(label="", text="", split="train")


def test_features_are_computed_once(reader: Reader, table: pd.DataFrame) -> None:
    """The second time they come from the cache, the same as clip by clip."""
    first, computed = reader.read(table)
    assert computed
    assert [path.name for path in reader.cache.parent.iterdir()] == ["clips.pt"]
    again, computed = reader.read(table)
    assert not computed
    assert torch.equal(again.mel, first.mel)
    assert torch.equal(again.scores, first.scores)
    front_end = FrontEnd(make_extractor())
    for row, path in enumerate(table.path):
        wav = load_audio(path, RATE)
        mel, scores = clip_features(wav, front_end, SPEEDS[:2], CountingTagger())
        assert torch.equal(first.mel[row], mel)
        assert torch.equal(first.scores[row], scores.half().float())


def test_a_changed_recording_is_read_again(
    reader: Reader, table: pd.DataFrame, folder: Path
) -> None:
    """Another sound under the same name and of the same size is noticed."""
    first, _ = reader.read(table)
    state = (folder / "b.wav").stat()
    write(folder / "b.wav", 0.5, 3000.0)
    os.utime(folder / "b.wav", ns=(state.st_atime_ns, state.st_mtime_ns + 10))
    changed, computed = reader.read(table)
    assert computed
    assert torch.equal(changed.mel[[0, 2]], first.mel[[0, 2]])
    assert not torch.allclose(changed.mel[1], first.mel[1])
    assert not reader.read(table)[1]


def test_recordings_are_known_by_their_content(
    reader: Reader, table: pd.DataFrame, folder: Path
) -> None:
    """A copy elsewhere serves; another sound of the same size and time does not."""
    first, _ = reader.read(table)
    moved = folder / "moved"
    moved.mkdir()
    for name in "abc":
        shutil.copy2(folder / f"{name}.wav", moved)
    copies = table.assign(path=table.path.str.replace(str(folder), str(moved)))
    assert not reader.read(copies)[1]
    state = (moved / "b.wav").stat()
    write(moved / "b.wav", 0.5, 3000.0)
    os.utime(moved / "b.wav", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (moved / "b.wav").stat().st_size == state.st_size
    changed, computed = reader.read(copies)
    assert computed
    assert not torch.allclose(changed.mel[1], first.mel[1])
    noted = copies.assign(sha256=["a", "b", "c"])  # what a recipe found already
    assert reader.read(noted)[1]
    assert not reader.read(noted)[1]


def test_other_options_replace_the_cache(reader: Reader, table: pd.DataFrame) -> None:
    """Clips, their order and cuts, speeds, front end, tagger: each one counts."""
    reader.read(table)
    assert reader.read(table[:2])[0].mel.shape == (2, 2, 64, 26)
    assert reader.read(table[::-1])[1]
    whole, _ = reader.read(table)
    cut, computed = reader.read(table.assign(start=0.25, stop=[0.3, 0.4, None]))
    assert computed
    assert not torch.allclose(cut.mel, whole.mel)
    assert reader.read(table, [1])[0].mel.shape == (3, 1, 64, 26)
    assert reader.read(table, [1, 1.25])[1]
    for numbers in (
        {"max_length_s": 2},
        {"hop_length": 640},
        {"fft_window_size": 2560},
        {"frequency_max": 8000},
        {"feature_size": 32},
        {"padding": "pad"},
    ):
        found, computed = reader.read(table, **numbers)
        assert computed, numbers
        assert found.seconds == numbers.get("max_length_s", 1)
        assert not reader.read(table, **numbers)[1], numbers
    reader.tagger = CountingTagger("another")
    assert reader.read(table, padding="pad")[1]


def test_without_a_tagger(reader: Reader, table: pd.DataFrame) -> None:
    """Without a tagger there are no scores, in the cache neither."""
    front_end, table = FrontEnd(make_extractor()), table.assign(label="dog")
    for _ in range(2):
        found = load_clips(table, front_end, [1, 0.8], None, reader.cache)
        assert found.scores.shape == (3, 2, 1, 0)
        assert found.class_names == []
    assert reader.read(table)[1]


def test_the_first_speed_is_the_clips_own(reader: Reader, table: pd.DataFrame) -> None:
    """Clips are validated and tested at it."""
    with pytest.raises(InputError, match="speeds must begin with 1"):
        reader.read(table, [0.8, 1])


def test_a_bad_recording_is_named_and_nothing_kept(
    reader: Reader, table: pd.DataFrame, folder: Path
) -> None:
    """A recording that cannot be read is named; no half of a cache is left."""
    (folder / "b.wav").write_text("no audio")
    with pytest.raises(AudioError, match=r"b\.wav"):
        reader.read(table)
    assert not reader.cache.exists()


# --- which clips --------------------------------------------------------------------


def test_label_weights_are_a_loop() -> None:
    """Size of the label to the power of minus the balance."""
    target = torch.tensor([4, 4, 4, 4, 1, 2, 2])
    for balance in (0.0, 0.5, 1.0):
        sizes = [int((target == label).sum()) for label in target]
        expected = [size**-balance for size in sizes]
        assert label_weights(target, balance).tolist() == pytest.approx(expected)


def test_rows_of_a_split() -> None:
    """Rows are those of the table, in its order."""
    table = pd.DataFrame({"split": ["train", "test", "train", "train"]})
    nothing = torch.zeros(4, 1, 64, 0)
    bank = ClipFeatures(table, nothing, nothing, [], [], nothing, [], 5.0)
    assert bank.rows("train").tolist() == [0, 2, 3]
    assert bank.rows("test").tolist() == [1]
    assert bank.rows("valid").tolist() == []


@pytest.mark.parametrize("both", [False, True])
def test_one_data_set_is_needed(both: bool) -> None:
    """Neither and both are refused, before anything is read."""
    given = {"data_folder": "nowhere", "manifest": "none.csv"} if both else {}
    with pytest.raises(InputError, match="give either --data_folder=FOLDER or --man"):
        clip_table(**given)


def test_esc50_is_split_as_the_yaml_says(tmp_path: Path) -> None:
    """The split is an option of the data set; no clip has a caption."""
    data = write_esc50(tmp_path / "esc50")
    folds = {"train_folds": [4], "valid_folds": [], "test_folds": [1]}
    table = clip_table(data_folder=data, split="folds", **folds)
    assert table.label.tolist() == ["sea waves", "dog"]
    assert table.split.tolist() == ["test", "train"]
    assert (table.text == "").all()


def test_a_set_without_training_clips(folder: Path) -> None:
    """The set is named that has nothing to train on."""
    manifest = write_manifest(folder, "path,label,split", "a.wav,dog,test")
    with pytest.raises(InputError, match=r"clips\.csv holds no clip whose split is tr"):
        clip_table(manifest=manifest)


def test_a_manifest_with_mistakes(folder: Path) -> None:
    """All of them are in the message."""
    manifest = write_manifest(folder, "path,label", "x.wav,dog", "a.wav,")
    with pytest.raises(ManifestError, match="2 mistakes"):
        clip_table(manifest=manifest)


def test_unlabelled_clips(tmp_path: Path) -> None:
    """Every recording below the folder, whatever its case, and nothing else."""
    for name in ("b.wav", "x/y/a.FLAC", "x/c.mp3", "notes.txt", "x/wav"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).touch()
    table = unlabelled_clips(tmp_path / "all")
    assert table.id.tolist() == ["b.wav", "x/c.mp3", "x/y/a.FLAC"]
    paths = [str((tmp_path / "all" / name).resolve()) for name in table.id]
    assert table.path.tolist() == paths
    assert (table.label + table.text == "").all()
    assert (table.split == "train").all()


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    """The folder and the kinds of files that are looked for are named."""
    with pytest.raises(FileNotFoundError, match=r"holds no recording \(\.wav, \.flac"):
        unlabelled_clips(tmp_path)


def test_unlabelled_clips_need_a_tagger(folder: Path) -> None:
    """Without one nothing can be learnt from them."""
    table = unlabelled_clips(folder)
    front_end = FrontEnd(make_extractor())
    with pytest.raises(InputError, match="needs a tagger: give --tagger_model"):
        load_clips(table, front_end, [1], None, folder / "clips.pt")


def test_unlabelled_clips_come_after_the_others(folder: Path) -> None:
    """One table; columns that only the manifest has are missing in their rows."""
    manifest = write_manifest(folder, "path,label,take", "a.wav,dog,7")
    write(folder / "more" / "d.wav")
    table = clip_table(folder / "more", manifest=manifest)
    assert table.id.tolist() == ["a", "d.wav"]
    assert table.index.tolist() == [0, 1]
    assert table.label.tolist() == ["dog", ""]
    assert table["take"].isna().tolist() == [False, True]


def test_load_clips(folder: Path) -> None:
    """Labels and captions in one sorted list, features as of each clip and speed."""
    manifest = write_manifest(
        folder,
        "path,text,label,split,stop",
        "a.wav,,rain,train,",
        "b.wav,A dog barks.,,train,",
        "c.wav,,dog,valid,0.25",
        "a.wav,,dog,test,0.2",
    )
    front_end, cache = FrontEnd(make_extractor()), folder / "out" / "clips.pt"
    clips = load_clips(clip_table(manifest=manifest), front_end, [1, 0.8], None, cache)
    assert clips.labels == ["A dog barks.", "dog", "rain"]
    assert clips.captions == [True, False, False]
    assert clips.target.tolist() == [2, 0, 1, 1]
    assert clips.table.split.tolist() == ["train", "train", "valid", "test"]
    assert clips.scores.shape == (4, 2, 1, 0)
    for row, (name, stop) in enumerate([("a", 9), ("b", 9), ("c", 0.25), ("a", 0.2)]):
        wav = Segment(str(folder / f"{name}.wav"), None, stop).load(RATE)
        expected, _ = clip_features(wav, front_end, [Fraction(1), Fraction(4, 5)])
        assert torch.equal(clips.mel[row], expected)
    assert cache.is_file()


def test_unlabelled_clips_have_no_target(folder: Path) -> None:
    """Their target is -1, no label is made of them, and the tagger scores them."""
    manifest = write_manifest(folder, "path,label", "a.wav,rain", "b.wav,dog")
    write(folder / "more" / "d.wav")
    table = clip_table(folder / "more", manifest=manifest)
    front_end, cache = FrontEnd(make_extractor()), folder / "clips.pt"
    clips = load_clips(table, front_end, [1, 0.8], CountingTagger(), cache)
    assert clips.labels == ["dog", "rain"]
    assert clips.target.tolist() == [1, 0, -1]
    assert clips.class_names == ["loud", "quiet"]
    assert clips.scores.shape == (3, 2, 2, 2)
    assert (clips.scores[..., 0] > 0).all()
