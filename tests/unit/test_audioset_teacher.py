"""The audio tagger: its log-mel patches, its cache, and its ears."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.audio import AudioError, load_audio
from lmaczs.audioset_teacher import (
    PATCH_HOP_SAMPLES,
    PATCH_SAMPLES,
    AudioSetTagger,
    ClipScores,
    cache_clip_scores,
    log_mel,
    log_mel_patches,
    mel_matrix,
    pad_to_patches,
    read_class_names,
)

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "teachers"
TEACHERS = Path(os.environ.get("LMACZS_TEACHERS", BESIDE_THE_CHECKOUT))
MODEL_FILE = TEACHERS / "yamnet_spectra_in.tflite"
CLASS_MAP = TEACHERS / "yamnet_class_map.csv"


def noise(samples: int, seed: int = 0) -> Tensor:
    """Make white noise of a fixed seed."""
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def slow_mel_weight(bin_hz: float, band: int) -> float:
    """Weigh one FFT bin in one HTK mel band, triangle by triangle."""

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    step = (mel(7500.0) - mel(125.0)) / 65
    left, centre, right = (mel(125.0) + step * (band + i) for i in range(3))
    if left < mel(bin_hz) <= centre:
        return (mel(bin_hz) - left) / (centre - left)
    if centre < mel(bin_hz) < right:
        return (right - mel(bin_hz)) / (right - centre)
    return 0.0


def slow_log_mel_frame(wav: np.ndarray, frame: int) -> np.ndarray:
    """Compute one log-mel frame from its definition, in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    segment = np.zeros(512)
    segment[:400] = wav[frame * 160 : frame * 160 + 400] * window
    magnitude = np.abs(np.fft.fft(segment))[:257]
    mel = [
        sum(magnitude[k] * slow_mel_weight(k * 31.25, band) for k in range(257))
        for band in range(64)
    ]
    return np.log(np.array(mel) + 0.001)


def test_log_mel_equals_the_definition() -> None:
    """Every value is ln(sum of weighted magnitudes + 0.001) of a 400 sample frame."""
    wav = noise(400 + 2 * 160)
    expected = np.stack([slow_log_mel_frame(wav.double().numpy(), i) for i in range(3)])
    np.testing.assert_allclose(log_mel(wav).numpy(), expected, atol=2e-5)


def test_mel_matrix_ignores_what_lies_outside_the_band() -> None:
    """Bins below 125 Hz and above 7500 Hz have no weight, every band has some."""
    weights = mel_matrix()
    hz = torch.arange(257) * 31.25
    assert weights[(hz <= 125) | (hz >= 7500)].abs().max() == 0
    assert (weights.sum(0) > 0).all()


@pytest.mark.parametrize(
    ("samples", "n_patches"),
    [
        (0, 1),
        (1, 1),
        (PATCH_SAMPLES, 1),
        (PATCH_SAMPLES + 1, 2),
        (PATCH_SAMPLES + PATCH_HOP_SAMPLES, 2),
        (80_000, 10),
    ],
)
def test_patches_cover_the_clip(samples: int, n_patches: int) -> None:
    """The fewest whole patches that reach the last sample, and never none."""
    padded = pad_to_patches(noise(samples))
    assert padded.numel() == PATCH_SAMPLES + (n_patches - 1) * PATCH_HOP_SAMPLES
    assert torch.equal(padded[:samples], noise(samples))
    assert not padded[samples:].any()
    assert log_mel_patches(noise(samples)).shape == (n_patches, 96, 64)


def test_patches_start_every_48_frames() -> None:
    """Patch i is the 96 frames from frame 48 i on."""
    wav = noise(PATCH_SAMPLES + 3 * PATCH_HOP_SAMPLES)
    frames = log_mel(wav)
    for i, patch in enumerate(log_mel_patches(wav)):
        assert torch.equal(patch, frames[48 * i : 48 * i + 96])


def test_silence_is_the_log_of_the_offset() -> None:
    """Digital silence gives ln 0.001 everywhere, not minus infinity."""
    patches = log_mel_patches(torch.zeros(8000))
    torch.testing.assert_close(patches, torch.full_like(patches, math.log(0.001)))


