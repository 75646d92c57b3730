"""scenes.py: sample recordings that are reproducible, balanced and never clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lmaczs.audio.io import load_audio
from lmaczs.demo.scenes import (
    PEAK,
    SCENES,
    SECONDS,
    Scene,
    render,
    render_scene,
    write_scenes,
)
from lmaczs.demo.sound_models import SOURCES

RATE = 32000


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("rate, seconds", [(32000, 5.0), (44100, 3.0), (16000, 7.0)])
def test_every_source_renders(name: str, rate: int, seconds: float) -> None:
    """Any rate and length give finite samples of the right number and peak."""
    samples = render(name, rate, seconds, seed=0)
    assert samples.dtype == torch.float64
    assert samples.shape == (int(rate * seconds),)
    assert torch.isfinite(samples).all()
    assert float(samples.abs().max()) == pytest.approx(PEAK)


@pytest.mark.parametrize("name", SOURCES)
def test_seeds_decide_everything(name: str) -> None:
    """The same seed gives the same samples, another seed others."""
    again = [render(name, 16000, 3.0, seed) for seed in (3, 3, 4)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_sources_of_a_scene_have_its_snr(scene: Scene) -> None:
    """The powers stand at the ratio, the sum has the peak."""
    both = render_scene(scene, RATE)
    power = both.double().square().mean(1)
    snr_db = 10 * float((power[0] / power[1]).log10())
    assert snr_db == pytest.approx(scene.snr_db, abs=1e-3)
    assert float(both.sum(0).abs().max()) == pytest.approx(PEAK)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scenes_ask_for_what_is_there_and_what_is_not(scene: Scene) -> None:
    """One prompt a source, an absent one beside them, sources that exist."""
    assert len(scene.prompts) == len(scene.sources) == 2
    assert scene.absent_prompt not in scene.prompts
    assert set(scene.sources) <= set(SOURCES)


def test_scenes_have_names_of_their_own() -> None:
    """Files of different scenes do not overwrite one another."""
    assert len({scene.name for scene in SCENES}) == len(SCENES)


def test_the_two_sources_of_a_scene_do_not_share_their_chance() -> None:
    """A source mixed with itself gives two different sounds."""
    twice = dataclasses.replace(SCENES[0], sources=("rain", "rain"))
    first, second = render_scene(twice, RATE)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_scenes_are_written_as_they_are_rendered(tmp_path: Path) -> None:
    """Every file holds the sum of its scene's two sources, below full scale."""
    written = write_scenes(tmp_path / "scenes", RATE)
    assert [scene for scene, _ in written] == list(SCENES)
    for scene, path in written:
        wav = load_audio(path, RATE).numpy()
        assert path.stem == scene.name
        assert len(wav) == SECONDS * RATE and np.abs(wav).max() < 0.9
        np.testing.assert_array_equal(wav, render_scene(scene, RATE).sum(0))
