"""What is added to clips: at which level, drawn from what, and that it can be repeated.

The clips are tones, a pitch for each label, so that a mixture shows what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.conditions import (
    CONDITIONS,
    CONTAMINATED,
    PRESETS,
    ContaminatedClips,
    Snr,
    contaminate,
    snr_by_condition,
)
from lmaczs.frontend import FrontEnd

RATE, SIZE = 32000, 160000  # of the tiny CLAP
PITCH = {"bell": 500, "cat": 1100, "dog": 2300}  # Hz
SPEECH = {"one": 4100, "two": 7000}
DOWN = 3.0  # dB, unless stated otherwise


@pytest.fixture(scope="module")
def front_end(tiny_clap: FrozenClap) -> FrontEnd:
    """Of the tiny CLAP: 5 s at 32 kHz."""
    return tiny_clap.front_end


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    """A tone that grows, so that a segment can be identified."""
    time = np.arange(round(seconds * RATE)) / RATE
    swell = 0.5 + 0.5 * time / seconds
    return level * swell * np.sin(2 * np.pi * hertz * time)


def write(path: Path, wav: np.ndarray) -> str:
    """Write a waveform without rounding."""
    soundfile.write(path, wav, RATE, subtype="FLOAT")
    return str(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two clips of 1 s a label, one of them 60 dB weaker."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for label, hertz in PITCH.items():
        for take, level in enumerate((0.3, 0.0003)):
            name = f"{label}{take}"
            path = write(folder / f"{name}.wav", tone(hertz, level=level))
            rows.append({"id": name, "path": path, "label": label})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A recording shorter than the clips, and a longer one."""
    folder = tmp_path_factory.mktemp("speech")
    seconds = dict(zip(SPEECH, (0.1, 3.0), strict=True))
    for name, hertz in SPEECH.items():
        write(folder / f"{name}.wav", tone(hertz, seconds[name], level=0.01))
    return [folder / f"{name}.wav" for name in SPEECH]


def items(data: ContaminatedClips) -> list[dict[str, Any]]:
    """All items of a data set."""
    return [data[index] for index in range(len(data))]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two items are equal, bit by bit."""
    rest = [{k: v for k, v in item.items() if k != "wav"} for item in (one, other)]
    return rest[0] == rest[1] and torch.equal(one["wav"], other["wav"])


def levels(wav: Tensor) -> dict[str, float]:
    """Energy around each pitch in the first second, in dB."""
    power = torch.fft.rfft(wav[:RATE].double()).abs().square()  # a bin a hertz
    pitches = {**PITCH, **SPEECH}
    found = {x: power[hz - 100 : hz + 100].sum() for x, hz in pitches.items()}
    return {x: float(10 * (value + 1e-30).log10()) for x, value in found.items()}


def found_in(wav: Tensor) -> set[str]:
    """Labels whose pitch is in a sound, down to 30 dB below the loudest."""
    found = levels(wav)
    return {x for x, value in found.items() if value > max(found.values()) - 30}


def noise(samples: int, seed: int) -> Tensor:
    """White noise of a fixed seed."""
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def slow_contaminate(clip: list[float], other: list[float], snr_db: float) -> list:
    """Add two sounds at unit energy, sample by sample, and divide by the peak."""
    energies = [sum(x * x for x in wav) ** 0.5 for wav in (clip, other)]
    gain = 10 ** (-snr_db / 20)
    mixture = []
    for a, b in zip(clip, other, strict=True):
        mixture.append(a / energies[0] + gain * b / energies[1])
    peak = max(abs(x) for x in mixture)
    return [x / peak for x in mixture]


# --- contaminate --------------------------------------------------------------------


@pytest.mark.parametrize("snr_db", [-30.0, 0.0, 3.0, 12.0])
def test_contamination_equals_the_definition(snr_db: float) -> None:
    """The SNR is as given, whatever the levels were."""
    clip, other = noise(90, 0), 0.1 + noise(90, 1)
    expected = slow_contaminate(clip.tolist(), other.tolist(), snr_db)
    for gains in ((1, 1), (1e-4, 30), (200, 1e-5)):
        found = contaminate(gains[0] * clip, gains[1] * other, snr_db).sum(0)
        assert found.tolist() == pytest.approx(expected, abs=1e-5)
        assert found.abs().max().item() == pytest.approx(1, abs=1e-6)


def test_contamination_with_silence() -> None:
    """A silent sound adds nothing, and two silences are silent."""
    wav, nothing = noise(50, 0), torch.zeros(50)
    expected = wav / wav.abs().max()
    both = torch.stack([expected, nothing])
    torch.testing.assert_close(contaminate(wav, nothing, 12.0), both)
    torch.testing.assert_close(contaminate(nothing, wav, 12.0), both.flip(0))
    assert torch.equal(contaminate(nothing, nothing, 12.0), 0 * both)


# --- the level ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Clips shorter than the encoder's length, as long, and longer; loud and weak."""
    folder, rows = tmp_path_factory.mktemp("lengths"), []
    for seconds in (0.05, 1.0, 1.7, 3.0, 5.0, 7.3):
        for (label, hertz), level in zip(PITCH.items(), (0.3, 0.9, 1e-4), strict=True):
            name = f"{label}{seconds}"
            path = write(folder / f"{name}.wav", tone(hertz, seconds, level))
            rows.append({"id": name, "path": path, "label": label})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("condition", CONTAMINATED)
