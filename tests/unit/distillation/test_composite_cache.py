"""Composites in memory: each by its number, kept in parts, and the teacher's map."""

from __future__ import annotations

from collections.abc import Callable
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
from lmaczs.distillation import composite_cache as composite_bank
from lmaczs.distillation.clip_cache import ClipBank
from lmaczs.distillation.composite_cache import (
    CompositeBank,
    Composites,
    TeacherMap,
    load_composites,
)
from lmaczs.distillation.composites import Composer
from lmaczs.frontend import FrontEnd

RATE = 32000
LABELS = ["dog", "rain", "siren"]


class Halves:
    """A tagger that hears the level of a sound's halves, and counts its calls."""

    calls = 0

    def hear(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [2, 1], embeddings [2, 3]."""
        Halves.calls += 1
        assert len(wav) == 16000
        level = wav.reshape(2, -1).square().mean(1, keepdim=True).sqrt()
        return level, torch.cat([level, level * 2, 1 - level], 1)


@pytest.fixture(autouse=True)
def tagger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str]:
    """Files of a tagger in whose place `Halves` hears."""
    monkeypatch.setattr(composite_bank, "open_tagger", lambda *files: Halves())
    Halves.calls = 0
    files = tmp_path / "model", tmp_path / "map"
    for file in files:
        file.write_text(file.name)
    return str(files[0]), str(files[1])


@pytest.fixture
def clips(tmp_path: Path) -> ClipBank:
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
    return ClipBank(
        table, empty[0], torch.tensor(target), LABELS, captions, empty[1], ["a"]
    )


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
    clips: ClipBank, front_end: FrontEnd, tagger: tuple[str, str]
) -> Callable[..., Composites]:
    """Function that makes `Composites`; it takes hparams."""

    def make(composer: Composer | None = None, **changes: Any) -> Composites:
        hparams = {"seed": 1, "class_balance": 0.5, "composites": 12, **changes}
        composer = composer or Composer(samples=RATE, rate=RATE)
        return Composites(clips, front_end, composer, tagger, hparams)

    return make


def test_a_composite_is_what_encoder_and_tagger_hear(
    make: Callable[..., Composites], front_end: FrontEnd
) -> None:
    """Of the same sound: mel power in dB, scores, mean and maximum of embeddings."""
    made: list[tuple[Tensor, list[bool]]] = []
    own = Composer(samples=RATE, rate=RATE)

    def composer(wavs: list[Tensor], rng: np.random.Generator) -> tuple:
        made.append(own(wavs, rng))
        return made[-1]

    decibels, scores, heard, present = make(composer)[4]
    wav, told = made[0]
    log_mel = front_end.log_mel(wav[None])[0, 0].T
    torch.testing.assert_close(decibels.float(), log_mel, atol=0.05, rtol=0)
    level, embedding = Halves().hear(resample(wav, RATE, 16000))
    torch.testing.assert_close(scores, level.half())
    summary = torch.cat([embedding.mean(0), embedding.amax(0)])
    torch.testing.assert_close(heard, summary.half())
    assert present.sum() <= sum(told)


def test_each_composite_depends_on_its_number_alone(
    make: Callable[..., Composites],
) -> None:
    """In any order, by any worker; other numbers and seeds give others."""
    one, two, other = make(), make(), make(seed=2)
    for number in (3, 0, 7):
        for found, again in zip(one[number], two[number], strict=True):
            assert torch.equal(found, again)
        assert not torch.equal(one[number][0], one[number + 1][0])
        assert not torch.equal(one[number][0], other[number][0])


def test_only_labelled_training_clips_are_drawn(
    make: Callable[..., Composites],
) -> None:
    """Rare labels more often; the label stands for what is told."""
    composites = make()
    assert composites.rows.tolist() == list(range(7))
    assert set(composites.wavs) == set(range(7))
    present = torch.stack([composites[number][-1] for number in range(12)])
    assert present.any(0).all()
    assert present.sum(1).max() <= 3


def test_composites_are_made_once_and_in_parts(
    make: Callable[..., Composites], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is interrupted keeps the parts that are there; others replace them."""
    monkeypatch.setattr(composite_bank, "PART", 5)
    folder = tmp_path / "kept"
    bank, heard = load_composites(make(), folder, num_workers=0)
    assert Halves.calls == 7 + 12
    assert len(bank) == 12
    assert heard.shape == (7, 6)
    names = {"clips.pt", "0000000.pt", "0000005.pt", "0000010.pt"}
    assert {path.name for path in folder.iterdir()} == names
    for number in (0, 6, 11):
        row = (column[number] for column in vars(bank).values())
        for found, expected in zip(row, make()[number], strict=True):
            assert torch.equal(found, expected)
    Halves.calls = 0
    again, _ = load_composites(make(), folder, num_workers=0)
    assert Halves.calls == 0
    assert torch.equal(again.decibels, bank.decibels)
    (folder / "0000005.pt").unlink()
    more, _ = load_composites(make(composites=16), folder, num_workers=0)
    assert Halves.calls == 5 + 5 + 1  # missing, longer than before, new
    assert torch.equal(more.decibels[:12], bank.decibels)
    Halves.calls = 0
    other, _ = load_composites(make(seed=3), folder, num_workers=0)
    assert Halves.calls == 7 + 12
    assert not torch.equal(other.decibels, bank.decibels)


def test_workers_make_the_same(make: Callable[..., Composites], tmp_path: Path) -> None:
    """Two processes, the same composites in the same order."""
    alone, _ = load_composites(make(), tmp_path / "alone", num_workers=0)
    two, _ = load_composites(make(), tmp_path / "two", num_workers=2)
    for found, expected in zip(vars(two).values(), vars(alone).values(), strict=True):
        assert torch.equal(found, expected)


def test_mel_power_of_a_bank() -> None:
    """Of decibels; what is at the floor is nothing."""
    decibels = torch.tensor([-100.0, -30.0, 0.0, 20.0]).half().reshape(1, 4, 1)
    nothing = torch.zeros(1, 0)
    bank = CompositeBank(decibels, nothing, nothing, nothing)
    found = bank.mel(torch.tensor([0, 0]))
    expected = torch.tensor([0.0, 1e-3, 1.0, 100.0]).reshape(1, 4, 1).expand(2, 4, 1)
    torch.testing.assert_close(found, expected)


def test_teacher_map_is_ridge_regression() -> None:
    """On standardised features, as least squares with rows for the penalty."""
    rng = torch.Generator().manual_seed(0)
    heard = 3 + 2 * torch.randn(30, 8, generator=rng)
    text = torch.randn(30, 4, generator=rng)
    x = (heard - heard.mean(0)) / (heard.std(0) + 1e-3)
    rows = torch.cat([x, (0.5 * 30) ** 0.5 * torch.eye(8)])
    goals = torch.cat([text, torch.zeros(8, 4)])
    weights = torch.linalg.lstsq(rows, goals).solution
    new = 3 + 2 * torch.randn(5, 8, generator=rng)
    expected = ((new - heard.mean(0)) / (heard.std(0) + 1e-3)) @ weights
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = TeacherMap(heard, text)(new)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