def test_a_batch_is_refused() -> None:
    """Only one mono waveform is scored at a time."""
    with pytest.raises(ValueError, match="mono"):
        log_mel_patches(torch.zeros(2, 16_000))


def test_class_names_follow_the_index_column(tmp_path: Path) -> None:
    """The order is that of the outputs, whatever the order of the lines."""
    class_map = tmp_path / "map.csv"
    class_map.write_text(
        'index,mid,display_name\n1,/m/b,"Chicken, rooster"\n0,/m/a,Dog\n'
    )
    assert read_class_names(class_map) == ["Dog", "Chicken, rooster"]


def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ai-edge-litert the error says what to install."""
    class_map = tmp_path / "map.csv"
    class_map.write_text("index,mid,display_name\n0,/m/a,Dog\n")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"lmaczs\[distill\]"):
        AudioSetTagger(class_map, class_map)


@pytest.mark.real_clips
def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    """A CSV in the model's place is refused by its name."""
    class_map = tmp_path / "map.csv"
    class_map.write_text("index,mid,display_name\n0,/m/a,Dog\n")
    with pytest.raises(ValueError, match=r"map\.csv"):
        AudioSetTagger(class_map, class_map)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist stands in the error."""
    with pytest.raises(FileNotFoundError, match=r"absent\.tflite"):
        AudioSetTagger(tmp_path / "absent.tflite", tmp_path / "map.csv")


class CountingTagger:
    """A tagger of three classes that scores loudness and counts its calls."""

    class_names = ["quiet", "medium", "loud"]

    def __init__(self, fingerprint: str = "a") -> None:
        self.fingerprint = fingerprint
        self.calls = 0

    def clip_scores(self, wav: Tensor) -> ClipScores:
        """Score a clip by its first sample."""
        self.calls += 1
        return ClipScores(wav[:1].expand(3), 2 * wav[:1].expand(3))


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Three constant recordings of rising level."""
    paths = [tmp_path / f"clip{i}.wav" for i in range(3)]
    for i, path in enumerate(paths):
        soundfile.write(path, np.full(1600, 0.125 * (i + 1)), 16_000, subtype="FLOAT")
    return paths


def test_cache_computes_only_what_is_missing(tmp_path: Path, clips: list[Path]) -> None:
    """A second call scores new clips only, and answers in the order asked for."""
    tagger, cache_file = CountingTagger(), tmp_path / "new" / "scores.npz"
    cache_clip_scores(tagger, clips[:2], cache_file)
    assert tagger.calls == 2
    scores = cache_clip_scores(tagger, clips[::-1], cache_file)
    assert tagger.calls == 3
    assert scores.mean[:, 0].tolist() == [0.375, 0.25, 0.125]
    assert scores.max[:, 0].tolist() == [0.75, 0.5, 0.25]
    assert [path.name for path in cache_file.parent.iterdir()] == ["scores.npz"]


def test_cache_file_explains_itself(tmp_path: Path, clips: list[Path]) -> None:
    """The .npz holds stems, both scores and the class names under their names."""
    cache_clip_scores(CountingTagger(), clips, tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as cache:
        assert cache["stems"].tolist() == ["clip0", "clip1", "clip2"]
        assert cache["mean"].shape == cache["max"].shape == (3, 3)
        assert cache["class_names"].tolist() == CountingTagger.class_names


def test_cache_keeps_what_came_before_a_bad_clip(
    tmp_path: Path, clips: list[Path]
) -> None:
    """A clip that cannot be read costs nothing that was already scored."""
    tagger, bad = CountingTagger(), tmp_path / "bad.wav"
    bad.write_text("no audio")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        cache_clip_scores(tagger, [*clips, bad], tmp_path / "scores.npz")
    cache_clip_scores(tagger, clips, tmp_path / "scores.npz")
    assert tagger.calls == 3


def test_cache_of_another_tagger_is_refused(tmp_path: Path, clips: list[Path]) -> None:
    """Scores of two models are never mixed in one file."""
    cache_clip_scores(CountingTagger("a"), clips, tmp_path / "scores.npz")
    with pytest.raises(ValueError, match="another tagger"):
        cache_clip_scores(CountingTagger("b"), clips, tmp_path / "scores.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_broken_cache_is_named(
    tmp_path: Path, clips: list[Path], content: bytes
) -> None:
    """A file that is no cache is left alone and named in the error."""
    cache_file = tmp_path / "scores.npz"
    cache_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"scores\.npz is not a cache"):
        cache_clip_scores(CountingTagger(), clips, cache_file)
    assert cache_file.read_bytes() == content


