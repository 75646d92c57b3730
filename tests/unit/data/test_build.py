"""The choice of the data: sets, manifests, and the prompts of their clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
from lmaczs.data.urbansound8k import URBANSOUND8K_LABELS

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
    """ESC-50's layout with two labels in five folds of short recordings."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, label in enumerate(("dog", "hand_saw")):
            name = f"{fold}-{fold}{target}-A-{target}.wav"
            soundfile.write(tmp_path / "audio" / name, np.zeros(10), RATE)
            lines.append(f"{name},{fold},{target},{label},{not target},{fold}0,A")
    (tmp_path / "meta/esc50.csv").write_text("\n".join([*lines, ""]))
    return tmp_path


def manifest_of(folder: Path, *rows: str) -> Path:
    """A manifest of path, label, text and split, of short recordings."""
    path = folder / "mine.csv"
    path.write_text("\n".join(["path,label,text,split", *rows, ""]))
    for row in rows:
        soundfile.write(folder / row.split(",")[0], np.zeros(10), RATE)
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
    """An empty folder is refused by each of them; published ones name their page."""
    for name, one in DATASETS.items():
        assert one.holds
        of_ones_own = name in {"folder", "raven", "audacity"}
        assert one.source.startswith("https://") != of_ones_own
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


def urbansound8k(folder: Path, folds: Sequence[int], classes: Sequence[str]) -> Path:
    """UrbanSound8K's layout with a short recording a class and fold."""
    (folder / "metadata").mkdir(parents=True)
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in folds:
        (folder / f"audio/fold{fold}").mkdir(parents=True)
        for number, label in enumerate(classes):
            name = f"{fold}{number}-0-0-0.wav"
            soundfile.write(folder / f"audio/fold{fold}" / name, np.zeros(10), RATE)
            lines.append(f"{name},{fold}{number},0,4,1,{fold},{number},{label}")
    (folder / "metadata/UrbanSound8K.csv").write_text("\n".join([*lines, ""]))
    return folder


@pytest.mark.parametrize("folds", [(1, 2), (2,)])
def test_test_clips_of_a_part_of_urbansound8k(
    tmp_path: Path, folds: Sequence[int]
) -> None:
    """Folds to train on need not be there; all labels of the set are to choose among.

    Its own option and the name of the set are the same; training is refused.
    """
    folder = urbansound8k(tmp_path, folds, ["dog_bark", "siren"])
    clips, labels = labelled_test_clips(urbansound8k_folder=folder, test_folds=[2])
    assert clips.id.tolist() == ["20-0-0-0", "21-0-0-0"]
    assert clips.label.tolist() == ["dog bark", "siren"]
    assert labels == sorted(URBANSOUND8K_LABELS)
    options = {"data_folder": folder, "dataset": "urbansound8k", "test_folds": 2}
    again, names = labelled_test_clips(**options, train_folds=None, valid_folds=[])
    assert again.equals(clips)
    assert names == labels
    with pytest.raises(ValueError, match="fold . holds no clip in .*--train_folds"):
        read_splits(folder, dataset="urbansound8k")
    with pytest.raises(ValueError, match="nothing to train on"):
        read_splits(
            folder,
            dataset="urbansound8k",
            **{"train_folds": [], "valid_folds": [], "test_folds": [2]},
        )


def test_a_fold_is_not_both_trained_and_tested_on(esc50: Path) -> None:
    """Folds of the decoder's training are refused, be test_folds given or the set's."""
    for name in ("train_folds", "valid_folds"):
        with pytest.raises(ValueError, match=f"fold 2 is in --{name} and would be te"):
            labelled_test_clips(data_folder=esc50, test_folds=[2], **{name: [1, 2]})
        with pytest.raises(ValueError, match=f"fold 5 is in --{name} and would be te"):
            labelled_test_clips(data_folder=esc50, **{name: 5})
    folder = urbansound8k(esc50 / "other", (1, 10), ["dog_bark"])
    with pytest.raises(ValueError, match="fold 10 is in --train_folds and would be "):
        labelled_test_clips(urbansound8k_folder=folder, train_folds=[1, 10])
    assert len(labelled_test_clips(urbansound8k_folder=folder, train_folds=[1])[0]) == 1


def test_a_development_split_has_clips_of_every_fold(esc50: Path) -> None:
    """So that the folds of a training by it are no reason to refuse its test clips."""
    options = {"data_folder": esc50, "split": "development"}
    clips, _ = labelled_test_clips(**options)
    again, _ = labelled_test_clips(**options, train_folds=list(clips.fold.unique()))
    assert again.equals(clips)


def test_labels_of_other_folds_are_to_choose_among(esc50: Path) -> None:
    """Testing on one fold does not make the choice easier."""
    for path in esc50.glob("audio/3-*-1.wav"):
        path.unlink()
    path = esc50 / "meta/esc50.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(x for x in lines if not x.startswith("3-31")))
    clips, labels = labelled_test_clips(data_folder=esc50, test_folds=[3])
    assert clips.id.tolist() == ["3-30-A-0"]
    assert labels == ["dog", "hand saw"]


