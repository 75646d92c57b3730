"""Composites: each depends on its number alone, and is cached in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from lmaczs.audio.resampling import resample
from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.distillation.composite_cache import (
    CompositeDataset,
    CompositeFeatures,
    load_composites,
)
from lmaczs.distillation.composites import Composer
from lmaczs.distillation.target_space import RidgeProjection
from lmaczs.frontend import FrontEnd

RATE = 32000
LABELS = ["dog", "rain", "siren"]


class Halves:
    """A tagger that scores the level of a sound's halves, and counts its calls."""

    class_names = ["loud"]
    fingerprint = "halves"

    def __init__(self) -> None:
        self.calls = 0

    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [2, 1], embeddings [2, 3]."""
        self.calls += 1
        assert len(wav) == 16000
        level = wav.reshape(2, -1).square().mean(1, keepdim=True).sqrt()
        return level, torch.cat([level, level * 2, 1 - level], 1)


@pytest.fixture
def tagger() -> Halves:
    """The tagger of a test."""
    return Halves()


@pytest.fixture
def clips(tmp_path: Path) -> ClipFeatures:
    """Eight noises to train on, one of them without label, and one to test."""
    labels = ["dog", "dog", "dog", "dog", "rain", "siren", "rain", "", "siren"]
    rows = []
    for number, label in enumerate(labels):
        path = tmp_path / f"{number}.wav"
        rng = np.random.default_rng(number)
        soundfile.write(path, 0.05 * rng.standard_normal(RATE), RATE)
        split = "test" if number == 8 else "train"
        rows.append({"path": str(path), "label": label, "split": split})
    target = [LABELS.index(label) if label else -1 for label in labels]
    empty = torch.zeros(9, 1, 64, 26), torch.zeros(9, 1, 2, 1)
    table = pd.DataFrame(rows)
    captions = [False] * 3
    targets = torch.tensor(target)
    return ClipFeatures(table, empty[0], targets, LABELS, captions, empty[1], ["a"], 1)


@pytest.fixture
def front_end() -> FrontEnd:
    """Of a second of sound."""
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=RATE,
        hop_length=1280,
        fft_window_size=4096,
        max_length_s=1,
        frequency_min=50,
        truncation="rand_trunc",
    )
    return FrontEnd(extractor)


@pytest.fixture
def make(
    clips: ClipFeatures, front_end: FrontEnd, tagger: Halves
) -> Callable[..., CompositeDataset]:
    """Function that makes a data set of composites; it takes changes."""

    def make(composer: Any = None, clips: Any = clips, **changes: Any) -> Any:
        options = {"seed": 1, "class_balance": 0.5, "size": 12, **changes}
        composer = composer or Composer()
        return CompositeDataset(clips, front_end, composer, tagger, **options)

    return make


def test_a_composite_is_encoder_input_and_scores_of_one_sound(
    make: Callable[..., CompositeDataset], front_end: FrontEnd
) -> None:
    """Of the same sound: mel power in dB, scores, mean and maximum of embeddings."""
    made: list[tuple[Tensor, list[bool]]] = []

    class Recorder(Composer):
        def __call__(self, *args: Any) -> tuple[Tensor, list[bool]]:
            made.append(super().__call__(*args))
            return made[-1]

    decibels, scores, summary, present = make(Recorder())[4]
    wav, audible = made[0]
    log_mel = front_end.log_mel(wav[None])[0, 0].T
    torch.testing.assert_close(decibels.float(), log_mel, atol=0.05, rtol=0)
    level, embedding = Halves().forward(resample(wav, RATE, 16000))
    torch.testing.assert_close(scores, level.half())
    expected = torch.cat([embedding.mean(0), embedding.amax(0)])
    torch.testing.assert_close(summary, expected.half())
    assert present.sum() <= sum(audible)


def test_each_composite_depends_on_its_number_alone(
    make: Callable[..., CompositeDataset],
) -> None:
    """In any order, by any worker; other numbers and seeds give others."""
    one, two, other = make(), make(), make(seed=2)
    for number in (3, 0, 7):
        for found, again in zip(one[number], two[number], strict=True):
            assert torch.equal(found, again)
        assert not torch.equal(one[number][0], one[number + 1][0])
        assert not torch.equal(one[number][0], other[number][0])


def test_only_labelled_training_clips_are_drawn(
    make: Callable[..., CompositeDataset],
) -> None:
    """Each of their labels occurs, and no composite has more than three."""
    composites = make()
    assert composites.rows.tolist() == list(range(7))
    present = torch.stack([composites[number][-1] for number in range(12)])
    assert present.any(0).all()
    assert present.sum(1).max() <= 3


def test_composites_are_made_of_the_clips_not_of_whole_recordings(
    make: Callable[..., CompositeDataset], clips: ClipFeatures, tmp_path: Path
) -> None:
    """A clip that is cut out of a recording gives what a file of it alone gives."""
    table, half = clips.table.copy(), RATE // 2
    for row, path in enumerate(table.path):
        wav, _ = soundfile.read(path)
        soundfile.write(tmp_path / f"part{row}.wav", wav[half:], RATE, subtype="PCM_16")
    cut = make(clips=replace(clips, table=table.assign(start=0.5, stop=1.0)))
    parts = [str(tmp_path / f"part{row}.wav") for row in range(len(table))]
    alone = make(clips=replace(clips, table=table.assign(path=parts)))
    assert torch.equal(cut[3][0], alone[3][0])
    assert not torch.equal(cut[3][0], make()[3][0])


TEXT = torch.nn.functional.normalize(torch.randn(3, 4), dim=1)


def test_composites_are_made_once_and_in_chunks(
    make: Callable[..., CompositeDataset], tagger: Halves, tmp_path: Path
) -> None:
    """An interrupted run keeps its chunks; those of other settings are replaced."""

    def load(**changes: Any) -> tuple[CompositeFeatures, int]:
        before = tagger.calls
        found = load_composites(make(**changes), folder, TEXT, num_workers=0, chunk=5)
        return found, tagger.calls - before

    folder = tmp_path / "kept"
    found, calls = load()
    assert calls == 7 + 12
    assert len(found) == 12
    names = {"clips.pt", "0000000.pt", "0000005.pt", "0000010.pt"}
    assert {path.name for path in folder.iterdir()} == names
    for number in (0, 6, 11):
        decibels, scores, _, present = make()[number]
        assert torch.equal(found.decibels[number], decibels)
        assert torch.equal(found.scores[number], scores)
        assert torch.equal(found.present[number], present)
    again, calls = load()
    assert calls == 0
    assert torch.equal(again.decibels, found.decibels)
    (folder / "0000005.pt").unlink()
    more, calls = load(size=16)
    assert calls == 5 + 5 + 1  # missing, longer than before, new
    assert torch.equal(more.decibels[:12], found.decibels)
    for change in ({"seed": 3}, {"composer": Composer(octaves=0.1)}):
        other, calls = load(**change)
        assert calls == 7 + 12
        assert not torch.equal(other.decibels, found.decibels)


def test_embeddings_are_projected_to_the_text_space(
    make: Callable[..., CompositeDataset], clips: ClipFeatures, tmp_path: Path
) -> None:
    """By ridge regression from the summaries of the clips to their labels' texts."""
    dataset = make()
    found = load_composites(dataset, tmp_path / "new", TEXT, num_workers=0)
    text = TEXT[clips.target[:7]]
    projection = RidgeProjection(dataset.clip_summaries().float(), text)
    expected = projection(torch.stack([dataset[number][2] for number in range(12)]))
    torch.testing.assert_close(found.embedding, expected)


def test_workers_make_the_same(
    make: Callable[..., CompositeDataset], tmp_path: Path
) -> None:
    """Two processes, the same composites in the same order."""
    alone = load_composites(make(), tmp_path / "alone", TEXT, num_workers=0)
    two = load_composites(make(), tmp_path / "two", TEXT, num_workers=2)
    for found, expected in zip(vars(two).values(), vars(alone).values(), strict=True):
        assert torch.equal(found, expected)


def test_mel_power_of_a_bank() -> None:
    """Of decibels; what is at the floor is 0."""
    decibels = torch.tensor([-100.0, -30.0, 0.0, 20.0]).half().reshape(1, 4, 1)
    nothing = torch.zeros(1, 0)
    found_in = CompositeFeatures(decibels, nothing, nothing, nothing)
    found = found_in.mel(torch.tensor([0, 0]))
    expected = torch.tensor([0.0, 1e-3, 1.0, 100.0]).reshape(1, 4, 1).expand(2, 4, 1)
    torch.testing.assert_close(found, expected)
