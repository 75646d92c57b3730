"""From a clip and prompts to explanations: windows, masks, sounds, similarities."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from lmaczs import __version__
from lmaczs.audio.io import save_audio
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import SAVED

WINDOWS_AT_ONCE = 8

SILENCE = 1e-6
"""Highest peak of what counts as digital silence: -120 dB re full scale, a thirtieth
of a step of 16-bit audio. A mask's sigmoid is never quite 0."""


@dataclass(frozen=True, eq=False)  # tensors have no one truth value to compare by
class Interpretation:
    """What in a recording made the model agree with a prompt. Tensors on the CPU.

    Attributes
    ----------
    prompt : str
        As it was given.
    masked_stft : Tensor [F, T], complex64
        Mask times STFT of the input.
    waveform : Tensor [samples], float32
        Its inverse: the explanation, as long as the input.
    residual : Tensor [samples], float32
        What the mask leaves out; the two sum to the input.
    mask : Tensor [F, T], float32
        In [0, 1].
    sample_rate : int
        Hz, of both sounds.
    similarity : float
        Of prompt and input, in [-1, 1].
    masked_similarity : float or None
        Of prompt and `waveform`, encoded again; None if that is silence to the model
        or was not to be encoded.
    residual_similarity : float or None
        Of prompt and `residual`, likewise.
    hop_length : int
        Samples from one column of `mask` to the next.
    model : str
        Name of the CLAP and decoder that were asked.
    """

    prompt: str
    masked_stft: Tensor
    waveform: Tensor
    residual: Tensor
    mask: Tensor
    sample_rate: int
    similarity: float
    masked_similarity: float | None
    residual_similarity: float | None
    hop_length: int
    model: str = ""

    @property
    def input(self) -> Tensor:
        """The waveform that was explained, the sum of its two parts."""
        return self.waveform + self.residual

    @property
    def empty(self) -> bool:
        """Whether the explanation is digital silence: the mask keeps no sound."""
        return is_silent(self.waveform)

    def to_dict(self) -> dict[str, str | float | int | None]:
        """Every scalar, as explanation.json holds it.

        Returns
        -------
        dict
            The scalar fields, empty, mask_mean, seconds (length of the recording)
            and lmaczs_version.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        scalars = {k: v for k, v in values.items() if not isinstance(v, Tensor)}
        return {
            **scalars,
            "empty": self.empty,
            "mask_mean": float(self.mask.mean()),
            "seconds": len(self.waveform) / self.sample_rate,
            "lmaczs_version": __version__,
        }

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write sounds, picture and numbers.

        Parameters
        ----------
        folder : str or Path
            Made when missing. Each file appears whole or not at all, in place of
            whatever has its name: a recording of such a name belongs elsewhere.

        Returns
        -------
        dict of str to Path
            explanation.wav and residual.wav (float WAV, no clipping),
            explanation.png, explanation.json, under these names.
        """
        from lmaczs.report.figures import explanation_figure, save_figure, title_of

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / name for name in SAVED}
        # first: it marks the other files as results, which may be replaced
        with atomic_write(paths["explanation.json"]) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1) + "\n", "utf-8")
        save_audio(paths["explanation.wav"], self.waveform, self.sample_rate)
        save_audio(paths["residual.wav"], self.residual, self.sample_rate)
        figure = explanation_figure(
            self.input,
            self.mask,
            self.masked_stft,
            self.sample_rate,
            self.hop_length,
            title_of(self.to_dict()),
        )
        save_figure(figure, paths["explanation.png"])
        return paths


@torch.no_grad()
def explain(
    clap: FrozenClap,
    decoder: MaskDecoder,
    wav: Tensor,
    prompts: Sequence[str],
    text: Tensor,
    verify: bool = True,
    model: str = "",
) -> list[Interpretation]:
    """Explain one clip for some prompts; the clip is encoded once.

    A clip that is longer than the encoder's input is taken in windows that overlap
    by half; their masks are cross-faded, and a similarity is the highest of the
    windows'. At most `WINDOWS_AT_ONCE` windows are in work at a time.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    decoder : MaskDecoder
        Trained for it.
    wav : Tensor [samples]
        At ``clap.front_end.sample_rate``.
    prompts : sequence of str
        As they are shown.
    text : Tensor [P, D]
        Embeddings of the prompts.
    verify : bool
        Whether explanation and residual are encoded again.
    model : str
        Name to be noted.

    Returns
    -------
    list of Interpretation
        One for each prompt, in their order.
    """
    front_end = clap.front_end
    wav = wav.to(clap.device)
    masks, similarity = masks_of_clip(clap, decoder, wav, text)
    spectrum = front_end.stft(wav[None])[0]
    results = []
    for row, prompt in enumerate(prompts):
        kept = masks[row] * spectrum
        waveform = front_end.istft(kept[None], len(wav))[0]
        residual = front_end.istft(((1 - masks[row]) * spectrum)[None], len(wav))[0]
        heard: list[float | None] = [None, None]
        if verify:
            heard = [
                _similarity(clap, sound, text[row : row + 1])
                for sound in (waveform, residual)
            ]
        results.append(
            Interpretation(
                prompt=prompt,
                masked_stft=kept.cpu(),
                waveform=waveform.cpu(),
                residual=residual.cpu(),
                mask=masks[row].cpu(),
                sample_rate=front_end.sample_rate,
                similarity=float(similarity[row]),
                masked_similarity=heard[0],
                residual_similarity=heard[1],
                hop_length=front_end.hop_length,
                model=model,
            )
        )
    return results


