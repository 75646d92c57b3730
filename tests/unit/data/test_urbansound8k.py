"""UrbanSound8K as a table, its folds, and the mixed formats of its recordings."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from lmaczs.audio.io import load_audio
from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.prompted_dataset import Mixing, PromptedDataset
from lmaczs.data.splits import SPLITS
from lmaczs.data.urbansound8k import (
    PAGE,
    URBANSOUND8K_LABELS,
    read_urbansound8k,
    urbansound8k_rows,
)
from lmaczs.frontend import FrontEnd

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"
CLASSES = {"dog_bark": 3, "gun_shot": 6}
# rate in Hz, channels, sample format, seconds
STORED_AS = [
    (8000, 1, "PCM_U8", 4.0),
    (96000, 2, "PCM_24", 1.0),
    (44100, 1, "FLOAT", 4.0),
    (44100, 1, "PCM_16", 0.05),
    (8000, 2, "PCM_16", 0.05),
    (192000, 1, "PCM_32", 0.5),
    (22050, 1, "IMA_ADPCM", 1.0),
    (11024, 1, "MS_ADPCM", 1.0),
]


def write_urbansound8k(folder: Path, folds: Sequence[int] = range(1, 11)) -> Path:
    """Write the released layout: two clips of each class in each fold, empty files."""
    (folder / "metadata").mkdir(parents=True)
    lines, source = [HEADER], 7000
    for fold in folds:
        (folder / f"audio/fold{fold}").mkdir(parents=True)
        for name, number in CLASSES.items():
            source += 1
            for take in (0, 1):
                wav = f"{source}-{number}-0-{take}.wav"
                (folder / f"audio/fold{fold}" / wav).touch()
                lines.append(
                    f"{wav},{source},{take}.5,{take + 4}.5,1,{fold},{number},{name}"
                )
    (folder / "metadata/UrbanSound8K.csv").write_text("\n".join([*lines, ""]))
    return folder


@pytest.fixture
def urbansound8k(tmp_path: Path) -> Path:
    """A folder in UrbanSound8K's layout, with all ten folds."""
    return write_urbansound8k(tmp_path / "UrbanSound8K")


# --- the table ----------------------------------------------------------------------


def test_a_row_is_a_clip(urbansound8k: Path) -> None:
    """Every clip of the list, in its order, with its file and its label in words."""
    table = read_urbansound8k(urbansound8k)
    listed = (urbansound8k / "metadata/UrbanSound8K.csv").read_text().splitlines()[1:]
    assert [f"{clip}.wav" for clip in table.id] == [x.split(",")[0] for x in listed]
    assert table.id.is_unique
    last = table.iloc[-1]
    assert (last.id, last.label, last.fold) == ("7020-6-0-1", "gun shot", 10)
    assert last.path == str(urbansound8k.resolve() / "audio/fold10/7020-6-0-1.wav")
    assert (last.recording, last.salience, last.classID) == ("7020", "1", "6")
    assert "split" not in table


def test_the_place_in_the_source_is_no_cut(urbansound8k: Path) -> None:
    """Clips are files of their own: start and stop, which cut, are not in the table."""
    table = read_urbansound8k(urbansound8k)
    assert not {"start", "stop"} & set(table.columns)
    assert (table.source_start[1], table.source_end[1]) == (1.5, 5.5)


