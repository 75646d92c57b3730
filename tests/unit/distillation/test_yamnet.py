"""YAMNet: its log-mel patches, scores and embeddings."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.audio.io import load_audio
from lmaczs.distillation.yamnet import (
    PATCH_HOP_SAMPLES,
    PATCH_SAMPLES,
    YAMNet,
    log_mel,
    log_mel_patches,
    mel_matrix,
    open_tagger,
    pad_to_patches,
    patch_centres,
    read_class_names,
)
from lmaczs.utils.errors import InputError

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[4] / "shared" / "teachers"
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


def test_patch_centres_are_in_the_middle_of_patches() -> None:
    """A click in the middle of a patch is in that patch's middle frames."""
    for patch, centre in enumerate(patch_centres(10, 5.0).tolist()):
        wav = torch.zeros(80_000)
        if centre < 1:
            wav[round(centre * 80_000)] = 1
            patches = log_mel_patches(wav)
            assert len(patches) == 10
            middle = patches[patch].mean(1).topk(2).indices
            assert set(middle.tolist()) <= {46, 47, 48, 49}


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
    with pytest.raises(ImportError, match=r"\[distill\]"):
        YAMNet(class_map, class_map)


@pytest.mark.real_clips
def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    """A CSV in the model's place is refused by its name."""
    class_map = tmp_path / "map.csv"
    class_map.write_text("index,mid,display_name\n0,/m/a,Dog\n")
    with pytest.raises(ValueError, match=r"map\.csv"):
        YAMNet(class_map, class_map)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist stands in the error."""
    with pytest.raises(FileNotFoundError, match=r"absent\.tflite"):
        YAMNet(tmp_path / "absent.tflite", tmp_path / "map.csv")


def test_a_tagger_needs_both_files() -> None:
    """Without either there is none; one alone is refused."""
    assert open_tagger(None, None) is None
    for files in (("x.tflite", None), (None, "x.csv")):
        with pytest.raises(ValueError, match="give both --tagger_model and"):
            open_tagger(*files)


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


def paths_of_first() -> Path:
    """The first clip of all."""
    return next(iter(clips_by_category(per_category=1).values()))[0]


@pytest.mark.real_clips
def test_real_clips_are_tagged() -> None:
    """The fitting class is among the first five for at least 20 of 24 clips."""
    tagger = YAMNet(MODEL_FILE, CLASS_MAP)
    found = []
    for category, paths in clips_by_category(per_category=3).items():
        for path in paths:
            best = tagger.forward(load_audio(path, 16_000))[0].amax(0).topk(5).indices
            names = {tagger.class_names[i] for i in best.tolist()}
            found.append(bool(names & FITTING_CLASSES[category]))
    assert len(found) == 24
    assert sum(found) >= 20


@pytest.mark.real_clips
def test_scores_of_a_clip() -> None:
    """A row for each patch, every score in [0, 1]."""
    scores = YAMNet(MODEL_FILE, CLASS_MAP).forward(noise(50_000))[0]
    assert scores.shape == (6, 521)
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.real_clips
def test_scores_are_made_of_the_embedding() -> None:
    """A linear layer and a sigmoid lead from it to the scores of other patches."""
    tagger = YAMNet(MODEL_FILE, CLASS_MAP)
    outputs = []
    for paths in clips_by_category(per_category=20).values():
        outputs += [tagger.forward(load_audio(path, 16_000)) for path in paths]
    scores, embedding = (torch.cat(part) for part in zip(*outputs, strict=True))
    assert embedding.shape == (len(scores), 1024)
    assert embedding.min() == 0
    assert torch.equal(
        outputs[0][0], tagger.forward(load_audio(paths_of_first(), 16_000))[0]
    )
    common = scores.mean(0).topk(3).indices
    logits = scores[:, common].clamp(1 / 256, 255 / 256).logit()
    x = torch.cat([embedding, torch.ones(len(scores), 1)], 1)
    fit = torch.linalg.lstsq(x[::2], logits[::2], driver="gelsd").solution
    left = (x[1::2] @ fit - logits[1::2]).var(0) / logits[1::2].var(0)
    assert left.max() < 0.3


@pytest.mark.real_clips
def test_a_class_map_of_another_model_is_refused(tmp_path: Path) -> None:
    """Names that do not fit the outputs are noticed at once."""
    class_map = tmp_path / "map.csv"
    class_map.write_text("index,mid,display_name\n0,/m/a,Dog\n")
    with pytest.raises(ValueError, match="its own class map"):
        YAMNet(MODEL_FILE, class_map)


@pytest.mark.parametrize(
    "content",
    [None, "", "index,name\n0,Rain\n", "index,mid,display_name\nfirst,/m/a,Rain\n"],
)
def test_read_class_names_names_the_bad_file(
    tmp_path: Path, content: str | None
) -> None:
    """A file that is no class map is one InputError that names option and file."""
    path = tmp_path / "names.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"class_names: .*names\.csv"):
        read_class_names(path)