def masks_of_clip(
    clap: FrozenClap, decoder: MaskDecoder, wav: Tensor, text: Tensor
) -> tuple[Tensor, Tensor]:
    """Masks of a clip of any length, and its similarity to the prompts.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    decoder : MaskDecoder
        Trained for it.
    wav : Tensor [samples]
        On the model's device.
    text : Tensor [P, D]
        Embeddings of the prompts.

    Returns
    -------
    tuple of Tensor
        Masks [P, F, T] on the clip's grid and similarities [P].
    """
    front_end = clap.front_end
    frames = front_end.clip_frames(len(wav))
    total = torch.zeros(len(text), front_end.n_freqs, frames, device=wav.device)
    weight = torch.zeros(frames, device=wav.device)
    best = torch.full((len(text),), -1.0, device=wav.device)
    for starts, windows in _windows(wav, front_end.max_samples, front_end.hop_length):
        log_mel = front_end.log_mel(windows)
        encoding = clap.audio_features(log_mel)
        per_window = text.expand(len(windows), -1, -1)
        masks = decoder(per_window, encoding.features, log_mel)
        if decoder.domain == "mel":
            masks = front_end.expand_mask(masks)
        masks = front_end.crop_mask(masks, windows.shape[-1])
        fade = _cross_fade(masks.shape[-1], wav.device)
        for start, mask in zip(starts, masks, strict=True):
            first = start // front_end.hop_length
            # where the hop does not divide the length, the last window has one more
            inside = min(mask.shape[-1], frames - first)
            span = slice(first, first + inside)
            total[..., span] += mask[..., :inside] * fade[:inside]
            weight[span] += fade[:inside]
        best = torch.maximum(best, (encoding.embedding @ text.T).amax(0))
    # rounding may lift a weighted mean of ones above one
    return (total / weight).clamp_(0, 1), best


def similarities(clap: FrozenClap, wav: Tensor, text: Tensor) -> Tensor:
    """Similarity of a clip of any length to prompts: the highest of its windows'.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    wav : Tensor [samples]
        At its sampling rate, on its device.
    text : Tensor [P, D]
        Embeddings of the prompts.

    Returns
    -------
    Tensor [P]
        In [-1, 1].
    """
    front_end = clap.front_end
    best = torch.full((len(text),), -1.0, device=wav.device)
    for _, windows in _windows(wav, front_end.max_samples, front_end.hop_length):
        embedding = clap.audio_embedding(front_end.log_mel(windows))
        best = torch.maximum(best, (embedding @ text.T).amax(0))
    return best


def is_silent(wav: Tensor) -> bool:
    """Whether a waveform is digital silence, but for what rounding leaves.

    Parameters
    ----------
    wav : Tensor [samples]
        Full scale is 1.

    Returns
    -------
    bool
        Whether no sample exceeds `SILENCE`.
    """
    return float(wav.abs().max()) <= SILENCE


def _similarity(clap: FrozenClap, wav: Tensor, text: Tensor) -> float | None:
    """Similarity to one prompt, or None where there is nothing to be encoded."""
    if is_silent(wav) or not _reaches(clap, wav):
        return None
    return float(similarities(clap, wav, text)[0])


def _reaches(clap: FrozenClap, wav: Tensor) -> bool:
    """Whether the model's input differs from that of silence: sound in its band."""
    front_end = clap.front_end
    silence = front_end.log_mel(wav.new_zeros(1, 1)).max()
    return any(
        bool((front_end.log_mel(windows) > silence).any())
        for _, windows in _windows(wav, front_end.max_samples, front_end.hop_length)
    )


def window_starts(samples: int, size: int, hop_length: int) -> list[int]:
    """First samples of windows that overlap by half and cover a clip.

    Parameters
    ----------
    samples : int
        Length of the clip.
    size : int
        Length of a window.
    hop_length : int
        Starts are multiples of it, so that frames of windows are frames of the clip.

    Returns
    -------
    list of int
        The last window ends within one hop after the clip's last sample.
    """
    if samples <= size:
        return [0]
    step = size // 2 // hop_length * hop_length
    last = -(-(samples - size) // hop_length) * hop_length
    return [*range(0, last, step), last]


def _windows(wav: Tensor, size: int, hop_length: int) -> Iterator[tuple]:
    """Chunks of (starts, windows [n, samples]); the last window is padded by a hop."""
    starts = window_starts(len(wav), size, hop_length)
    length = min(len(wav), size)
    for i in range(0, len(starts), WINDOWS_AT_ONCE):
        chunk = starts[i : i + WINDOWS_AT_ONCE]
        cut = [wav[s : s + length] for s in chunk]
        padded = [torch.nn.functional.pad(c, (0, length - len(c))) for c in cut]
        yield chunk, torch.stack(padded)


def _cross_fade(frames: int, device: torch.device) -> Tensor:
    """Triangle, positive everywhere: windows at half overlap sum to a constant."""
    ramp = torch.arange(1, frames + 1, device=device, dtype=torch.float32)
    return torch.minimum(ramp, ramp.flip(0))
