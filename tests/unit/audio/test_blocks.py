"""blocks.py: recordings block by block are those of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmaczs.audio.blocks import AudioBlocks, AudioWriter
from lmaczs.audio.io import AudioError, load_audio, read_recording


def noise(
    path: Path, seconds: float = 9.3, rate: int = 44100, channels: int = 2
) -> Path:
    """Write noise of several blocks."""
    generator = np.random.default_rng(0)
    samples = generator.uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


@pytest.mark.parametrize("rate", [44100, 32000, 48000, 8009])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_blocks_joined_are_the_whole(tmp_path: Path, name: str, rate: int) -> None:
    """At any rate and in any format, within 1e-5, and as long as stated."""
    blocks = AudioBlocks(noise(tmp_path / name), rate)
    joined = torch.cat(list(blocks.read()))
    whole = load_audio(tmp_path / name, rate)
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)
    assert blocks.samples == len(whole)


def test_blocks_are_small(tmp_path: Path) -> None:
    """No block is longer than two seconds, however long the recording is."""
    blocks = AudioBlocks(noise(tmp_path / "a.wav", 60), 32000)
    assert max(map(len, blocks.read())) < 64000


@pytest.mark.parametrize("first, last", [(0, 100), (70001, 150007), (290000, 1 << 40)])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_reading_may_begin_anywhere(
    tmp_path: Path, name: str, first: int, last: int
) -> None:
    """A stretch is that of the whole, whether the format can be sought in or not."""
    path = noise(tmp_path / name)
    joined = torch.cat(list(AudioBlocks(path, 32000).read(first, last)))
    whole = load_audio(path, 32000)[first:last]
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_stretches_are_cut_from_the_whole(tmp_path: Path, name: str) -> None:
    """Overlapping ones, equal ones, ones far apart, and ones at the end."""
    path = noise(tmp_path / name)
    whole = load_audio(path, 32000)
    end = len(whole)
    spans = [(5, 9), (5, 80000), (70000, 90000), (200000, 200001)]
    spans += [(end - 10, end + 10), (end + 5, end + 9)]
    found = list(AudioBlocks(path, 32000).cut(spans))
    assert len(found) == len(spans)
    for one, (first, last) in zip(found, spans, strict=True):
        torch.testing.assert_close(one, whole[first:last], atol=1e-5, rtol=0)


def test_samples_that_are_not_finite_are_refused_where_they_come(
    tmp_path: Path,
) -> None:
    """NaN late in a recording is an error once it is reached."""
    samples = np.zeros(200_000, np.float32)
    samples[150_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 32000, subtype="FLOAT")
    blocks = AudioBlocks(tmp_path / "a.wav", 32000).read()
    assert not next(blocks).any()
    with pytest.raises(AudioError, match="a.wav: it holds NaN"):
        list(blocks)


def test_a_recording_without_samples_is_refused(tmp_path: Path) -> None:
    """As when it is loaded whole."""
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 32000)
    with pytest.raises(AudioError, match="no samples"):
        list(AudioBlocks(tmp_path / "a.wav", 32000).read())


@pytest.mark.parametrize(
    "samples, name", [(None, "RF64"), (3, "WAV"), (1 << 31, "RF64")]
)
def test_what_is_written_is_read_back(
    tmp_path: Path, samples: int | None, name: str
) -> None:
    """Bit by bit, above full scale too; RF64 where a WAV might be too small."""
    wav = torch.tensor([0.1, -3.0, 1e-9])
    with AudioWriter(tmp_path / "new" / "a.wav", 32000, samples) as writer:
        for block in wav.split(2):
            writer.write(block)
    path = tmp_path / "new" / "a.wav"
    assert soundfile.info(path).format == name
    assert load_audio(path, 32000).tolist() == wav.tolist()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error in between leaves what was there, and nothing else."""
    path = tmp_path / "a.wav"
    path.write_text("mine")
    with pytest.raises(AudioError, match="NaN"), AudioWriter(path, 32000, 9) as writer:
        writer.write(torch.ones(3))
        assert path.read_text() == "mine"
        writer.write(torch.tensor([float("nan")]))
    assert path.read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["a.wav"]


