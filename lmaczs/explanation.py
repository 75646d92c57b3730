"""From a clip and prompts to explanations: windows, masks, sounds, similarities."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lmaczs import __version__
from lmaczs.audio.io import save_audio
from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.frontend import FrontEnd
from lmaczs.utils.files import atomic_write
from lmaczs.utils.naming import SAVED

SILENCE = 1e-6
"""Highest peak of what counts as digital silence: -120 dB re full scale, a thirtieth
of a step of 16-bit audio. A mask's sigmoid is never quite 0."""


@dataclass(frozen=True, eq=False)  # tensors have no one truth value to compare by
class Interpretation:
    """What in a recording made the model agree with a prompt. Tensors on the CPU.

    Attributes
    ----------
    prompt : str
        As given, without the template.
    stft : Tensor [F, T], complex64
        Of the input, shared by the interpretations of one recording.
    waveform : Tensor [samples], float32
        The explanation (masked-in sound): ISTFT of `masked_stft`.
    residual : Tensor [samples], float32
        The masked-out sound; both sum to the input.
    mask : Tensor [F, T], float32
        In [0, 1].
    sample_rate : int
        Hz.
    similarity : float
        Cosine of prompt and input, in [-1, 1].
    masked_similarity : float or None
        Cosine of prompt and `waveform`, encoded again; None if that is silence to the
        model, or with ``verify=False``.
    residual_similarity : float or None
        The same for `residual`.
    hop_length : int
        Samples per column of `mask`.
    model : str
        Name of the CLAP and decoder.
    """

    prompt: str
    stft: Tensor
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
    def masked_stft(self) -> Tensor:
        """Mask times STFT of the input, [F, T], complex64."""
        return self.mask * self.stft

    @property
    def input(self) -> Tensor:
        """The explained waveform [samples], the sum of its two parts."""
        return self.waveform + self.residual

    @property
    def empty(self) -> bool:
        """Whether the explanation is digital silence."""
        return is_silent(self.waveform)

    def to_dict(self) -> dict[str, str | float | int | None]:
        """Every scalar field, empty, mask_mean, seconds (length) and lmaczs_version."""
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
            Created if missing. Files with the names below are replaced, each
            atomically.

        Returns
        -------
        dict of str to Path
            explanation.wav and residual.wav (float WAV, no clipping),
            explanation.png, explanation.json, by name.
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
        seconds = len(self.waveform) / self.sample_rate
        title = title_of(self.to_dict())
        figure = explanation_figure(
            self.stft, self.mask, self.sample_rate, seconds, title
        )
        save_figure(figure, paths["explanation.png"])
        return paths


@torch.no_grad()
def explain(
    clap: FrozenClap,
    decoder: Decoder,
    wav: Tensor,
    prompts: Sequence[str],
    text: Tensor,
    verify: bool = True,
    model: str = "",
    windows_at_once: int = 8,
) -> list[Interpretation]:
    """Explain one clip for one or more prompts; see `explain_batch`."""
    (explained,) = explain_batch(
        clap, decoder, [wav], [prompts], [text], verify, model, windows_at_once
    )
    return explained


