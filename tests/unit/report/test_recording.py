"""recording.py: a recording's explanations in a folder, as the page needs them."""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch

from lmaczs.explanation import Interpretation
from lmaczs.mask_events import WindowScores
from lmaczs.report.html import write_page
from lmaczs.report.recording import page_entries, save_recording

RATE, HOP, N_FFT = 16000, 160, 512
WINDOW = torch.full([257], 1 / 257), 500, (0,)


def interpretation(
    prompt: str, kept: torch.Tensor, left: torch.Tensor
) -> Interpretation:
    """What a mask makes of two sounds."""
    window = torch.hann_window(N_FFT)
    stft = torch.stft(kept + left, N_FFT, HOP, window=window, return_complex=True)
    mask = torch.full(stft.shape, 0.5 * bool(kept.any()))
    scores = prompt, stft, kept, left, mask, RATE, 0.5, 0.6, 0.1, HOP
    windows = WindowScores(*WINDOW, torch.tensor([0.5]), torch.tensor([0.99]))
    return Interpretation(*scores, verdict="kept", presence=0.99, windows=windows)


def test_a_page_can_be_written_of_what_is_saved(tmp_path: Path) -> None:
    """Two prompts of one slug have a folder each; an empty one has no FLAC."""
    noise = torch.rand(2, 8000, generator=torch.manual_seed(0)) - 0.5
    results = [
        interpretation("a dog", *noise),
        interpretation("a  dog!", 0 * noise[0], noise.sum(0)),
    ]
    home = tmp_path / "one"
    save_recording(home, results)
    entries = list(page_entries(home, results, "one.wav"))
    assert [one.record["prompt"] for one in entries] == ["a dog", "a  dog!"]
    first, second = (one.folder for one in entries)
    # a mask that is the same everywhere is one event
    assert [[one["stop"] for one in entry.events] for entry in entries] == [[0.5], []]
    assert first != second and first.parent == second.parent == home
    assert (first / "explanation.flac").is_file()
    assert (second / "explanation.wav").is_file()
    assert not (second / "explanation.flac").exists()
    samples, rate = soundfile.read(home / "input.wav", dtype="float32")
    assert rate == RATE and torch.allclose(torch.from_numpy(samples), noise.sum(0))
    text = write_page(tmp_path, entries, single_file=True).read_text("utf-8")
    assert 'id="data-1"' in text and "one.wav" in text
    assert text.count('class="box"') == 1