def test_equal_stems_are_refused(tmp_path: Path, clips: list[Path]) -> None:
    """Two recordings of one name would be taken for each other."""
    other = tmp_path / "other" / clips[0].name
    with pytest.raises(ValueError, match="share the stem"):
        cache_clip_scores(CountingTagger(), [clips[0], other], tmp_path / "s.npz")


def test_no_clips_give_empty_scores(tmp_path: Path) -> None:
    """Nothing asked, nothing written: [0, classes] comes back."""
    scores = cache_clip_scores(CountingTagger(), [], tmp_path / "scores.npz")
    assert scores.mean.shape == scores.max.shape == (0, 3)
    assert not (tmp_path / "scores.npz").exists()


FITTING_CLASSES = {
    "dog": {"Dog", "Bark"},
    "rooster": {"Chicken, rooster", "Crowing, cock-a-doodle-doo"},
    "rain": {"Rain", "Raindrop", "Rain on surface"},
    "siren": {"Siren", "Ambulance (siren)", "Police car (siren)"},
    "church_bells": {"Church bell", "Bell"},
    "crying_baby": {"Baby cry, infant cry", "Crying, sobbing"},
    "clock_tick": {"Clock", "Tick", "Tick-tock"},
    "helicopter": {"Helicopter"},
}


def clips_by_category(per_category: int) -> dict[str, list[Path]]:
    """List the first real clips of each category in FITTING_CLASSES."""
    found: dict[str, list[Path]] = defaultdict(list)
    esc50 = Path(os.environ["LMACZS_ESC50"])
    with (esc50 / "meta" / "esc50.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            category = found[row["category"]]
            if row["category"] in FITTING_CLASSES and len(category) < per_category:
                category.append(esc50 / "audio" / row["filename"])
    return {category: found[category] for category in FITTING_CLASSES}


@pytest.mark.real_clips
def test_the_tagger_hears_what_is_in_real_clips() -> None:
    """The fitting class is among the first five for at least 20 of 24 clips."""
    tagger = AudioSetTagger(MODEL_FILE, CLASS_MAP)
    heard = []
    for category, paths in clips_by_category(per_category=3).items():
        for path in paths:
            best = tagger.clip_scores(load_audio(path, 16_000)).max.topk(5).indices
            names = {tagger.class_names[i] for i in best.tolist()}
            heard.append(bool(names & FITTING_CLASSES[category]))
    assert len(heard) == 24
    assert sum(heard) >= 20


@pytest.mark.real_clips
def test_clip_scores_summarise_the_patches() -> None:
    """Mean and maximum are those of the patch scores, which lie in [0, 1]."""
    tagger = AudioSetTagger(MODEL_FILE, CLASS_MAP)
    wav = noise(50_000)
    scores, clip = tagger.scores(wav), tagger.clip_scores(wav)
    assert scores.shape == (6, 521)
    assert scores.min() >= 0 and scores.max() <= 1
    for name in range(0, 521, 40):
        column = scores[:, name].tolist()
        assert clip.mean[name].item() == pytest.approx(sum(column) / 6, abs=1e-6)
        assert clip.max[name].item() == max(column)


@pytest.mark.real_clips
def test_a_class_map_of_another_model_is_refused(tmp_path: Path) -> None:
    """Names that do not fit the outputs are noticed at once."""
    class_map = tmp_path / "map.csv"
    class_map.write_text("index,mid,display_name\n0,/m/a,Dog\n")
    with pytest.raises(ValueError, match="its own class map"):
        AudioSetTagger(MODEL_FILE, class_map)


@pytest.mark.parametrize("content", [None, "index,name\n0,Rain\n"])
def test_read_class_names_names_the_bad_file(
    tmp_path: Path, content: str | None
) -> None:
    """A missing file or column is one ValueError that names option and file."""
    path = tmp_path / "names.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"class_names: .*names\.csv"):
        read_class_names(path)