@torch.no_grad()
def explain_batch(
    clap: FrozenClap,
    decoder: Decoder,
    wavs: Sequence[Tensor],
    prompts: Sequence[Sequence[str]],
    texts: Sequence[Tensor],
    verify: bool = True,
    model: str = "",
    windows_at_once: int = 8,
) -> list[list[Interpretation]]:
    """Explain clips, each for its own prompts; every clip is encoded once.

    A clip longer than the encoder's input is split into windows that overlap by half;
    their masks are cross-faded, and the highest of their similarities is taken.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    decoder : Decoder
        Trained for `clap`.
    wavs : sequence of Tensor [samples]
        Clips of any lengths, at ``clap.front_end.sample_rate``.
    prompts : sequence of sequence of str
        The prompts of each clip, for the results.
    texts : sequence of Tensor [P, D]
        Their embeddings, for each clip.
    verify : bool
        Whether explanations and residuals are encoded again.
    model : str
        Name of the model, for the results.
    windows_at_once : int
        Most windows in one batch of the encoder.

    Returns
    -------
    list of list of Interpretation
        For each clip one per prompt, in their order.
    """
    front_end = clap.front_end
    wavs = [wav.to(clap.device) for wav in wavs]
    spectra = [front_end.stft(wav[None])[0] for wav in wavs]
    masks, similarity = _masks(clap, decoder, wavs, texts, windows_at_once, spectra)
    drafts = []
    for number, (wav, spectrum) in enumerate(zip(wavs, spectra, strict=True)):
        for row, prompt in enumerate(prompts[number]):
            kept = front_end.istft((masks[number][row] * spectrum)[None], len(wav))[0]
            sounds = kept, wav - kept  # the ISTFT is linear
            drafts.append((number, row, prompt, sounds))
    scores: list[float | None] = [None for _ in range(2 * len(drafts))]
    if verify:
        sounds_of_all = [sound for *_, sounds in drafts for sound in sounds]
        rows = [texts[n][row] for n, row, *_ in drafts for _ in range(2)]
        scores = _verified(clap, sounds_of_all, rows, windows_at_once)
    shown = [spectrum.cpu() for spectrum in spectra]  # shared by a clip's prompts
    results: list[list[Interpretation]] = [[] for _ in wavs]
    for draft, masked, left in zip(drafts, scores[::2], scores[1::2], strict=True):
        number, row, prompt, (waveform, residual) = draft
        results[number].append(
            Interpretation(
                prompt=prompt,
                stft=shown[number],
                waveform=waveform.cpu(),
                residual=residual.cpu(),
                mask=masks[number][row].cpu(),
                sample_rate=front_end.sample_rate,
                similarity=float(similarity[number][row]),
                masked_similarity=masked,
                residual_similarity=left,
                hop_length=front_end.hop_length,
                model=model,
            )
        )
    return results


def masks_of_clip(
    clap: FrozenClap,
    decoder: Decoder,
    wav: Tensor,
    text: Tensor,
    windows_at_once: int = 8,
) -> tuple[Tensor, Tensor]:
    """Masks [P, F, T] on the clip grid and similarities [P], for a clip of any length.

    From the clip's waveform [samples] and the prompts' embeddings [P, D].
    """
    masks, similarity = _masks(clap, decoder, [wav], [text], windows_at_once)
    return masks[0], similarity[0]