@pytest.mark.parametrize(
    "snr_db", [3, -7.5, {"white noise": 6, "speech": 0}, "speechbrain_l_mac"]
)
def test_clips_have_the_snr_that_was_given(
    lengths: pd.DataFrame,
    front_end: FrontEnd,
    speech: list[Path],
    condition: str,
    snr_db: Snr,
) -> None:
    """By the power of clip and added sound, in what the encoder gets of the clip."""
    data = ContaminatedClips(lengths, front_end, condition, snr_db, speech=speech)
    wanted = snr_by_condition(snr_db)[condition]
    for index, row in enumerate(lengths.itertuples()):
        item, sources = data[index], data.sources(index)
        assert sources.shape == (2, SIZE)
        assert torch.equal(item["wav"], sources.sum(0))
        power = sources[:, : item["samples"]].double().square().mean(1)
        measured = 10 * (power[0] / power[1]).log10()
        assert measured.item() == pytest.approx(wanted, abs=1e-3)
        clip = torch.from_numpy(soundfile.read(row.path, dtype="float32")[0])
        clip = front_end.fit_length(clip[None])[0]
        torch.testing.assert_close(sources[0] / sources[0].norm(), clip / clip.norm())


def test_levels_by_condition() -> None:
    """A number is that of all, a condition without one has 3 dB, presets are named."""
    assert snr_by_condition(5) == dict.fromkeys(CONTAMINATED, 5.0)
    levels = {"mixture": 3.0, "white noise": 6.0, "speech": 3.0}
    assert snr_by_condition({"white noise": 6}) == levels
    half, quarter = 20 * np.log10(2), 20 * np.log10(4)
    levels = {"mixture": quarter, "white noise": half, "speech": quarter}
    assert snr_by_condition("speechbrain_l_mac") == pytest.approx(levels, abs=1e-4)
    assert set(PRESETS["speechbrain_l_mac"]) == set(CONTAMINATED)


@pytest.mark.parametrize(
    ("snr_db", "message"),
    [
        ("speechbrain", "is 'speechbrain': give a number of dB, speechbrain_l_mac, or"),
        ({"noise": 6}, "names 'noise': did you mean 'white noise'.; there are mixture"),
        ({"clean": 6}, "names 'clean'; there are mixture, white noise, speech"),
        ({"speech": "loud"}, "is 'loud' for speech: give a number of dB"),
        (True, "is True for mixture: give a number of dB"),
        (None, "is None for mixture: give a number of dB"),
        (float("nan"), "is nan for mixture: give a number of dB"),
    ],
)
def test_levels_that_cannot_be_are_refused(snr_db: Any, message: str) -> None:
    """The sentence names the option, what is wrong and what there is."""
    with pytest.raises(ValueError, match=f"^contamination_snr_db {message}"):
        snr_by_condition(snr_db)


# --- ContaminatedClips --------------------------------------------------------------