def test_other_suffixes_are_not_written(tmp_path: Path) -> None:
    """WAV is what is written."""
    with pytest.raises(AudioError, match=r"end the name in \.wav"):
        AudioWriter(tmp_path / "a.flac", 32000)


def test_what_is_written_has_no_time(tmp_path: Path) -> None:
    """As with `save_audio`."""
    with AudioWriter(tmp_path / "a.wav", 8000, 100) as writer:
        writer.write(torch.ones(100))
    content = (tmp_path / "a.wav").read_bytes()
    place = content.index(b"PEAK")
    assert content[place + 12 : place + 16] == bytes(4)
    assert torch.equal(load_audio(tmp_path / "a.wav", 8000), torch.ones(100))


@settings(max_examples=60)
@given(
    format_=st.sampled_from(["WAV", "W64", "AU", "CAF", "AIFF", "FLAC", "OGG", "MP3"]),
    times=st.integers(1, 3),
    kept=st.floats(0.3, 1),
    rate=st.sampled_from([8000, 16000, 22050]),
    place=st.tuples(st.floats(0, 3), st.floats(0.01, 3)),
)
def test_faulty_recordings_are_the_same_in_blocks(
    encoded: Callable[..., bytes],
    tmp_path_factory: pytest.TempPathFactory,
    format_: str,
    times: int,
    kept: float,
    rate: int,
    place: tuple[float, float],
) -> None:
    """Joined and cut off anywhere: the whole, in blocks, a stretch, the warnings."""
    path = tmp_path_factory.mktemp("faulty") / "a"
    data = encoded(format_) * times
    path.write_bytes(data[: int(kept * len(data))])
    try:
        whole, warnings, _ = read_recording(path, rate)
    except AudioError as error:  # of so little nothing can be decoded
        assert "nothing is left of it" in str(error)
        return
    audio = AudioBlocks(path, rate)
    joined = torch.cat(list(audio.read()))
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)
    assert audio.warnings == warnings
    first, last = round(place[0] * rate), round(sum(place) * rate)
    stretch = torch.cat([torch.zeros(0), *audio.read(first, last)])
    torch.testing.assert_close(stretch, whole[first:last], atol=1e-5, rtol=0)


def test_blocks_of_one_channel(tmp_path: Path) -> None:
    """They are, joined, what `load_audio` reads of it."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (100_000, 2))
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    audio = AudioBlocks(tmp_path / "a.wav", 16000, channel=2)
    whole = load_audio(tmp_path / "a.wav", 16000, channel=2)
    torch.testing.assert_close(torch.cat(list(audio.read())), whole)


@pytest.mark.parametrize(
    "start, stop", [(None, 2.5), (1.25, None), (3.0, 4.1), (9, 99)]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_a_stretch_is_what_load_audio_reads(
    tmp_path: Path, name: str, start: float | None, stop: float | None
) -> None:
    """As long as stated; its samples count from its begin, in `cut` too."""
    path = noise(tmp_path / name)
    blocks = AudioBlocks(path, 32000, start=start, stop=stop)
    whole = load_audio(path, 32000, start=start, stop=stop)
    joined = torch.cat(list(blocks.read()))
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)
    assert blocks.samples == len(whole)
    (part,) = blocks.cut([(1000, 1 << 40)])
    torch.testing.assert_close(part, whole[1000:], atol=1e-5, rtol=0)


def test_a_stretch_beyond_the_end_is_empty(tmp_path: Path) -> None:
    """It has no sample."""
    blocks = AudioBlocks(noise(tmp_path / "a.wav"), 32000, start=99.0)
    assert blocks.samples == 0 and not list(blocks.read())
