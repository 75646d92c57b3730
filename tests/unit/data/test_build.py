"""The choice of the data: sets, manifests, and the prompts of their clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lmaczs.clap import FrozenClap
from lmaczs.data.build import (
    DATASETS,
    build_datasets,
    labelled_test_clips,
    read_rows,
    read_splits,
)
from lmaczs.data.prompted_dataset import Mixing

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


# --- the choice ---------------------------------------------------------------------


@pytest.fixture
def esc50(tmp_path: Path) -> Path:
    """ESC-50's layout with two labels in five folds; the recordings are empty."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, label in enumerate(("dog", "hand_saw")):
            name = f"{fold}-{fold}{target}-A-{target}.wav"
            (tmp_path / "audio" / name).touch()
            lines.append(f"{name},{fold},{target},{label},{not target},{fold}0,A")
    (tmp_path / "meta/esc50.csv").write_text("\n".join([*lines, ""]))
    return tmp_path


def manifest_of(folder: Path, *rows: str) -> Path:
    """A manifest of path, label, text and split, of empty recordings."""
    path = folder / "mine.csv"
    path.write_text("\n".join(["path,label,text,split", *rows, ""]))
    for row in rows:
        (folder / row.split(",")[0]).touch()
    return path


def test_rows_of_a_data_set_are_those_of_a_manifest(esc50: Path) -> None:
    """Written as CSV and read as a manifest, they are the same clips."""
    rows = read_rows(esc50)
    rows.to_csv(esc50 / "rows.csv", index=False)
    again = read_rows(manifest=esc50 / "rows.csv")
    for name in ("id", "path", "label", "text", "split"):
        assert again[name].tolist() == rows[name].tolist()


def test_options_of_a_data_set(esc50: Path) -> None:
    """They reach its reader; None is the reader's default; others are refused."""
    rows = read_rows(
        esc50, dataset="esc50", test_folds=[2], train_folds=[1, 3], split=None
    )
    assert set(rows.fold[rows.split == "test"]) == {2}
    with pytest.raises(ValueError, match="descriptions is no option of dataset esc50"):
        read_rows(esc50, descriptions=True)
    with pytest.raises(ValueError, match="dataset is 'esc10': choose one of esc50, "):
        read_rows(esc50, dataset="esc10")


def test_every_data_set_says_what_it_needs(tmp_path: Path) -> None:
    """An empty folder is refused by each of them, and an entry names its source."""
    for name, one in DATASETS.items():
        assert one.holds
        assert one.source.startswith("https://")
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            read_rows(tmp_path, dataset=name)


def test_splits_of_a_data_set(esc50: Path) -> None:
    """Three tables of clips with texts, and how they were split."""
    splits = read_splits(esc50)
    assert [len(x) for x in (splits.train, splits.valid, splits.test)] == [6, 2, 2]
    assert splits.labels == ["dog", "hand saw"]
    assert splits.split_by == "folds"
    assert [one.words for row in splits.test.texts for one in row] == splits.labels


def test_test_clips_of_a_data_set(esc50: Path) -> None:
    """The clips of its split test, and the labels of all of them."""
    clips, labels = labelled_test_clips(data_folder=esc50)
    assert clips.id.tolist() == ["5-50-A-0", "5-51-A-1"]
    assert labels == ["dog", "hand saw"]


def test_test_clips_of_a_manifest(tmp_path: Path) -> None:
    """Rows of the split test that have a label; labels of other splits count too."""
    rows = ["a.wav,owl,,test", "b.wav,fox,,train", "c.wav,,a caption,test"]
    manifest = manifest_of(tmp_path, *rows)
    clips, labels = labelled_test_clips(manifest=manifest)
    assert [Path(path).name for path in clips.path] == ["a.wav"]
    assert labels == ["fox", "owl"]


def test_test_clips_that_cannot_be(esc50: Path) -> None:
    """One source must be given, and it must hold a labelled clip to test on."""
    manifest = manifest_of(esc50, "b.wav,fox,,train")
    for given in ({}, {"data_folder": esc50, "manifest": manifest}):
        with pytest.raises(ValueError, match="give either --data_folder"):
            labelled_test_clips(**given)
    with pytest.raises(ValueError, match=r"mine\.csv has no labelled clip of split"):
        labelled_test_clips(manifest=manifest)


# --- prompts ------------------------------------------------------------------------


def test_prompts_of_labels(tmp_path: Path, tiny_clap: FrozenClap) -> None:
    """All three splits know all labels, and those that no clip has."""
    rows = ["a.wav,dog,train", "b.wav,rain,train", "c.wav,dog,valid", "d.wav,owl,test"]
    data = build_datasets(
        read_splits(manifest=write(tmp_path, "path,label,split", *rows)),
        tiny_clap.front_end,
        TEMPLATES,
        Mixing(mix_prob=1.0),
        extra_labels=["wind"],
        negatives_per_clip=2,
        predicted_prob=1.0,
        seed=3,
    )
    everything = ["dog", "owl", "rain", "wind"]
    for one in data.values():
        assert list(one.classes) == everything
        assert list(one.classes.values()) == [
            TEMPLATES[0].format(x) for x in everything
        ]
    items = [one[0] for one in data.values()]
    assert [len(item["prompts"]) for item in items] == [3, 2, 2]
    assert [item["use_predicted"] for item in items] == [True, False, False]
    assert [bool(item["sources"][1].any()) for item in items] == [True, False, False]
    train = data["train"]
    last = {train[0]["prompts"][-1] for train.epoch in range(1, 20)}
    assert any("wind" in prompt for prompt in last)


def test_prompts_of_captions(tmp_path: Path, tiny_clap: FrozenClap) -> None:
    """Every split has its own captions, which are the classes of its clips."""
    rows = [f"{n}.wav,Sound {n}{x}.,{s}" for n, s in enumerate(SPLIT_OF) for x in "ab"]
    data = build_datasets(
        read_splits(manifest=write(tmp_path, "path,text,split", *rows)),
        tiny_clap.front_end,
        TEMPLATES,
        Mixing(),
    )
    assert list(data["valid"].classes) == ["Sound 4a.", "Sound 5a."]
    assert list(data["test"].classes) == ["Sound 6a.", "Sound 7a."]
    own = {"Sound 0a.", "Sound 0b."}
    train = data["train"]
    drawn = [train[0]["prompts"] for train.epoch in range(1, 30)]
    assert {first for first, _ in drawn} == own
    others = {f"Sound {n}{x}." for n in range(4) for x in "ab"} - own
    assert {other for _, other in drawn} == others


SPLIT_OF = ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
