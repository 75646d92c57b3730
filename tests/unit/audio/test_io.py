"""audio.py: every recording becomes one mono float32 waveform, or one AudioError."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.io import (
    convert_audio,
    convert_recording,
    load_audio,
    read_recording,
    save_audio,
)
from lmaczs.audio.resampling import resample
from lmaczs.utils.errors import AudioError, AudioWarning

RATE = 16000
LOSSLESS = {
    "wav": ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"],
    "aiff": ["PCM_S8", "PCM_16", "PCM_24", "FLOAT"],
    "flac": ["PCM_S8", "PCM_16", "PCM_24"],
}
LOSSY = ["ogg", "mp3"]
FORMATS = [(ext, sub) for ext, subs in LOSSLESS.items() for sub in subs]


def tone(rate: int = RATE, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    """Return a sine of half amplitude, float64 [samples]."""
    time = np.arange(int(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * hertz * time)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **kwargs: str) -> Path:
    """Write [samples] or [samples, channels] with soundfile."""
    soundfile.write(path, samples, rate, **kwargs)
    return path


def error_of(source: Path | np.ndarray | torch.Tensor, rate: int | None = RATE) -> str:
    """Return the message with which a source is refused."""
    with pytest.raises(AudioError) as refusal:
        if isinstance(source, Path):
            load_audio(source, RATE, strict=True)
        else:
            convert_audio(source, rate, RATE)
    return str(refusal.value)


@pytest.mark.parametrize("extension, subtype", FORMATS)
def test_lossless_formats_give_the_samples_back(
    tmp_path: Path, extension: str, subtype: str
) -> None:
    """Every lossless sample format gives the signal back within its own rounding."""
    path = write(tmp_path / f"a.{extension}", tone(), subtype=subtype)
    wav = load_audio(path, RATE)
    rounding = 1 / 127 if subtype.endswith("8") else 1e-4
    assert wav.dtype == torch.float32
    np.testing.assert_allclose(wav, tone(), atol=rounding)


@pytest.mark.parametrize("extension", LOSSY)
def test_lossy_formats_give_the_sound_back(tmp_path: Path, extension: str) -> None:
    """OGG and MP3 keep the length, and a tone of at least 20 dB over their error."""
    path = write(tmp_path / f"a.{extension}", tone(44100), 44100)
    wav = load_audio(path, 44100)
    assert len(wav) == 44100
    inner = slice(4410, -4410)
    error = (wav.numpy() - tone(44100))[inner]
    assert np.mean(error**2) < 1e-2 * np.mean(tone(44100)[inner] ** 2)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff"])
def test_channels_are_mixed_before_resampling(tmp_path: Path, extension: str) -> None:
    """Six channels at another rate equal their mean, resampled: the order is fixed."""
    rng = np.random.default_rng(0)
    channels = rng.uniform(-0.3, 0.3, (8000, 6))
    path = write(tmp_path / f"a.{extension}", channels, 8000)
    stored, _ = soundfile.read(path, dtype="float32")
    mixture = torch.from_numpy(stored.mean(1))
    torch.testing.assert_close(load_audio(path, RATE), resample(mixture, 8000, RATE))


def test_channels_are_mixed_at_the_models_own_rate(tmp_path: Path) -> None:
    """A stereo file that needs no resampling is mixed all the same."""
    path = write(tmp_path / "a.wav", np.stack([tone(), 0 * tone()], 1), subtype="FLOAT")
    np.testing.assert_allclose(load_audio(path, RATE), tone() / 2, atol=1e-6)


def test_many_blocks_are_joined(tmp_path: Path) -> None:
    """A file longer than one block keeps every sample in its place."""
    samples = np.random.default_rng(0).uniform(-1, 1, 200_001).astype(np.float32)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(path, RATE), samples)


def test_float_files_are_not_clipped(tmp_path: Path) -> None:
    """Samples beyond full scale in a float file stay as they are."""
    path = write(tmp_path / "a.wav", 8 * tone(), subtype="FLOAT")
    assert load_audio(path, RATE).max() > 3.9


def test_the_files_own_rate_counts(tmp_path: Path) -> None:
    """A file states its rate, from which it is resampled."""
    path = write(tmp_path / "a.wav", tone(8000), 8000)
    assert len(load_audio(path, RATE)) == RATE


def unstated_flac(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Write FLAC as an encoder does to a pipe: total samples 0."""
    data = bytearray(write(path, samples, rate).read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    return path


def test_flac_of_unstated_length_is_read(tmp_path: Path) -> None:
    """It is read to its end."""
    path = unstated_flac(tmp_path / "a.flac", tone())
    np.testing.assert_allclose(load_audio(path, RATE), tone(), atol=1e-4)


# --- stretches ----------------------------------------------------------------------

STRETCHES = [(0.0, 0.5), (1.2, 1.7), (0.9871, None), (None, 0.3), (2.5, 9.0)]


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff", "mp3"])
@pytest.mark.parametrize("rates", [(44100, 32000), (32000, 32000), (16000, 22050)])
def test_a_stretch_is_cut_out_of_the_resampled_whole(
    tmp_path: Path, extension: str, rates: tuple[int, int]
) -> None:
    """Reading a part equals cutting it out, also where the filter would reach over."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * rates[0], 2))
    path = write(tmp_path / f"a.{extension}", noise, rates[0])
    whole = load_audio(path, rates[1])
    for start, stop in STRETCHES:
        found = load_audio(path, rates[1], start=start, stop=stop)
        begin = round((start or 0) * rates[1])
        end = None if stop is None else round(stop * rates[1])
        torch.testing.assert_close(found, whole[begin:end], atol=1e-5, rtol=0)


def test_a_stretch_of_a_file_of_unstated_length(tmp_path: Path) -> None:
    """FLAC that cannot be sought is cut as other files are."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 44100).astype(np.float32)
    path = unstated_flac(tmp_path / "a.flac", samples, 44100)
    whole = load_audio(path, RATE)
    found = load_audio(path, RATE, start=0.25, stop=0.75)
    torch.testing.assert_close(found, whole[4000:12000], atol=1e-5, rtol=0)
    with pytest.raises(AudioError, match="from 2 s on, it has 1 s"):
        load_audio(path, RATE, start=2.0)


def test_only_the_stretch_is_decoded(tmp_path: Path) -> None:
    """What lies a second away from a stretch is never looked at."""
    samples = np.append(tone(seconds=3), np.nan)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert len(load_audio(path, RATE, start=1.0, stop=2.0)) == RATE
    assert "NaN" in error_of(path)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("place", [(1.0, None), (3.0, 4.0), (0.5, 0.5), (0.6, 0.2)])
def test_an_empty_stretch_is_refused(
    tmp_path: Path, extension: str, place: tuple[float, float | None]
) -> None:
    """The message says where it should lie and how long the recording is."""
    path = write(tmp_path / f"a.{extension}", tone())
    with pytest.raises(AudioError, match=f"no sample from {place[0]:g} s .* has 1 s"):
        load_audio(path, RATE, start=place[0], stop=place[1])


@pytest.mark.parametrize("extension", ["flac", "mp3"])
def test_a_stretch_that_is_cut_off_is_refused(tmp_path: Path, extension: str) -> None:
    """A damaged file gives no shorter stretch than was meant."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE)
    path = write(tmp_path / f"a.{extension}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match="truncated"):
        load_audio(path, RATE, start=2.0, stop=4.0, strict=True)


# --- arrays -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", ">i2"])
def test_integers_are_scaled_by_their_dtype(dtype: str) -> None:
    """The least integer of a dtype is -1 and zero is 0."""
    low = np.iinfo(dtype).min
    wav = convert_audio(np.array([low, 0, -(low // 2)], dtype), RATE, RATE)
    assert wav.tolist() == [-1.0, 0.0, 0.5]


def test_uint8_is_centred_on_128() -> None:
    """Unsigned bytes follow WAV: 0 is -1, 128 is 0."""
    wav = convert_audio(np.array([0, 128, 192], np.uint8), RATE, RATE)
    assert wav.tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_become_float32_on_the_cpu(dtype: torch.dtype) -> None:
    """Any floating tensor is taken, mixed, and leaves the graph."""
    source = torch.tensor([[1.0, 0.5], [0.0, 0.5]], dtype=dtype, requires_grad=True)
    wav = convert_audio(source, RATE, RATE)
    assert wav.dtype == torch.float32 and not wav.requires_grad
    assert wav.tolist() == [0.5, 0.5]


def test_the_result_is_its_own_memory() -> None:
    """Writing to the result leaves the caller's array alone."""
    source = np.zeros(8, np.float32)
    convert_audio(source, RATE, RATE).fill_(1.0)
    assert not source.any()


@pytest.mark.parametrize(
    "source, reason",
    [
        (np.zeros((1, 2, 800)), "shape"),
        (np.zeros(()), "shape"),
        (np.zeros(0), "empty"),
        (np.zeros((2, 0)), "empty"),
        (np.zeros(80, np.int64), "int64"),
        (np.zeros(80, bool), "bool"),
        (np.zeros(80, complex), "complex"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "infinite"),
        (np.array([[np.inf, 0.0], [-np.inf, 0.0]]), "infinite"),
        (np.array([0.0, 1e300]), "infinite"),
        (torch.tensor([0.0, float("nan")]), "NaN"),
        ([0.0, 0.5], "list"),
        (None, "NoneType"),
    ],
)
def test_impossible_arrays_are_refused(source: np.ndarray, reason: str) -> None:
    """Shape, dtype, emptiness and non-finite samples each get their own reason."""
    assert reason in error_of(source)


@pytest.mark.parametrize("rate", [None, 0, -8000, 44100.5, float("nan"), "44100"])
def test_impossible_rates_are_refused(rate: int | None) -> None:
    """An array needs a positive integer rate."""
    assert "rate" in error_of(np.zeros(80, np.float32), rate)


@pytest.mark.parametrize("rate", [22050, 44100, RATE])
def test_an_array_gives_what_its_file_gives(tmp_path: Path, rate: int) -> None:
    """Mixed and resampled in the same way, whether array or tensor."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, rate)).astype(np.float32)
    path = write(tmp_path / "a.wav", samples.T, rate, subtype="FLOAT")
    for form in (samples, torch.from_numpy(samples)):
        found = convert_audio(form, rate, RATE)
        torch.testing.assert_close(found, load_audio(path, RATE), atol=1e-6, rtol=0)


def test_channels_come_first_or_last() -> None:
    """As torchaudio and librosa, or as soundfile lay them out."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 3))
    last = convert_audio(samples, RATE, RATE)
    assert torch.equal(last, convert_audio(samples.T, RATE, RATE))
    assert last.numpy() == pytest.approx(samples.mean(1), abs=1e-6)


# --- files that cannot be read ------------------------------------------------------


def test_missing_path_and_directory_are_refused(tmp_path: Path) -> None:
    """Each is named with its own reason."""
    missing = error_of(tmp_path / "no.wav")
    folder = error_of(tmp_path)
    assert "no.wav" in missing and "no such file" in missing
    assert str(tmp_path) in folder and "directory" in folder


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """libsndfile, and the links of a page, take names in UTF-8."""
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write(tmp_path / "a.wav", np.zeros(99)).rename(path)
    assert "its name is not UTF-8: rename it" in error_of(path)


def test_empty_files_are_refused(tmp_path: Path) -> None:
    """No bytes, and a whole header with no samples, are both empty."""
    (tmp_path / "none.wav").touch()
    header = write(tmp_path / "header.wav", np.zeros(0))
    assert "empty" in error_of(tmp_path / "none.wav")
    assert "empty" in error_of(header)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a.m4a", "a"])
def test_what_is_not_audio_is_refused_with_the_fix(tmp_path: Path, name: str) -> None:
    """Text under any name is refused, and the error says what to convert to."""
    path = tmp_path / name
    path.write_text("This is not a recording.\n" * 100)
    message = error_of(path)
    assert name in message and "convert it to WAV or FLAC" in message


@pytest.mark.parametrize("share", [0.97, 0.7, 0.2, 0.01])
@pytest.mark.parametrize("extension", ["wav", "aiff", "flac", "ogg", "mp3"])
def test_cut_off_files_are_refused(
    tmp_path: Path, extension: str, share: float
) -> None:
    """What libsndfile would read in part, saying nothing, is an error here."""
    rng = np.random.default_rng(0)
    path = write(tmp_path / f"a.{extension}", rng.uniform(-0.5, 0.5, 48000))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert str(path) in error_of(path)


@pytest.mark.parametrize("share", [0.97, 0.7])
@pytest.mark.parametrize(
    "extension", ["wav", "aiff", "flac", "mp3", "w64", "au", "caf"]
)
def test_cut_off_files_are_read_as_far_as_they_go(
    tmp_path: Path, extension: str, share: float
) -> None:
    """What is there is that of the whole, and a warning names the file."""
    rng = np.random.default_rng(0)
    path = write(tmp_path / f"a.{extension}", rng.uniform(-0.5, 0.5, 48000))
    whole, data = load_audio(path, RATE), path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.warns(AudioWarning, match=f"{path}: it is truncated"):
        found = load_audio(path, RATE)
    assert 0.9 * share * 48000 < len(found) < 48000
    inner = len(found) - 1200  # the last frames of MP3 overlap with what is lost
    torch.testing.assert_close(found[:inner], whole[:inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate, head", [(44100, b"\xff\xfb"), (22050, b"\xff\xf3")])
def test_mp3_of_varying_bit_rate_is_read_whole_without_an_index(
    tmp_path: Path, rate: int, head: bytes
) -> None:
    """libsndfile guesses the length from the first frames, which are loud here."""
    rng = np.random.default_rng(0)
    fading = rng.uniform(-1, 1, 10 * rate) * (np.arange(10 * rate) < rate)
    path = write(tmp_path / "a.mp3", fading, rate)
    whole = load_audio(path, rate)
    data = path.read_bytes()
    first = data.index(head)
    path.write_bytes(data[data.index(head, first + 4) :])
    assert soundfile.info(path).duration < 5
    found = load_audio(path, rate, strict=True)
    # without the index nobody knows the encoder's delay
    assert len(whole) <= len(found) <= len(whole) + 3 * 1152
    shifts = [found[at : at + 40000] for at in range(500, 1700)]
    errors = [float((one - whole[:40000]).abs().max()) for one in shifts]
    assert min(errors) < 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_files_with_samples_that_are_not_finite_are_refused(
    tmp_path: Path, bad: float
) -> None:
    """One NaN or infinite sample in a float file is enough."""
    samples = np.append(tone(), bad)
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert "NaN or infinite" in error_of(path)


def test_what_float32_cannot_hold_is_refused_without_noise(tmp_path: Path) -> None:
    """Neither a single channel nor a mean that overflows warns on the way."""
    samples = np.stack([1e300 * tone(), -1e300 * tone()], 1)
    path = write(tmp_path / "a.wav", samples, subtype="DOUBLE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for channel in (None, 1):
            with pytest.raises(AudioError, match="NaN or infinite"):
                read_recording(path, 16000, channel)


@given(
    extension=st.sampled_from(
        ["wav", "aiff", "flac", "ogg", "mp3", "w64", "au", "caf"]
    ),
    kept=st.floats(0, 1),
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    start=st.none() | st.floats(0, 0.6),
)
def test_damage_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory,
    extension: str,
    kept: float,
    damage: list[tuple[int, int]],
    start: float | None,
) -> None:
    """Any cut and damage give a finite waveform or an AudioError, nothing else."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    path = write(tmp_path_factory.mktemp("damage") / f"a.{extension}", noise)
    data = bytearray(path.read_bytes())
    for place, value in damage:
        data[place] = value
    path.write_bytes(data[: int(kept * len(data))])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            assert torch.isfinite(load_audio(path, RATE, start=start)).all()
    except AudioError as error:
        assert str(path) in str(error)


def test_a_whole_recording_comes_with_all_that_is_doubtful(tmp_path: Path) -> None:
    """What the file lacks, its levels, and the power above the model's rate."""
    path = write(tmp_path / "a.wav", 1e4 * tone(32000), 32000, subtype="FLOAT")
    path.write_bytes(path.read_bytes()[:-400])
    found = read_recording(path, RATE)
    with pytest.warns(AudioWarning, match="truncated"):
        torch.testing.assert_close(found.wav, load_audio(path, RATE))
    assert [text.split(":")[0] for text in found.warnings] == [
        "it is truncated",
        "its peak is 5000, and full scale is 1",
    ]
    assert found.lost_power == pytest.approx(1e8 / 8, rel=1e-2)
    assert read_recording(path, 32000).lost_power is None


def test_an_array_comes_with_what_is_doubtful_about_it() -> None:
    """As a file of it does."""
    samples = np.stack([1e4 * tone(), np.zeros(RATE)])
    found = convert_recording(samples, RATE, 8000)
    assert torch.equal(found.wav, convert_audio(samples, RATE, 8000))
    assert "its peak is 5000" in found.warnings[0]
    assert "channel 2 is silent" in found.warnings[1]
    assert found.lost_power == pytest.approx(float((samples.mean(0) ** 2).mean()))


@pytest.mark.parametrize("rate", [1, 7, 999, 1_000_003])
def test_rates_that_no_sound_has_are_refused(tmp_path: Path, rate: int) -> None:
    """Of files and of arrays, before anything is resampled."""
    path = write(tmp_path / "a.wav", tone(), rate)
    assert "1000 Hz and 1000 kHz" in error_of(path)
    assert "1000 Hz and 1000 kHz" in error_of(np.zeros(80, np.float32), rate)


# --- writing ------------------------------------------------------------------------


def test_saved_audio_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    """Float WAV keeps every sample, also beyond full scale, in a new folder."""
    wav = 3 * torch.randn(1001, generator=torch.Generator().manual_seed(0))
    path = save_audio(tmp_path / "new" / "a.wav", wav, 32000)
    assert soundfile.info(path).samplerate == 32000
    assert soundfile.info(path).subtype == "FLOAT"
    assert torch.equal(load_audio(path, 32000), wav)
    assert [p.name for p in path.parent.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("wav", [[0.0, np.nan], [0.0, np.inf], [[0.0], [0.1]], 0.5, []])
def test_what_is_no_waveform_is_not_written(tmp_path: Path, wav: list) -> None:
    """Nothing is left behind, and an older file under the name stays."""
    path = save_audio(tmp_path / "a.wav", torch.zeros(4), RATE)
    with pytest.raises(AudioError, match="a.wav"):
        save_audio(path, np.array(wav), RATE)
    assert load_audio(path, RATE).tolist() == [0.0] * 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_other_suffixes_are_not_written(tmp_path: Path) -> None:
    """A WAV file under the name of another format would mislead."""
    with pytest.raises(AudioError, match="wav"):
        save_audio(tmp_path / "a.flac", torch.zeros(4), RATE)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_one_channel_alone(tmp_path: Path, suffix: str) -> None:
    """It is what a file of that channel gives, whole or a stretch, at any rate."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 3))
    path = tmp_path / f"three{suffix}"
    soundfile.write(path, samples, 8000)
    for number in (1, 2, 3):
        alone = tmp_path / f"{number}{suffix}"
        soundfile.write(alone, samples[:, number - 1], 8000)
        for options in ({}, {"start": 0.1, "stop": 0.3}):
            found = load_audio(path, 16000, channel=number, **options)
            expected = load_audio(alone, 16000, **options)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for number in (0, 4, -1):
        with pytest.raises(AudioError, match=f"no channel {number}, but 3"):
            load_audio(path, 16000, channel=number)


def test_equal_sounds_are_equal_files(tmp_path: Path) -> None:
    """The header has no time of writing."""
    content = save_audio(tmp_path / "a.wav", np.ones(100), 8000).read_bytes()
    place = content.index(b"PEAK")
    assert content[place + 12 : place + 16] == bytes(4)
    again, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert (again == 1).all()
