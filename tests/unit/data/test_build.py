"""Manifests as training data: clips, their splits and their prompts."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from lmaczs.clap import FrozenClap
from lmaczs.data.build import (
    fill_splits,
    join_rows,
    manifest_splits,
    prompted_splits,
)
from lmaczs.data.clip_texts import Phrase
from lmaczs.data.manifest import ManifestError, read_manifest
from lmaczs.data.prompted_dataset import PromptedClips

RATE = 8000
TEMPLATES = ["This is a sound of {}.", "{}"]


def write(folder: Path, header: str, *rows: str) -> Path:
    """Write a manifest, and the recordings that it names, of two seconds each."""
    for name in {row.split(",")[0] for row in rows}:
        noise = np.random.default_rng(len(name)).uniform(-0.5, 0.5, 2 * RATE)
        soundfile.write(folder / name, noise, RATE)
    path = folder / "clips.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path


def labelled(counts: dict[str, int]) -> pd.DataFrame:
    """A clip of each of some recordings a label, all of split train."""
    rows = [(f"/{x}{n}.wav", x) for x, count in counts.items() for n in range(count)]
    return pd.DataFrame(rows, columns=["path", "label"]).assign(split="train")


# --- rows ---------------------------------------------------------------------------


def test_rows_of_a_clip_are_joined(tmp_path: Path) -> None:
    """Captions and labels of the same stretch are of one clip, each of them once."""
    manifest = write(
        tmp_path,
        "path,text,label,start,stop",
        "a.wav,A dog.,,,",
        "b.wav,,rain,,",
        "a.wav,Barking.,,,",
        "a.wav,A dog.,,,",
        "a.wav,,dog,,",
        "a.wav,Silence.,,1,",
        "a.wav,Still silence.,,1.0,",
    )
    clips = join_rows(read_manifest(manifest))
    assert clips.id.tolist() == ["a", "b", "a#5"]
    assert clips.label.tolist() == ["dog", "rain", ""]
    captions = [Phrase("A dog.", False), Phrase("Barking.", False), Phrase("dog")]
    assert clips.phrases.tolist() == [
        tuple(captions),
        (Phrase("rain"),),
        (Phrase("Silence.", False), Phrase("Still silence.", False)),
    ]
    assert clips.start.isna().tolist() == [True, True, False]


# --- splits -------------------------------------------------------------------------


def test_missing_splits_are_spread_over_labels() -> None:
    """A fifth of the recordings each, of every label some, and each in one split."""
    clips = labelled({"dog": 10, "rain": 10})
    filled = fill_splits(clips)
    shares = filled.groupby(["label", "split"]).size().unstack()
    assert shares.test.tolist() == [2, 2]
    assert shares.valid.between(1, 2).all()
    assert (clips.split == "train").all()  # the table given is left alone


def test_missing_splits_do_not_depend_on_order_or_folder() -> None:
    """The same recordings are taken wherever they lie and however they are listed."""
    clips = labelled({"dog": 7, "rain": 5})
    moved = clips.assign(path="/elsewhere" + clips.path)
    mixed = moved.sample(frac=1, random_state=0)
    again = fill_splits(mixed.reset_index(drop=True))
    expected = fill_splits(clips)
    names = expected.path.map(lambda path: Path(path).name)
    other = again.path.map(lambda path: Path(path).name)
    assert dict(zip(other, again.split, strict=True)) == dict(
        zip(names, expected.split, strict=True)
    )


@pytest.mark.parametrize("column", ["path", "recording"])
def test_clips_of_a_recording_stay_together(column: str) -> None:
    """A file, or what the column recording calls one, is in a single split."""
    clips = labelled({"dog": 24, "rain": 24})
    groups = [f"session {number % 12}" for number in range(len(clips))]
    clips[column] = groups
    filled = fill_splits(clips)
    assert filled.groupby(column).split.nunique().max() == 1
    assert set(filled.split) == {"train", "valid", "test"}


def test_a_recording_that_is_not_named_is_the_file() -> None:
    """Rows that leave the column recording empty are not all of one recording."""
    clips = labelled({"dog": 10}).assign(recording=["session"] * 5 + [""] * 5)
    filled = fill_splits(clips, 0.4, 0.4)
    assert filled.split[:5].nunique() == 1
    assert filled.split[5:].nunique() > 1


def test_the_only_recording_of_a_label_is_trained_on() -> None:
    """Whatever is tested was trained."""
    clips = labelled({"dog": 6, "fox": 1, "owl": 2})
    filled = fill_splits(clips, 0.3, 0.3)
    train = set(filled.label[filled.split == "train"])
    assert train == {"dog", "fox", "owl"}


def test_splits_that_are_given_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Only what no row names is taken, and that is said."""
    clips = labelled({"dog": 10})
    clips.loc[0, "split"] = "test"
    with caplog.at_level(logging.WARNING, "lmaczs"):
        filled = fill_splits(clips)
    assert filled.index[filled.split == "test"].tolist() == [0]
    assert (filled.split == "valid").sum() == 2
    assert caplog.messages == [
        "No row has the split valid: it gets 2 of the 9 training clips, by recording"
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_recordings(count: int) -> None:
    """Three are needed; the sentence says what to add."""
    clips = labelled({"dog": count}).assign(recording=None)
    clips["recording"] = clips.path
    with pytest.raises(ValueError, match="cannot be split into train, valid and test"):
        fill_splits(clips)


def test_nothing_to_train_on() -> None:
    """Splits that leave no clip for training are refused."""
    clips = labelled({"dog": 2})
    clips["split"] = ["valid", "test"]
    with pytest.raises(ValueError, match="no row has the split train"):
        fill_splits(clips)


def test_splits_of_a_manifest(tmp_path: Path) -> None:
    """Three tables, each of them of its own recordings; refusals name the manifest."""
    rows = [f"{x}{n}.wav,{x}" for x in ("dog", "rain") for n in range(5)]
    splits = manifest_splits(write(tmp_path, "path,label", *rows))
    sizes = [len(table) for table in (splits.train, splits.valid, splits.test)]
    assert sizes == [6, 2, 2]
    assert splits.labels == ["dog", "rain"]
    alone = write(tmp_path, "path,label", "dog0.wav,dog")
    with pytest.raises(ManifestError, match=r"clips\.csv has .*\n.* cannot be split"):
        manifest_splits(alone)


def test_recordings_are_opened(tmp_path: Path) -> None:
    """What is no audio is a mistake with its line, before anything is trained."""
    manifest = write(tmp_path, "path,label", "a.wav,dog", "b.wav,dog")
    (tmp_path / "b.wav").write_text("not audio")
    with pytest.raises(ManifestError, match=r"line 3: .*b\.wav is no audio"):
        manifest_splits(manifest)


# --- prompts ------------------------------------------------------------------------


def test_prompts_of_labels(tmp_path: Path, tiny_clap: FrozenClap) -> None:
    """All three splits know all labels, and those that no clip has."""
    rows = ["a.wav,dog,train", "b.wav,rain,train", "c.wav,dog,valid", "d.wav,owl,test"]
    data = prompted_splits(
        write(tmp_path, "path,label,split", *rows),
        tiny_clap.front_end,
        TEMPLATES,
        other_labels=["wind"],
        negatives_per_clip=2,
        mixture_share=1.0,
        seed=3,
    )
    everything = ["dog", "owl", "rain", "wind"]
    for one in (data.train, data.valid, data.test):
        assert one.labels == everything
        assert one.seed == 3
        assert list(one.classes.values()) == [
            TEMPLATES[0].format(x) for x in everything
        ]
    assert [one.train for one in (data.train, data.valid, data.test)] == [1, 0, 0]
    assert (data.train.negatives, data.valid.negatives) == (2, 1)
    assert (data.train.mixture_share, data.valid.mixture_share) == (1.0, 0.0)
    asked = {data.train[0]["prompts"][-1] for data.train.epoch in range(1, 20)}
    assert any("wind" in prompt for prompt in asked)


def test_prompts_of_captions(tmp_path: Path, tiny_clap: FrozenClap) -> None:
    """Every split has its own captions, to tell its clips apart by."""
    rows = [f"{n}.wav,Sound {n}{x}.,{s}" for n, s in enumerate(SPLIT_OF) for x in "ab"]
    data = prompted_splits(
        write(tmp_path, "path,text,split", *rows), tiny_clap.front_end, TEMPLATES
    )
    assert data.train.labels == []
    assert list(data.valid.classes) == ["Sound 4a.", "Sound 5a."]
    assert list(data.test.classes) == ["Sound 6a.", "Sound 7a."]
    assert isinstance(data.train, PromptedClips)
    own = {"Sound 0a.", "Sound 0b."}
    drawn = [data.train[0]["prompts"] for data.train.epoch in range(1, 30)]
    assert {first for first, _ in drawn} == own
    train = {f"Sound {n}{x}." for n in range(4) for x in "ab"}
    assert {other for _, other in drawn} == train - own


SPLIT_OF = ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
