"""notebook.py: an explanation as one element of HTML."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from lmaczs.explanation import Interpretation
from lmaczs.report.notebook import notebook_html

RATE, HOP, N_FFT = 16000, 160, 512
SCORES = {"presence": 0.99, "masked_presence": 0.97, "residual_presence": 0.125}


def interpretation(
    kept: Tensor, left: Tensor, prompt: str = "the low tone", **fields: object
) -> Interpretation:
    """What a mask makes of two sounds."""
    window = torch.hann_window(N_FFT)
    stft = torch.stft(kept + left, N_FFT, HOP, window=window, return_complex=True)
    mask = torch.full(stft.shape, 0.5 * bool(kept.any()))
    given = {"model": "tiny", "verdict": "kept", **SCORES, **fields}
    return Interpretation(
        *(prompt, stft, kept, left, mask, RATE, 0.5, 0.6, 0.1, HOP),
        **given,  # type: ignore[arg-type]
    )


def noise(seed: int, seconds: float = 0.5, peak: float = 0.1) -> Tensor:
    """Noise [samples]."""
    generator = torch.Generator().manual_seed(seed)
    return peak * (2 * torch.rand(round(seconds * RATE), generator=generator) - 1)


def sounds_of(html: str) -> list[np.ndarray]:
    """Samples of the players."""
    found = re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)
    read = [soundfile.read(io.BytesIO(base64.b64decode(one))) for one in found]
    assert all(rate == RATE for _, rate in read)
    return [samples for samples, _ in read]


class Tags(HTMLParser):
    """Checks that tags are closed in their order; keeps attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is opened, and what it links to."""
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """See that it is the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def test_events_are_a_table_that_stays_short() -> None:
    """Those that do not fit are counted."""
    one = interpretation(noise(0), noise(1))
    event = {"start": 0.25, "stop": 0.5, "low_hz": 430.2, "high_hz": 2000, "prompt": ""}
    event |= {"similarity": 0.5, "presence": 0.995, "mass": 0.1}
    sounds = {"input": one.input, "explanation": one.waveform, "residual": one.residual}
    for count, shown, more in ((0, 0, ""), (10, 10, ""), (12, 10, "2 more events")):
        record = {**one.to_dict(), "events": count * [event]}
        text = Tags(notebook_html(record, one.stft, one.mask, sounds)).text
        assert text.count("0.25 – 0.50") == text.count("430 – 2000") == shown
        assert ("more events" in text) == bool(more) and more in text
        assert ("Event, s" in text) == bool(count)


def test_it_holds_picture_players_and_verdict() -> None:
    """All three sounds, at their levels; nothing is fetched."""
    kept, left = noise(0), noise(1)
    html = interpretation(kept, left)._repr_html_()
    page = Tags(html)
    assert (
        all(link.startswith("data:") for link in page.links) and "<script" not in html
    )
    for found, sound in zip(sounds_of(html), (kept + left, kept, left), strict=True):
        assert found == pytest.approx(sound.numpy(), abs=1 / 32768)
    text = " ".join(page.text.split())
    assert "“the low tone” kept ahead of 99.0 % of the reference prompts:" in text
    assert "Explanation 97.0 % 0.600 Residual 12.5 % 0.100" in text
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    assert image.shape[1] == 825 and image.std() > 30


def test_prompts_are_text_not_html() -> None:
    """Whatever a prompt or a warning holds."""
    one = interpretation(noise(0), noise(1), "<script>x</script>", warnings=("a<b>",))
    html = one._repr_html_()
    assert "<script" not in html and "<b>”" not in html
    assert "“<script>x</script>”" in Tags(html).text


def test_an_empty_mask_is_a_line() -> None:
    """No black picture, no silent player."""
    silent = interpretation(torch.zeros(8000), noise(1), verdict="not heard")
    html = silent._repr_html_()
    assert len(sounds_of(html)) == 1 and "<img" not in html
    assert "nothing of it in this recording (empty mask)" in Tags(html).text


def test_what_is_too_loud_is_lowered_alike() -> None:
    """And a line says by how much: 6 dB of a peak of two."""
    kept, left = noise(0), noise(1, peak=0.5)
    kept[0], left[0] = 2.0, 0.0
    html = interpretation(kept, left)._repr_html_()
    for found, sound in zip(sounds_of(html), (kept + left, kept, left), strict=True):
        assert 2 * found == pytest.approx(sound.numpy(), abs=2e-4)
    assert "lowered by 6.0 dB" in Tags(html).text


def test_long_sounds_are_not_in_the_notebook() -> None:
    """A sentence says where they are."""
    long = interpretation(noise(0, 60.1), noise(1, 60.1))
    html = long._repr_html_()
    assert sounds_of(html) == [] and "save(folder) writes them" in Tags(html).text


def test_what_was_not_verified_says_so() -> None:
    """As with verify=False."""
    unknown = dict.fromkeys(["masked_presence", "residual_presence", "verdict"])
    one = interpretation(noise(0), noise(1), **unknown)
    assert "not verified" in Tags(one._repr_html_()).text


def test_the_representation_is_a_line() -> None:
    """Of words, without tensors."""
    one = interpretation(noise(0), noise(1))
    words = "kept, ahead of 99.0 % of the reference prompts"
    assert repr(one) == f"<Interpretation 'the low tone': {words}>"