def test_relative_folders_give_absolute_paths(
    urbansound8k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table means the same files from any working directory."""
    absolute = read_urbansound8k(urbansound8k)
    monkeypatch.chdir(urbansound8k.parent)
    relative = read_urbansound8k(urbansound8k.name)
    assert relative.path.tolist() == absolute.path.tolist()
    assert all(Path(path).is_absolute() for path in relative.path)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    """The sentence names the file, where the set comes from and what belongs where."""
    with pytest.raises(FileNotFoundError) as refusal:
        read_urbansound8k(tmp_path)
    message = str(refusal.value)
    assert str(tmp_path / "metadata/UrbanSound8K.csv") in message
    for part in ("form", PAGE, "--data_folder", "audio/fold1/ to audio/fold10/"):
        assert part in message
    assert "\n" not in message


def test_missing_clips_are_counted(urbansound8k: Path) -> None:
    """The sentence says how many of how many, names the first, and the fix."""
    clips = read_urbansound8k(urbansound8k).path
    for path in clips[[5, 7]]:
        Path(path).unlink()
    message = f"2 of the 40 recordings .*the first is {clips[5]}.*form.*audio/fold1/"
    with pytest.raises(FileNotFoundError, match=message):
        read_urbansound8k(urbansound8k)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.wav,dog\n", r"UrbanSound8K\.csv has no column slice_file_name"),
        ("", r"UrbanSound8K\.csv cannot be read: .*unpack the archive again"),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, content: str, message: str) -> None:
    """A CSV of that name without its columns, or with nothing in it."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/UrbanSound8K.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_urbansound8k(tmp_path)


# --- folds --------------------------------------------------------------------------


def test_folds_are_those_of_the_set(urbansound8k: Path) -> None:
    """By default folds 1 to 8 train, 9 validates, 10 tests; no clip is lost."""
    rows = urbansound8k_rows(urbansound8k)
    parts = [rows[rows.split == name] for name in SPLITS]
    assert [set(part.fold) for part in parts] == [set(range(1, 9)), {9}, {10}]
    assert [len(part) for part in parts] == [32, 4, 4]


def test_folds_are_split_as_they_are_chosen(urbansound8k: Path) -> None:
    """A clip is in the split of its fold, in the list's order; others are left out."""
    rows = urbansound8k_rows(urbansound8k, [10, 2], [1], [7, 3])
    table = read_urbansound8k(urbansound8k)
    for name, folds in zip(SPLITS, ({2, 10}, {1}, {3, 7}), strict=True):
        expected = table.id[table.fold.isin(folds)].tolist()
        assert rows.id[rows.split == name].tolist() == expected


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (([1, 2], [2], [3]), "a fold is in two splits"),
        (([1, 2], [3], [3]), "a fold is in two splits"),
        (([1, 11], [2], [3]), "fold 11 holds no clip in .*--train_folds"),
        (([1], [2], [0]), "fold 0 holds no clip"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    urbansound8k: Path, folds: tuple[list[int], ...], message: str
) -> None:
    """A fold that is used twice, or that the set does not have."""
    with pytest.raises(ValueError, match=message):
        urbansound8k_rows(urbansound8k, *folds)


def test_an_empty_fold_beside_full_ones_is_refused(tmp_path: Path) -> None:
    """A copy that lacks one of the folds to train on is not trained on in silence."""
    folder = write_urbansound8k(tmp_path, folds=(1, 2, 3, 4, 5, 6, 8, 9, 10))
    with pytest.raises(ValueError, match="fold 7 holds no clip"):
        urbansound8k_rows(folder)


def test_a_split_of_one_label_is_reported(
    urbansound8k: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No prompt can be drawn for what is absent there; splits of two labels pass."""
    metadata = urbansound8k / "metadata/UrbanSound8K.csv"
    lines = metadata.read_text().splitlines()
    kept = [line for line in lines if not line.endswith(",9,6,gun_shot")]
    metadata.write_text("\n".join(kept))
    with caplog.at_level(logging.WARNING, "lmaczs"):
        urbansound8k_rows(urbansound8k)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("--valid_folds hold clips of 'dog bark' alone")


def test_labels_are_the_ten_of_the_set() -> None:
    """In the order of the class ids."""
    assert len(set(URBANSOUND8K_LABELS)) == 10
    names = [name.replace("_", " ") for name in CLASSES]
    assert [URBANSOUND8K_LABELS.index(name) for name in names] == [*CLASSES.values()]


@pytest.mark.parametrize("listed", [(1, 2), range(1, 11)])
def test_only_test_folds_have_to_be_there(
    tmp_path: Path, listed: Sequence[int]
) -> None:
    """Neither the lists nor the recordings of other folds are needed to test on one."""
    folder = write_urbansound8k(tmp_path, folds=listed)
    for path in folder.glob("audio/fold[!2]*/*.wav"):
        path.unlink()
    rows = urbansound8k_rows(folder, test_folds=[2], test_only=True)
    assert set(rows.fold[rows.split == "test"]) == {2}
    assert set(rows.split[rows.fold != 2]) == {""}
    assert len(rows) == 4 * len(listed)
    with pytest.raises(FileNotFoundError, match="4 of the 4 recordings .*fold1/"):
        urbansound8k_rows(folder, test_folds=[1], test_only=True)


def test_test_folds_of_a_part_of_the_set(tmp_path: Path) -> None:
    """Fold 10, which is not there, is not replaced; the folds that are are named."""
    folder = write_urbansound8k(tmp_path, folds=(1, 2))
    with pytest.raises(ValueError, match=r"fold 10 holds .* among folds 1, 2, e\.g\. "):
        urbansound8k_rows(folder, test_only=True)


# --- the recordings -----------------------------------------------------------------


def tone(rate: int, channels: int, seconds: float) -> np.ndarray:
    """500 Hz of amplitude 0.5; the second channel has half of that."""
    wav = 0.5 * np.sin(2 * np.pi * 500 * np.arange(round(seconds * rate)) / rate)
    return np.stack([wav, wav / 2], axis=1)[:, :channels]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UrbanSound8K's layout with a tone in every format, twice in each of two folds."""
    folder = write_urbansound8k(tmp_path_factory.mktemp("US8K"), folds=(1, 2, 3, 4))
    paths = read_urbansound8k(folder).path
    for path, (rate, channels, subtype, seconds) in zip(
        paths, STORED_AS * 2, strict=True
    ):
        wav = tone(rate, channels, seconds)
        soundfile.write(path, wav, rate, subtype=subtype, format="WAV")
    return folder


@pytest.mark.parametrize("index", range(len(STORED_AS)))
def test_every_format_becomes_one_waveform(recordings: Path, index: int) -> None:
    """As long as the file, the mean of its channels, at the requested rate."""
    rate, channels, subtype, _ = STORED_AS[index]
    path = read_urbansound8k(recordings).path[index]
    wav = load_audio(path, 32000)
    assert wav.shape == (math.ceil(soundfile.info(path).frames * 32000 / rate),)
    expected = 0.5 / math.sqrt(2) * (0.75 if channels == 2 else 1)
    coarse = "ADPCM" in subtype or subtype == "PCM_U8"
    level = wav.square().mean().sqrt().item()
    assert level == pytest.approx(expected, rel=0.05 if coarse else 0.02)


def prompted(
    table: pd.DataFrame, front_end: FrontEnd, mixing: Mixing | None
) -> PromptedDataset:
    """The clips of a table with prompts that are labels."""
    reader = FileReader(table, front_end.sample_rate)
    prompts = PromptSampler(texts_of(table), ["{}"])
    return PromptedDataset(table, front_end, reader, prompts, mixing)


@pytest.mark.parametrize("train", [True, False])
def test_every_format_gets_prompts(
    recordings: Path, tiny_clap: FrozenClap, train: bool
) -> None:
    """All clips have the encoder's length, however short they are, and true prompts."""
    table = read_urbansound8k(recordings)
    front_end = tiny_clap.front_end
    clips = prompted(table, front_end, Mixing(mix_prob=0.0) if train else None)
    for index, row in enumerate(table.itertuples()):
        item = clips[index]
        whole = len(load_audio(row.path, front_end.sample_rate))
        assert item["wav"].shape == (front_end.max_samples,)
        assert item["samples"] == whole
        assert item["wav"].isfinite().all()
        assert item["wav"][:whole].abs().max() > 0.05
        assert item["prompts"][0] == row.label
        assert item["present"] == [True, False]


def test_short_and_long_clips_are_mixed(
    recordings: Path, tiny_clap: FrozenClap
) -> None:
    """Two recordings of any two formats make one, which does not clip."""
    table = read_urbansound8k(recordings)
    mixing = Mixing(mix_prob=1.0, concat_prob=0.5)
    clips = prompted(table, tiny_clap.front_end, mixing)
    for index in range(len(table)):
        wav = clips[index]["wav"]
        assert wav.isfinite().all()
        assert 0.02 < wav.abs().max() <= 1