def test_all_clips_are_tested_on_where_there_are_no_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a manifest and of a folder, which the log says."""
    manifest = write(tmp_path, "path,label", "a.wav,owl", "b.wav,fox", "cc.wav,fox")
    with caplog.at_level(logging.INFO, "lmaczs"):
        clips, labels = labelled_test_clips(manifest=manifest)
    assert [Path(path).name for path in clips.path] == ["a.wav", "b.wav", "cc.wav"]
    assert labels == ["fox", "owl"]
    for label, name in (("fox", "b.wav"), ("owl", "a.wav")):
        (tmp_path / "sets" / label).mkdir(parents=True)
        (tmp_path / name).rename(tmp_path / "sets" / label / name)
    options = {"data_folder": tmp_path / "sets", "dataset": "folder"}
    with caplog.at_level(logging.INFO, "lmaczs"):
        clips, labels = labelled_test_clips(**options, test_folds=None)
    assert clips.id.tolist() == ["fox/b.wav", "owl/a.wav"]
    assert labels == ["fox", "owl"]
    assert [message.partition(" has ")[2] for message in caplog.messages] == [
        f"no splits: all of its {count} clips are tested on" for count in (3, 2)
    ]


def test_a_folder_is_a_manifest_without_splits(tmp_path: Path) -> None:
    """Written as CSV it is split as such a manifest is, for training."""
    for label in ("fox", "owl"):
        (tmp_path / label).mkdir()
        for number in range(5):
            path = tmp_path / label / f"{number}.wav"
            soundfile.write(path, np.zeros(10), RATE)
    read_rows(tmp_path, dataset="folder").to_csv(tmp_path / "rows.csv", index=False)
    whole = read_splits(tmp_path, dataset="folder")
    again = read_splits(manifest=tmp_path / "rows.csv")
    assert len(whole.train) + len(whole.valid) + len(whole.test) == 10
    for name in ("train", "valid", "test"):
        assert getattr(whole, name).id.tolist() == getattr(again, name).id.tolist()
    clips, _ = labelled_test_clips(manifest=tmp_path / "rows.csv")
    assert len(clips) == 10


def test_labels_beside_captions_count(tmp_path: Path) -> None:
    """A row a caption is one clip to test on; captions alone have no labels."""
    rows = ["a.wav,owl,a hoot,", "a.wav,owl,an owl,", "b.wav,fox,a cry,"]
    clips, labels = labelled_test_clips(manifest=manifest_of(tmp_path, *rows))
    assert clips.label.tolist() == ["owl", "fox"]
    assert labels == ["fox", "owl"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["b.wav,fox,,train", "c.wav,owl,,"],
            "no labelled clip of split test: set the",
        ),
        (["b.wav,fox,,test", "c.wav,fox,,"], "has clips of 'fox' alone: the model cho"),
        (["b.wav,,a fox,test"], "mine.csv has no labels: clips are scored by their l"),
    ],
)
def test_clips_that_cannot_be_tested_on(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    """The sentence names the manifest, what it lacks, and the fix."""
    with pytest.raises(ValueError, match=message) as refused:
        labelled_test_clips(manifest=manifest_of(tmp_path, *rows))
    assert str(refused.value).startswith(str(tmp_path / "mine.csv"))


def test_test_clips_have_one_source(esc50: Path) -> None:
    """A folder, UrbanSound8K's folder or a manifest; and no recording is broken."""
    manifest = manifest_of(esc50, "b.wav,fox,,train")
    sources = {"data_folder": esc50, "urbansound8k_folder": esc50, "manifest": manifest}
    for given in (
        (),
        ("data_folder", "manifest"),
        ("data_folder", "urbansound8k_folder"),
    ):
        with pytest.raises(ValueError, match="give the clips by one of --data_folder"):
            labelled_test_clips(**{name: sources[name] for name in given})
    with pytest.raises(
        FileNotFoundError, match="esc50.csv is .*; for other clips give"
    ):
        labelled_test_clips(data_folder=esc50 / "audio")
    next(esc50.glob("audio/5-*.wav")).write_text("no audio")
    with pytest.raises(ValueError, match="1 of 2 recordings are no audio"):
        labelled_test_clips(data_folder=esc50)


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


# --- a fraction of the training clips -----------------------------------------------


def test_a_fraction_of_the_training_clips(esc50: Path) -> None:
    """Of a set and of a manifest; validation and test stay whole."""
    whole = read_splits(esc50)
    read_rows(esc50).to_csv(esc50 / "rows.csv", index=False)
    for source in ({"data_folder": esc50}, {"manifest": esc50 / "rows.csv"}):
        half = read_splits(**source, train_fraction=0.5, seed=3)
        assert len(half.train) == len(whole.train) / 2 == 3
        assert set(half.train.id) <= set(whole.train.id)
        assert half.valid.id.tolist() == whole.valid.id.tolist()
        assert half.test.id.tolist() == whole.test.id.tolist()


def test_a_fraction_of_shards_is_refused() -> None:
    """They are read as they lie; the sentence says what to do."""
    with pytest.raises(ValueError, match="train_fraction is for clips in files: name"):
        read_splits(manifest="shards/train-{0..3}.tar", train_fraction=0.5)