def test_clean_clips_are_as_they_are(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """Clean clips are read and fitted, and nothing else happens to them."""
    data = ContaminatedClips(clips, front_end, "clean", seed=3)
    assert len(data) == len(clips)
    for item, row in zip(items(data), clips.itertuples(), strict=True):
        wav = torch.from_numpy(soundfile.read(row.path, dtype="float32")[0])
        assert list(item) == ["id", "label", "wav", "samples"]
        assert (item["id"], item["label"]) == (row.id, row.label)
        assert item["samples"] == RATE
        assert torch.equal(item["wav"], front_end.fit_length(wav[None])[0])


def test_parts_of_recordings(front_end: FrontEnd, tmp_path: Path) -> None:
    """A clip with start and stop is that stretch, as a clip and as a partner."""
    wav = np.concatenate([tone(500), tone(1100)])
    path = write(tmp_path / "both.wav", wav)
    cut = {"path": [path] * 2, "start": [0.0, 1.0], "stop": [1.0, np.nan]}
    clips = pd.DataFrame({"id": ["a", "b"], "label": ["bell", "cat"], **cut})
    for item in items(ContaminatedClips(clips, front_end, "clean")):
        assert item["samples"] == RATE
        assert found_in(item["wav"]) == {item["label"]}
    for item in items(ContaminatedClips(clips, front_end, "mixture")):
        assert found_in(item["wav"]) == {"bell", "cat"}


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_contaminated_clips_have_a_peak_of_1(
    clips: pd.DataFrame, front_end: FrontEnd, speech: list[Path], condition: str
) -> None:
    """Whatever is added and however weak a clip is, the peak is 1 in every copy."""
    for item in items(ContaminatedClips(clips, front_end, condition, speech=speech)):
        copies = item["wav"].view(5, RATE)
        assert item["samples"] == RATE
        assert copies.abs().amax(1).tolist() == pytest.approx([1] * 5, abs=1e-6)
        assert all(torch.equal(copy, copies[0]) for copy in copies)


def test_partners_have_another_label(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """A mixture holds its clip and, 3 dB below, one of any other label."""
    pairs = set()
    for seed in range(6):
        for item in items(ContaminatedClips(clips, front_end, "mixture", seed=seed)):
            (other,) = found_in(item["wav"]) - {item["label"]}
            found = levels(item["wav"])
            assert found[item["label"]] - found[other] == pytest.approx(DOWN, abs=0.05)
            pairs.add((item["label"], other))
    assert pairs == {(a, b) for a in PITCH for b in PITCH if a != b}


@pytest.mark.parametrize("snr_db", [12, 0])
def test_level_of_noise(
    clips: pd.DataFrame, front_end: FrontEnd, snr_db: float
) -> None:
    """What is left without the clip has the stated level, and is white."""
    data = ContaminatedClips(clips, front_end, "white noise", snr_db)
    rests = []
    for item, path in zip(items(data), clips.path, strict=True):
        wav = item["wav"][:RATE].double()
        clip = torch.from_numpy(soundfile.read(path)[0])
        own = (wav @ clip) / (clip @ clip) * clip
        rests.append(wav - own)
        ratio = 20 * (own.norm() / rests[-1].norm()).log10()
        assert ratio.item() == pytest.approx(snr_db, abs=0.2)
        power = torch.fft.rfft(rests[-1]).abs().square()[1:].view(8, -1).mean(1)
        assert (power.max() / power.min()).item() < 1.3
    units = torch.stack([rest / rest.norm() for rest in rests])
    assert (units @ units.T - torch.eye(len(units))).abs().max() < 0.05


def test_speech_is_drawn_from_the_recordings(
    clips: pd.DataFrame, front_end: FrontEnd, speech: list[Path]
) -> None:
    """Each recording is mixed in 3 dB below the clip, and no other clip is."""
    drawn = set()
    for seed in range(4):
        data = ContaminatedClips(clips, front_end, "speech", seed=seed, speech=speech)
        for item in items(data):
            (other,) = found_in(item["wav"]) - {item["label"]}
            found = levels(item["wav"])
            assert found[item["label"]] - found[other] == pytest.approx(DOWN, abs=0.05)
            drawn.add(other)
    assert drawn == set(SPEECH)


def test_short_speech_is_repeated(
    clips: pd.DataFrame, front_end: FrontEnd, speech: list[Path]
) -> None:
    """Speech shorter than a clip fills all of it."""
    data = ContaminatedClips(clips, front_end, "speech", snr_db=-40, speech=speech[:1])
    for item in items(data):
        parts = item["wav"][:RATE].view(10, -1)  # each as long as the speech
        assert float(parts.norm(dim=1).min() / parts.norm(dim=1).max()) > 0.95


def test_long_speech_gives_a_drawn_stretch(
    clips: pd.DataFrame, front_end: FrontEnd, tmp_path: Path
) -> None:
    """Speech longer than a clip is cropped, differently for every clip."""
    whole = noise(3 * RATE, 0)
    path = write(tmp_path / "long.wav", whole.numpy())
    windows = torch.nn.functional.normalize(whole.unfold(0, 50, 1), dim=1)
    starts = set()
    for item in items(
        ContaminatedClips(clips, front_end, "speech", -80, speech=[path])
    ):
        wav = item["wav"][:RATE]
        start = int((windows @ wav[:50]).argmax())
        stretch = whole[start : start + RATE]
        expected = stretch / stretch.abs().max()
        torch.testing.assert_close(wav, expected, atol=1e-3, rtol=0)
        starts.add(start)
    assert len(starts) == len(clips)
    assert max(starts) - min(starts) > RATE / 2


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_items_depend_on_seed_and_clip(
    clips: pd.DataFrame, front_end: FrontEnd, speech: list[Path], condition: str
) -> None:
    """Neither order nor a global seed changes an item; another seed does."""
    make = [
        ContaminatedClips(clips, front_end, condition, 12, s, speech) for s in (7, 7, 8)
    ]
    torch.manual_seed(0)
    np.random.seed(0)
    ahead = items(make[0])
    torch.manual_seed(1)
    np.random.seed(1)
    behind = [make[1][i] for i in reversed(range(len(clips)))][::-1]
    assert all(same(a, b) for a, b in zip(ahead, behind, strict=True))
    assert not all(same(a, b) for a, b in zip(ahead, items(make[2]), strict=True))


@pytest.mark.parametrize("condition", ["clean", "white noise", "speech"])
def test_items_do_not_depend_on_other_clips(
    clips: pd.DataFrame, front_end: FrontEnd, speech: list[Path], condition: str
) -> None:
    """The same sound is added to a clip whatever else is in the data set."""
    some = clips.iloc[[4, 1, 3]]
    for few in (some, some[:1]):
        data = ContaminatedClips(clips, front_end, condition, speech=speech)
        whole = {item["id"]: item for item in items(data)}
        found = items(ContaminatedClips(few, front_end, condition, speech=speech))
        assert [item["id"] for item in found] == few.id.tolist()
        assert all(same(item, whole[item["id"]]) for item in found)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_silent_clips(
    front_end: FrontEnd, speech: list[Path], tmp_path: Path, condition: str
) -> None:
    """Silence makes no NaN, as a clip, as a partner and as both."""
    paths = [write(tmp_path / f"{i}.wav", np.zeros(RATE)) for i in range(2)]
    clips = pd.DataFrame({"id": ["a", "b"], "path": paths, "label": ["cat", "dog"]})
    for item in items(ContaminatedClips(clips, front_end, condition, speech=speech)):
        assert torch.isfinite(item["wav"]).all()
        silent = condition in ("clean", "mixture")
        assert item["wav"].abs().max().item() == pytest.approx(0 if silent else 1)
    write(tmp_path / "1.wav", tone(500))
    for item in items(ContaminatedClips(clips, front_end, "mixture")):
        assert found_in(item["wav"]) == {"bell"}
        assert item["wav"].abs().max().item() == pytest.approx(1)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_long_clips(
    front_end: FrontEnd, speech: list[Path], tmp_path: Path, condition: str
) -> None:
    """The samples of a clip beyond the encoder's length are those that it keeps."""
    paths = [write(tmp_path / f"{s}.wav", tone(500, s)) for s in (5.5, 0.5)]
    clips = pd.DataFrame({"id": ["a", "b"], "path": paths, "label": ["cat", "dog"]})
    found = items(ContaminatedClips(clips, front_end, condition, speech=speech))
    assert [item["samples"] for item in found] == [SIZE, RATE // 2]
    assert [item["wav"].shape for item in found] == [(SIZE,), (SIZE,)]


# --- bad input ----------------------------------------------------------------------


def test_unknown_conditions(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """A condition that there is not is refused, and those that there are are named."""
    with pytest.raises(ValueError, match="^condition is 'rain', not one of .*'speech'"):
        ContaminatedClips(clips, front_end, "rain")
    with pytest.raises(ValueError, match="did you mean 'white noise'"):
        ContaminatedClips(clips, front_end, "white_noise")


def test_speech_without_recordings(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """Speech that is nowhere cannot be added."""
    message = "^condition speech needs recordings: give --speech_folder$"
    with pytest.raises(ValueError, match=message):
        ContaminatedClips(clips, front_end, "speech")


def test_mixtures_of_one_label(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """Where all clips have one label, a mixture is refused and noise is not."""
    cats = clips[clips.label == "cat"]
    with pytest.raises(ValueError, match="^condition mixture needs clips of two label"):
        ContaminatedClips(cats, front_end, "mixture")
    assert len(ContaminatedClips(cats, front_end, "white noise")) == 2