def _masks(
    clap: FrozenClap,
    decoder: Decoder,
    wavs: Sequence[Tensor],
    texts: Sequence[Tensor],
    windows_at_once: int,
    spectra: Sequence[Tensor] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Masks [P, F, T] and similarities [P] of each clip."""
    front_end = clap.front_end
    padded = pad_sequence(list(texts), batch_first=True)
    sizes = [(front_end.n_freqs, front_end.clip_frames(len(wav))) for wav in wavs]
    fades = [_CrossFade(len(t), *n, t) for t, n in zip(texts, sizes, strict=True)]
    best = [text.new_full((len(text),), -1.0) for text in texts]
    for places, log_mel in _windows(front_end, wavs, windows_at_once, spectra):
        encoding = clap.audio_features(log_mel)
        text = padded[[clip for clip, _ in places]]
        masks = decoder(text, encoding.features, log_mel)
        if decoder.domain == "mel":
            masks = front_end.expand_mask(masks)
        cosines = (text @ encoding.embedding[..., None])[..., 0]
        for (clip, start), mask, cosine in zip(places, masks, cosines, strict=True):
            prompts = len(texts[clip])
            mask = front_end.crop_mask(mask[:prompts], len(wavs[clip]))
            fades[clip].add(start // front_end.hop_length, mask)
            best[clip] = torch.maximum(best[clip], cosine[:prompts])
    return [fade.mean() for fade in fades], best


def similarities(
    clap: FrozenClap, wav: Tensor, text: Tensor, windows_at_once: int = 8
) -> Tensor:
    """Similarity [P] of a clip [samples] to prompts [P, D]: its best window's."""
    best = text.new_full((len(text),), -1.0)
    for _, log_mel in _windows(clap.front_end, [wav], windows_at_once):
        embedding = clap.audio_embedding(log_mel)
        best = torch.maximum(best, (embedding @ text.T).amax(0))
    return best


def is_silent(wav: Tensor) -> bool:
    """Whether no sample of a waveform [samples] exceeds `SILENCE`."""
    return float(wav.abs().max()) <= SILENCE


def _verified(
    clap: FrozenClap,
    sounds: Sequence[Tensor],
    texts: Sequence[Tensor],
    windows_at_once: int,
) -> list[float | None]:
    """Similarity of each sound to its prompt [D]; None for silence to the model.

    That is digital silence, or sound entirely outside the model's band.
    """
    found = [number for number, sound in enumerate(sounds) if not is_silent(sound)]
    present, best = set(), [-1.0] * len(sounds)
    front_end = clap.front_end
    nothing = torch.zeros(1, front_end.n_mels, 1, device=clap.device)
    silence = front_end.to_log_mel(nothing).max()
    audible = [sounds[number] for number in found]
    for places, log_mel in _windows(front_end, audible, windows_at_once):
        numbers = [found[place] for place, _ in places]
        text = torch.stack([texts[number] for number in numbers])
        cosines = (clap.audio_embedding(log_mel) * text).sum(1).tolist()
        reaches = (log_mel > silence).flatten(1).any(1).tolist()
        for number, cosine, reached in zip(numbers, cosines, reaches, strict=True):
            best[number] = max(best[number], cosine)
            if reached:
                present.add(number)
    return [best[n] if n in present else None for n in range(len(sounds))]


def window_starts(samples: int, size: int, hop_length: int) -> list[int]:
    """First samples of windows that overlap by half and cover a clip.

    Multiples of the hop, so that a window's frames are frames of the clip; the last
    window ends at most one hop after the clip.
    """
    if samples <= size:
        return [0]
    step = size // 2 // hop_length * hop_length
    last = -(-(samples - size) // hop_length) * hop_length
    return [*range(0, last, step), last]


def _windows(
    front_end: FrontEnd,
    wavs: Sequence[Tensor],
    at_once: int,
    spectra: Sequence[Tensor] | None = None,
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Batches of windows: (clip, first sample) of each, log-mel [n, C, T, n_mels]."""
    size, hop_length = front_end.max_samples, front_end.hop_length

    def log_mel(clip: int, start: int) -> Tensor:
        wav = wavs[clip]
        if spectra is not None and len(wav) == size:
            return front_end.stft_to_log_mel(spectra[clip][None])
        window = wav[start : start + size]
        lacking = min(len(wav), size) - len(window)
        return front_end.log_mel(torch.nn.functional.pad(window, (0, lacking))[None])

    places = [
        (clip, start)
        for clip, wav in enumerate(wavs)
        for start in window_starts(len(wav), size, hop_length)
    ]
    for first in range(0, len(places), at_once):
        batch = places[first : first + at_once]
        yield batch, torch.cat([log_mel(*place) for place in batch])


class _CrossFade:
    """Mean of the masks of a clip's windows, weighted with triangular windows."""

    def __init__(self, prompts: int, n_freqs: int, frames: int, like: Tensor) -> None:
        self.total = like.new_zeros(prompts, n_freqs, frames)
        self.weight = like.new_zeros(frames)

    def add(self, first: int, masks: Tensor) -> None:
        """Add masks [P, F, T] of a window that starts at the clip's column `first`."""
        ramp = torch.arange(1, masks.shape[-1] + 1, device=masks.device)
        # positive everywhere: windows at half overlap sum to a constant
        fade = torch.minimum(ramp, ramp.flip(0)).to(masks.dtype)
        # where the hop does not divide the length, the last window has one more
        inside = min(masks.shape[-1], len(self.weight) - first)
        self.total[..., first : first + inside] += masks[..., :inside] * fade[:inside]
        self.weight[first : first + inside] += fade[:inside]

    def mean(self) -> Tensor:
        """Masks [P, F, T], clamped: rounding may lift a mean of ones above 1."""
        return (self.total / self.weight).clamp_(0, 1)
