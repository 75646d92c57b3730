"""uploads.py: limits before decoding, and files that are removed after use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lmaczs.app.limits import Limits
from lmaczs.app.uploads import (
    Uploads,
    check_upload,
    prompts_in,
    read_upload,
    with_warnings,
)
from lmaczs.audio.io import AudioError, load_audio
from lmaczs.utils.errors import InputError

RATE = 16000
LIMITS = Limits(megabytes=0.2, seconds=2, prompts=3, characters=10)


@dataclass(frozen=True)
class Result:
    """What has warnings, as interpretations do."""

    warnings: tuple[str, ...]


def write(path: Path, seconds: float, rate: int = RATE) -> Path:
    """Write noise."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, (round(seconds * rate), 1))
    soundfile.write(path, samples, rate)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_what_is_within_the_limits(tmp_path: Path, name: str) -> None:
    """It is read as any file is; two seconds are not more than two."""
    path = write(tmp_path / name, 1.8 if name == "a.mp3" else 2.0)
    recording = read_upload(path, LIMITS, 32000)
    assert torch.equal(recording.wav, load_audio(path, 32000))
    assert recording.warnings == ()


def test_what_is_doubtful_about_a_file_comes_with_its_results(tmp_path: Path) -> None:
    """Before what is doubtful about a result, and once."""
    path = write(tmp_path / "a.wav", 1.0)
    path.write_bytes(path.read_bytes()[:-999])
    recording = read_upload(path, LIMITS, RATE)
    (text,) = recording.warnings
    assert text.startswith("it is truncated")
    results = [Result(("about the prompt",)), Result((text,))]
    found = with_warnings(results, recording)
    assert [one.warnings for one in found] == [(text, "about the prompt"), (text,)]


def test_what_is_too_large_or_too_long(tmp_path: Path) -> None:
    """Size and length are in the message, with what is taken."""
    large = write(tmp_path / "large.wav", 1.0, 192000)
    with pytest.raises(AudioError, match="^large.wav: it has 0.4 MB, at most 0.2 are"):
        read_upload(large, LIMITS, RATE)
    for name in ("long.flac", "long.ogg", "long.mp3"):
        long = write(tmp_path / name, 2.5, 8000)
        with pytest.raises(AudioError, match=f"^{name}: it is .*, at most 2 s are"):
            read_upload(long, LIMITS, RATE)


def test_length_is_known_before_decoding(tmp_path: Path) -> None:
    """A file whose second half is garbage is refused for its length, not for that."""
    path = write(tmp_path / "a.flac", 9.0, 8000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="it is 9.0 s long"):
        check_upload(path, LIMITS)


def test_a_length_that_is_not_stated(tmp_path: Path) -> None:
    """No more than the limit is decoded; then it is too long."""
    path = write(tmp_path / "a.flac", 9.0, 8000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # of STREAMINFO: 36 bits, the number of samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    check_upload(path, LIMITS)
    with pytest.raises(AudioError, match="^a.flac: it is longer, at most 2 s"):
        read_upload(path, LIMITS, RATE)


def test_messages_have_no_folder(tmp_path: Path) -> None:
    """What is no audio, or gone, is named as the user knows it."""
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    for path, reason in ((text, "no audio in a"), (tmp_path / "b.wav", "no longer")):
        with pytest.raises(AudioError, match=reason) as error:
            read_upload(path, LIMITS, RATE)
        assert str(error.value).startswith(f"{path.name}: ")
        assert str(tmp_path) not in str(error.value)


def test_prompts_are_lines() -> None:
    """Blanks and repetitions do not count."""
    assert prompts_in(" dog \n\nrain\ndog\n", LIMITS) == ["dog", "rain"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n", "there is no prompt: type one a line"),
        ("a\nb\nc\nd", "there are 4 prompts, at most 3 are taken"),
        ("a dog barking", "a prompt has 13 characters, at most 10"),
    ],
)
def test_prompts_that_are_refused(text: str, reason: str) -> None:
    """Each in a sentence."""
    with pytest.raises(InputError, match=reason):
        prompts_in(text, LIMITS)


def test_files_are_removed_when_no_session_needs_them(tmp_path: Path) -> None:
    """A new file, or the end, removes the one before, unless another session has it."""
    a, b, sample = (write(tmp_path / f"{name}.wav", 0.1) for name in "abc")
    uploads = Uploads([sample])
    uploads.use("one", a)
    uploads.use("one", a)
    uploads.use("two", str(a))
    uploads.use("one", b)
    assert a.exists() and b.exists()
    uploads.use("two", sample)
    assert not a.exists()
    uploads.end("one")
    uploads.end("two")
    uploads.end("who")
    assert [path.exists() for path in (b, sample)] == [False, True]
