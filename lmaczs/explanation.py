"""From a clip and prompts to explanations: windows, masks, sounds, similarities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lmaczs import __version__
from lmaczs.audio.io import save_audio
from lmaczs.audio.scales import hz_to_mel
from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.contrast import (
    ContrastOptions,
    contrast_masks,
    margins,
    relative_masks,
    rivals_of,
)
from lmaczs.decoder import Decoder
from lmaczs.events import Event, activity_weights, event_table
from lmaczs.frontend import Domain, FrontEnd, power
from lmaczs.mask_events import MaskEvents, WindowScores
from lmaczs.presence import asked_of, presence_in, reference_text
from lmaczs.refinement import RefinementOptions, refine
from lmaczs.utils.naming import SAVED
from lmaczs.utils.result_folder import write_record
from lmaczs.verdict import Verdict, verdict_of, verdict_of_contrast

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Part = Literal["input", "mask", "explanation", "residual"]

AT_ONCE = {"cpu": 8, "cuda": 32}
"""Most windows in one batch of the encoder, by device: a GPU is hardly busy with one
window, of which each batch starts as many kernels as of many. Masks for several prompts
of a clip count as windows, down to the CPU's number, because of their memory."""

SILENCE = 1e-6
"""Highest peak of what counts as digital silence: -120 dB re full scale, a thirtieth
of a step of 16-bit audio. A mask's sigmoid is never quite 0."""


@dataclass(
    frozen=True, eq=False, repr=False
)  # tensors have no one truth value to compare by
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
    presence : float or None
        Fraction of the reference prompts (`lmaczs.presence`) that are less similar to
        the input, in the window where the prompt is most similar; None if the input is
        silence to the model.
    masked_presence, residual_presence : float or None
        The same for `waveform` and `residual`; None as their similarities.
    verdict : {"kept", "partly kept", "not kept", "not heard"} or None
        See `lmaczs.verdict.verdict_of`; None with ``verify=False``.
    refine_steps : int
        Steps of test-time refinement that the mask took, see `lmaczs.refinement`; of
        the windows of a long input, the most.
    warnings : tuple of str
        What is doubtful about prompt or input, a sentence each.
    prompt_audio : str or None
        The recording that is the prompt, whose name `prompt` then is.
    contrast : tuple of str
        The prompts that this one is explained against.
    margin : float or None
        Similarity less that of the most similar contrast, both in the window where the
        prompt is most similar; None without a contrast, or for silence to the model.
    masked_margin, residual_margin : float or None
        The same for `waveform` and `residual`.
    recording : str or None
        Absolute path of the file that was explained; None for a waveform.
    recording_sha256 : str or None
        Of its bytes, in hexadecimal digits.
    channel : int or None
        The only channel that was explained, from 1 on; None for the mean over all.
    windows : WindowScores or None
        The prompt's scores in each window that was explained; without them there are no
        `events`.
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
    presence: float | None = None
    masked_presence: float | None = None
    residual_presence: float | None = None
    verdict: Verdict | None = None
    refine_steps: int = 0
    warnings: tuple[str, ...] = ()
    prompt_audio: str | None = None
    contrast: tuple[str, ...] = ()
    margin: float | None = None
    masked_margin: float | None = None
    residual_margin: float | None = None
    recording: str | None = None
    recording_sha256: str | None = None
    channel: int | None = None
    windows: WindowScores | None = None

    def __repr__(self) -> str:
        """Prompt and verdict in words, on one line: its tensors would fill a screen."""
        from lmaczs.report.words import verdict_words

        words = verdict_words(self.to_dict())
        return f"<Interpretation {self.prompt!r}: {words}>"

    def _repr_html_(self) -> str:
        """Show it in a notebook, see `lmaczs.report.notebook`."""
        from lmaczs.report.notebook import notebook_html

        sounds = {"input": self.input, "explanation": self.waveform}
        sounds["residual"] = self.residual
        return notebook_html(self.to_dict(), self.stft, self.mask, sounds)

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

    @property
    def mel_area(self) -> float:
        """Mean of the mask with frequency spaced in mel, as it is drawn, in [0, 1]."""
        return mel_area(self.mask.mean(1), self.sample_rate)

    @property
    def margin_kept(self) -> float | None:
        """Masked margin over margin, above 1 where it grows; None for no lead."""
        return kept_of_margin(self.margin, self.masked_margin)

    @property
    def events(self) -> pd.DataFrame:
        """When, and in which band, the mask is: a row an event, as `find_events` has.

        See `lmaczs.mask_events` for the rule. Empty for a prompt that is not heard.
        """
        return event_table(self._events)

    @cached_property
    def _events(self) -> list[Event]:
        if self.windows is None or self.empty:
            return []
        per_second = self.sample_rate / self.hop_length
        found = MaskEvents(self.windows.weights, self.windows.columns, per_second)
        found.add(self.mask, power(self.masked_stft))
        seconds = len(self.waveform) / self.sample_rate
        return found.finish(self.prompt, self.windows, seconds, self.sample_rate / 2)

    def to_dict(self) -> dict[str, Any]:
        """Every field but tensors, and what is derived from tensors, by name.

        margin_kept, empty, mask_mean, mel_area, seconds (length), events (a list of
        dict); and lmaczs_version.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        scalars = {
            k: v
            for k, v in values.items()
            if k != "windows" and not isinstance(v, Tensor)
        }
        return {
            **scalars,
            "warnings": list(self.warnings),
            "contrast": list(self.contrast),
            "margin_kept": self.margin_kept,
            "empty": self.empty,
            "mask_mean": float(self.mask.mean()),
            "mel_area": self.mel_area,
            "seconds": len(self.waveform) / self.sample_rate,
            "events": [asdict(event) for event in self._events],
            "lmaczs_version": __version__,
        }

    def plot(self, axes: Axes, part: Part = "explanation") -> AxesImage:
        """Draw a part into axes of your own, in seconds and Hz.

        Parameters
        ----------
        axes : matplotlib.axes.Axes
            Of any figure; its style and title stay yours. Frequency is spaced in mel,
            and what else you draw is given in Hz.
        part : {"input", "mask", "explanation", "residual"}
            Sounds are in dB below the input's loudest point, a mask in [0, 1].

        Returns
        -------
        matplotlib.image.AxesImage
            For a colour bar.

        Raises
        ------
        InputError
            If there is no such part.
        """
        from lmaczs.report.figures import bands_of, draw_bands

        values = bands_of(part, self.stft, self.mask, self.sample_rate)
        seconds = len(self.waveform) / self.sample_rate
        return draw_bands(axes, values, seconds, self.sample_rate, part == "mask")

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
        from lmaczs.report.figures import title_of
        from lmaczs.report.picture import save_png

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / name for name in SAVED}
        # first: it marks the other files as results, which may be replaced
        write_record(paths["explanation.json"], self.to_dict())
        save_audio(paths["explanation.wav"], self.waveform, self.sample_rate)
        save_audio(paths["residual.wav"], self.residual, self.sample_rate)
        save_png(
            paths["explanation.png"],
            self.stft,
            self.mask,
            self.sample_rate,
            len(self.waveform) / self.sample_rate,
            title_of(self.to_dict()),
        )
        return paths


def kept_of_margin(margin: float | None, masked: float | None) -> float | None:
    """Masked margin over margin; None where one is unknown, or there is no lead."""
    if masked is None or margin is None or margin <= 0:
        return None
    return masked / margin


def mel_area(rows: Tensor, sample_rate: int) -> float:
    """Mean over frequency, spaced in mel, of what each bin of an STFT has [F]."""
    edges = torch.linspace(0, sample_rate / 2, 2 * len(rows) - 1)
    width = hz_to_mel(torch.cat([edges[:1], edges[1::2], edges[-1:]])).diff()
    return float((width / width.sum()) @ rows)


@torch.no_grad()
def explain(
    clap: FrozenClap,
    decoder: Decoder | None,
    wav: Tensor,
    prompts: Sequence[str],
    text: Tensor,
    verify: bool = True,
    model: str = "",
    windows_at_once: int | None = None,
    references: Tensor | None = None,
    refinement: RefinementOptions | None = None,
    contrast: Tensor | None = None,
    recorded: bool = False,
) -> list[Interpretation]:
    """Explain one clip for one or more prompts; see `explain_batch`."""
    options = verify, model, windows_at_once, references, refinement, contrast, recorded
    (explained,) = explain_batch(clap, decoder, [wav], [prompts], [text], *options)
    return explained


@torch.no_grad()
def explain_batch(
    clap: FrozenClap,
    decoder: Decoder | None,
    wavs: Sequence[Tensor],
    prompts: Sequence[Sequence[str]],
    texts: Sequence[Tensor],
    verify: bool = True,
    model: str = "",
    windows_at_once: int | None = None,
    references: Tensor | None = None,
    refinement: RefinementOptions | None = None,
    contrast: Tensor | None = None,
    recorded: bool = False,
    encoding: AudioEncoding | None = None,
) -> list[list[Interpretation]]:
    """Explain clips, each for its own prompts; every clip is encoded once.

    A clip longer than the encoder's input is split into windows that overlap by half;
    their masks are cross-faded, and the highest of their similarities is taken.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    decoder : Decoder, optional
        Trained for `clap`. Without one, masks are fitted by refinement.
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
    windows_at_once : int, optional
        Most windows in one batch of the encoder; default: see `AT_ONCE`.
    references : Tensor [R, D], optional
        Embeddings of the reference prompts; without them there are no presences and no
        verdicts. Refinement needs them.
    refinement : RefinementOptions, optional
        How masks are refined; not at all without it, if there is a decoder.
    contrast : Tensor [K, D], optional
        Embeddings of prompts that these are explained against, see `lmaczs.contrast`;
        each prompt has to differ from one of them.
    recorded : bool
        Whether the prompts are recordings, see `lmaczs.presence.presence_in`.
    encoding : AudioEncoding, optional
        Of the clips, where it is known, none of which is longer than the encoder's
        input.

    Returns
    -------
    list of list of Interpretation
        For each clip one per prompt, in their order.
    """
    front_end = clap.front_end
    wavs = [wav.to(clap.device) for wav in wavs]
    spectra = _together(front_end.stft, wavs)
    inputs = [BestWindow(text, references, contrast, recorded) for text in texts]
    known = spectra, encoding
    masks = _masks(clap, decoder, wavs, inputs, windows_at_once, known, refinement)
    drafts = list(_drafts(front_end, wavs, spectra, masks))
    scores = [Score() for _ in range(2 * len(drafts))]
    if verify:
        scores = _scores_of(clap, drafts, inputs, windows_at_once)
    shown = [spectrum.cpu() for spectrum in spectra]  # shared by a clip's prompts
    weights = activity_weights(front_end.mel_filters).cpu()
    results: list[list[Interpretation]] = [[] for _ in wavs]
    for draft, masked, left in zip(drafts, scores[::2], scores[1::2], strict=True):
        number, row, (kept, rest) = draft
        own = inputs[number]
        score = own.score(row)
        results[number].append(
            Interpretation(
                prompt=prompts[number][row],
                stft=shown[number],
                waveform=kept.cpu(),
                residual=rest.cpu(),
                mask=masks[number][row].cpu(),
                sample_rate=front_end.sample_rate,
                similarity=float(own.similarity[row]),
                hop_length=front_end.hop_length,
                model=model,
                **score_fields(score, masked, left),
                verdict=judged(score, masked, left, references) if verify else None,
                refine_steps=int(own.steps[row]),
                windows=own.window_scores(row, front_end, len(wavs[number]), weights),
            )
        )
    return results


def _scores_of(
    clap: FrozenClap,
    drafts: Sequence[tuple[int, int, tuple[Tensor, Tensor]]],
    inputs: Sequence[BestWindow],
    windows_at_once: int | None,
) -> list[Score]:
    """Scores of the masked-in and the masked-out sound of every draft."""
    sounds_of_all = [sound for *_, sounds in drafts for sound in sounds]
    rows = [inputs[n].alone(row) for n, row, _ in drafts for _ in range(2)]
    return _verified(clap, sounds_of_all, rows, windows_at_once)


def score_fields(score: Score, masked: Score, left: Score) -> dict[str, Any]:
    """Fields of an `Interpretation` by the scores of input, explanation and residual.

    All but `similarity`, which the input has even if it is silence to the model.
    """
    return {
        "masked_similarity": masked.similarity,
        "residual_similarity": left.similarity,
        "presence": score.presence,
        "masked_presence": masked.presence,
        "residual_presence": left.presence,
        "margin": score.margin,
        "masked_margin": masked.margin,
        "residual_margin": left.margin,
    }


def judged(
    score: Score, masked: Score, left: Score, references: Tensor | None
) -> Verdict | None:
    """Verdict by the scores of input, explanation and residual."""
    if references is None:
        return None
    ranks = score.presence, masked.presence
    if score.margin is None:
        return verdict_of(*ranks, left.presence, len(references))
    return verdict_of_contrast(*ranks, masked.margin, left.margin)


def _drafts(
    front_end: FrontEnd,
    wavs: Sequence[Tensor],
    spectra: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> Iterator[tuple[int, int, tuple[Tensor, Tensor]]]:
    """Clip, prompt, and the masked-in and masked-out sound of every mask."""
    for number, (wav, spectrum) in enumerate(zip(wavs, spectra, strict=True)):
        for row, mask in enumerate(masks[number]):
            # in the spectrum's layout, which spares the inverse a copy of the product
            masked = (mask.mT.contiguous() * spectrum.mT).mT
            kept = front_end.istft(masked[None], len(wav))[0]
            yield number, row, (kept, wav - kept)  # the ISTFT is linear


def masks_of_clip(
    clap: FrozenClap,
    decoder: Decoder | None,
    wav: Tensor,
    text: Tensor,
    windows_at_once: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Masks [P, F, T] on the clip grid and similarities [P], for a clip of any length.

    From the clip's waveform [samples] and the prompts' embeddings [P, D].
    """
    score = BestWindow(text)
    (masks,) = _masks(clap, decoder, [wav], [score], windows_at_once)
    return masks, score.similarity


def _masks(
    clap: FrozenClap,
    decoder: Decoder | None,
    wavs: Sequence[Tensor],
    scores: Sequence[BestWindow],
    windows_at_once: int | None,
    known: tuple[Sequence[Tensor] | None, AudioEncoding | None] = (None, None),
    refinement: RefinementOptions | None = None,
) -> list[Tensor]:
    """Masks [P, F, T] of each clip for the prompts of its score, which is updated.

    Spectra and encodings of the clips may be known.
    """
    spectra, encoding = known
    front_end, size = clap.front_end, clap.front_end.max_samples
    texts = [score.text for score in scores]
    padded = pad_sequence(texts, batch_first=True)
    sizes = [(front_end.n_freqs, front_end.clip_frames(len(wav))) for wav in wavs]
    fades = [_CrossFade(len(t), *n, t) for t, n in zip(texts, sizes, strict=True)]
    at_once = _at_once(windows_at_once, clap.device, max(map(len, texts), default=1))
    for places, log_mel in _windows(front_end, wavs, at_once, spectra):
        rows = [clip for clip, _ in places]
        windows = Windows(
            [wavs[clip][start : start + size] for clip, start in places],
            log_mel,
            clap.audio_features(log_mel) if encoding is None else encoding.of(rows),
            padded[rows],
            [len(texts[clip]) for clip, _ in places],
            audible_windows(front_end, log_mel),
        )
        masks, steps = masked_windows(clap, decoder, windows, scores[0], refinement)
        for number, (clip, start) in enumerate(places):
            mask = masks[number, : len(texts[clip])]
            mask = front_end.crop_mask(mask, len(wavs[clip]))
            fades[clip].add(start // front_end.hop_length, mask)
            embedding = windows.encoding.embedding[number]
            scores[clip].add(embedding, windows.audible[number])
            scores[clip].add_steps(steps[number])
    return [fade.mean() for fade in fades]


def _decoded(
    decoder: Decoder,
    text: Tensor,
    contrast: Tensor | None,
    encoding: AudioEncoding,
    log_mel: Tensor,
) -> Tensor:
    """A decoder's masks for prompts [n, P, D], relative to those of a contrast."""
    of_all, count = text, text.shape[1]
    if contrast is not None:
        of_all = torch.cat([text, contrast.expand(len(text), -1, -1)], 1)
    masks: Tensor = decoder(of_all, encoding.features, log_mel)
    if contrast is None:
        return masks
    return relative_masks(masks[:, :count], masks[:, count:], rivals_of(text, contrast))


@dataclass(frozen=True)
class Windows:
    """Windows of clips, and the prompts of each.

    Attributes
    ----------
    sounds : list of Tensor [samples]
        At most as long as the encoder's input.
    log_mel : Tensor [n, C, T, n_mels]
        Of the sounds.
    encoding : AudioEncoding
        Of the sounds.
    text : Tensor [n, P, D]
        Embeddings of the prompts, padded.
    counts : list of int
        Prompts of each window.
    audible : list of bool
        Whether it is anything but silence to the model.
    """

    sounds: list[Tensor]
    log_mel: Tensor
    encoding: AudioEncoding
    text: Tensor
    counts: list[int]
    audible: list[bool]


def masked_windows(
    clap: FrozenClap,
    decoder: Decoder | None,
    windows: Windows,
    aim: BestWindow,
    refinement: RefinementOptions | None,
) -> tuple[Tensor, Tensor]:
    """Masks of windows, and the steps of refinement that they took.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    decoder : Decoder, optional
        Without one, masks are fitted.
    windows : Windows
        Encoded, and with their prompts.
    aim : BestWindow
        Has the reference prompts and the contrast.
    refinement : RefinementOptions, optional
        Not at all without it, if there is a decoder.

    Returns
    -------
    masks : Tensor [n, P, F, n_frames]
        On the encoder's grid; 0 in columns that are silence. Refined ones are empty
        where a prompt is absent.
    steps : Tensor [n, P], int64
    """
    front_end, text = clap.front_end, windows.text
    masks: Tensor | None = None
    domain: Domain = "stft"
    steps = torch.zeros(text.shape[:2], dtype=torch.int64, device=text.device)
    if decoder is None and refinement is None:
        refinement = RefinementOptions()
    if decoder is not None:
        given = aim.contrast, windows.encoding, windows.log_mel
        masks = _decoded(decoder, text, *given)
        domain = decoder.domain
        if domain == "mel":
            masks, domain = front_end.expand_mask(masks), "stft"
    if refinement is not None:
        masks, steps = _refined(clap, windows, masks, aim, domain, refinement)
    assert masks is not None  # there is a decoder, or refinement
    return without_silence(front_end, masks, windows.log_mel), steps


def _refined(
    clap: FrozenClap,
    windows: Windows,
    masks: Tensor | None,
    aim: BestWindow,
    domain: Domain,
    options: RefinementOptions,
) -> tuple[Tensor, Tensor]:
    """Refined masks [n, P, F, n_frames] and steps [n, P]; those of no prompt are 0.

    Of absent prompts, and of silence, they are empty.
    """
    front_end, text, encoding = clap.front_end, windows.text, windows.encoding
    references = reference_text(clap) if aim.references is None else aim.references
    ranks = presence_in(text, encoding.embedding, references, aim.recorded)
    asked = asked_of(ranks) * ranks.new_tensor(windows.audible)[:, None]
    counts = torch.tensor(windows.counts, device=text.device)
    column = torch.arange(text.shape[1], device=text.device)
    row, prompt = (column < counts[:, None]).nonzero(as_tuple=True)
    fitted = [front_end.fit_length(sound[None]) for sound in windows.sounds]
    against = references if aim.contrast is None else aim.contrast
    given = (
        clap,
        front_end.stft(torch.cat(fitted))[..., : front_end.n_frames],
        encoding,
        text[row, prompt],
        against,
        torch.tensor([len(sound) for sound in windows.sounds]),
        None if masks is None else masks[row, prompt],
        asked[row, prompt],
        domain,
    )
    steps = torch.zeros_like(asked, dtype=torch.int64)
    if aim.contrast is None:
        result = refine(*given, options, row)
        found, steps[row, prompt] = result.masks, result.steps
    else:
        found = contrast_masks(*given, ContrastOptions(steps=options.steps), row)
        steps[row, prompt] = options.steps * (asked[row, prompt] > 0)
    refined = text.new_zeros(*text.shape[:2], *found.shape[1:])
    refined[row, prompt] = found
    return refined, steps


def similarities(
    clap: FrozenClap, wav: Tensor, text: Tensor, windows_at_once: int | None = None
) -> Tensor:
    """Similarity [P] of a clip [samples] to prompts [P, D]: its best window's."""
    best = text.new_full((len(text),), -1.0)
    for _, log_mel in _windows(clap.front_end, [wav], windows_at_once):
        embedding = clap.audio_embedding(log_mel)
        best = torch.maximum(best, (embedding @ text.T).amax(0))
    return best


@torch.no_grad()
def embedding_of(
    clap: FrozenClap, wav: Tensor, windows_at_once: int | None = None
) -> Tensor | None:
    """Embedding [D] of a clip [samples] of any length, unit norm.

    The mean over its windows that are not silence to the model; None without one.
    """
    total = torch.zeros(clap.embedding_dim, device=clap.device)
    for _, log_mel in _windows(clap.front_end, [wav.to(clap.device)], windows_at_once):
        heard = torch.tensor(
            audible_windows(clap.front_end, log_mel), device=clap.device
        )
        total += clap.audio_embedding(log_mel[heard]).sum(0) if heard.any() else 0
    return torch.nn.functional.normalize(total, dim=0) if total.any() else None


def scores(
    clap: FrozenClap,
    wav: Tensor,
    text: Tensor,
    references: Tensor,
    windows_at_once: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Similarities and presences [P] of a clip [samples] and prompts [P, D].

    Of the window where a prompt is most similar; presences are NaN if the clip is
    silence to the model. `references` [R, D] are the reference prompts.
    """
    best = BestWindow(text, references)
    for _, log_mel in _windows(clap.front_end, [wav], windows_at_once):
        reaches = audible_windows(clap.front_end, log_mel)
        for one, reached in zip(clap.audio_embedding(log_mel), reaches, strict=True):
            best.add(one, reached)
    silent = best.audible == -math.inf
    return best.similarity, best.presence.masked_fill(silent, math.nan)


def is_silent(wav: Tensor) -> bool:
    """Whether no sample of a waveform [samples] exceeds `SILENCE`."""
    return float(wav.abs().max()) <= SILENCE


def _verified(
    clap: FrozenClap,
    sounds: Sequence[Tensor],
    best: Sequence[BestWindow],
    windows_at_once: int | None,
) -> list[Score]:
    """Score each sound for its prompt."""
    peaks = [sound.abs().max() for sound in sounds]
    levels = torch.stack(peaks).tolist() if peaks else []
    found = [number for number, level in enumerate(levels) if level > SILENCE]
    audible = [sounds[number] for number in found]
    for places, log_mel in _windows(clap.front_end, audible, windows_at_once):
        embedding = clap.audio_embedding(log_mel)
        reaches = audible_windows(clap.front_end, log_mel)
        owners = [best[found[place]] for place, _ in places]
        ranks = owners[0].ranks(torch.stack([one.text for one in owners]), embedding)
        for one, *window in zip(owners, embedding, reaches, ranks, strict=True):
            one.add(*window)
    return [one.score(0) for one in best]


def audible_windows(front_end: FrontEnd, log_mel: Tensor) -> list[bool]:
    """Whether windows [n, C, T, n_mels] are anything but silence to the model."""
    reaches: list[bool] = heard_frames(front_end, log_mel).any(1).tolist()
    return reaches


def without_silence(front_end: FrontEnd, masks: Tensor, log_mel: Tensor) -> Tensor:
    """Masks [n, P, ..., T] of windows [n, C, T, n_mels], 0 in columns of silence."""
    heard = heard_frames(front_end, log_mel)
    return masks if bool(heard.all()) else masks * heard[:, None, None]


def heard_frames(front_end: FrontEnd, log_mel: Tensor) -> Tensor:
    """Frames [n, T] of windows [n, C, T, n_mels] that are no silence to the model.

    Sound outside its band is silence.
    """
    nothing = torch.zeros(1, front_end.n_mels, 1, device=log_mel.device)
    silence = front_end.to_log_mel(nothing).max()
    return (log_mel > silence).any(3).any(1)


@dataclass(frozen=True)
class Score:
    """Of a sound and a prompt; None for silence to the model."""

    similarity: float | None = None
    presence: float | None = None
    margin: float | None = None


class BestWindow:
    """Scores of prompts [P, D] in a sound's most similar window.

    Presence needs `references` [R, D], a margin a `contrast` [K, D]. `recorded` tells
    which prompts are recordings: all or none, or a flag for each, [P].
    """

    def __init__(
        self,
        text: Tensor,
        references: Tensor | None = None,
        contrast: Tensor | None = None,
        recorded: bool | Tensor = False,
    ) -> None:
        self.text, self.references = text, references
        self.contrast, self.recorded = contrast, recorded
        self.similarity = text.new_full((len(text),), -1.0)
        self.audible = torch.full_like(self.similarity, -math.inf)
        self.presence = torch.zeros_like(self.similarity)
        self.margin = torch.zeros_like(self.similarity)
        self.steps = torch.zeros_like(self.similarity, dtype=torch.int64)
        self.windows = list[Tensor]()  # similarity and presence in each, [2, P]

    def alone(self, row: int) -> BestWindow:
        """The same for one prompt, of no sound yet."""
        text = self.text[row : row + 1]
        recorded = self.recorded
        if isinstance(recorded, Tensor):
            recorded = bool(recorded[row])
        return BestWindow(text, self.references, self.contrast, recorded)

    def add_steps(self, steps: Tensor) -> None:
        """Add the steps of refinement that the masks of a window took, [P] or more."""
        self.steps = torch.maximum(self.steps, steps[: len(self.steps)])

    def ranks(self, text: Tensor, embedding: Tensor) -> Sequence[Tensor | None]:
        """Presences [P] of prompts [n, P, D] in n windows of embeddings [n, D]."""
        if self.references is None:
            return [None] * len(text)
        return presence_in(text, embedding, self.references, self.recorded).unbind(0)

    def add(
        self, embedding: Tensor, audible: bool, ranks: Tensor | None = None
    ) -> None:
        """Add a window: its embedding [D]; only audible ones have presences, `ranks`.

        Those are computed where they are not given.
        """
        cosines = self.text @ embedding
        self.similarity = torch.maximum(self.similarity, cosines)
        unknown = torch.full_like(cosines, math.nan)
        if not audible:
            self.windows.append(torch.stack([unknown, unknown]))
            return
        best = cosines > self.audible
        if ranks is None:
            (ranks,) = self.ranks(self.text[None], embedding[None])
        self.windows.append(torch.stack([cosines, unknown if ranks is None else ranks]))
        if ranks is not None:
            self.presence = torch.where(best, ranks, self.presence)
        if self.contrast is not None:
            ahead = margins(self.text, self.contrast, embedding)
            self.margin = torch.where(best, ahead, self.margin)
        self.audible = torch.maximum(self.audible, cosines)

    def window_scores(
        self, row: int, front_end: FrontEnd, samples: int, weights: Tensor
    ) -> WindowScores:
        """Scores of one prompt in each window of a sound of this length."""
        hop, size = front_end.hop_length, front_end.max_samples
        starts = tuple(start // hop for start in window_starts(samples, size, hop))
        similarity, rank = torch.stack(self.windows)[..., row].cpu().unbind(1)
        return WindowScores(weights, front_end.n_frames, starts, similarity, rank)

    def score(self, row: int) -> Score:
        """Score of one prompt."""
        every = self.audible, self.similarity, self.presence, self.margin
        audible, similarity, rank, margin = torch.stack(every)[:, row].tolist()
        if audible == -math.inf:
            return Score()
        return Score(
            similarity,
            None if self.references is None else rank,
            None if self.contrast is None else margin,
        )


def window_starts(samples: int, size: int, hop_length: int) -> list[int]:
    """First samples of windows that overlap by half and cover a clip.

    Multiples of the hop, so that a window's frames are frames of the clip. Less than a
    hop at the clip's end is in no window: it is no frame of its own, and a clip that is
    longer than the encoder's input by a codec's padding alone is encoded once.
    """
    if samples <= size:
        return [0]
    step = size // 2 // hop_length * hop_length
    last = (samples - size) // hop_length * hop_length
    return [*range(0, last, step), last]


def _at_once(asked: int | None, device: torch.device, prompts: int = 1) -> int:
    """Windows in one batch: as asked for, or by `AT_ONCE` for prompts of each."""
    most = AT_ONCE.get(device.type, AT_ONCE["cuda"])
    return asked or max(AT_ONCE["cpu"], most // max(1, prompts))


def _windows(
    front_end: FrontEnd,
    wavs: Sequence[Tensor],
    at_once: int | None,
    spectra: Sequence[Tensor] | None = None,
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    """Batches of windows: (clip, first sample) of each, log-mel [n, C, T, n_mels]."""
    size, hop_length = front_end.max_samples, front_end.hop_length

    def samples_or_spectrum(clip: int, start: int) -> Tensor:
        if spectra is not None and len(wavs[clip]) == size:
            return spectra[clip]
        return wavs[clip][start : start + size]

    def log_mel(rows: Tensor) -> Tensor:
        known = rows.is_complex()
        return front_end.stft_to_log_mel(rows) if known else front_end.log_mel(rows)

    places = [
        (clip, start)
        for clip, wav in enumerate(wavs)
        for start in window_starts(len(wav), size, hop_length)
    ]
    at_once = _at_once(at_once, front_end.mel_filters.device)
    for first in range(0, len(places), at_once):
        batch = places[first : first + at_once]
        rows = [samples_or_spectrum(*place) for place in batch]
        yield batch, torch.stack(_together(log_mel, rows))


def _together(
    function: Callable[[Tensor], Tensor], rows: Sequence[Tensor]
) -> list[Tensor]:
    """A function of batches, for each row: of one shape together, on a GPU.

    On a CPU one by one: it gains nothing from batches, in which products may round
    otherwise.
    """
    groups: dict[tuple[int, torch.Size], list[int]] = {}
    for number, row in enumerate(rows):
        group = number if row.device.type == "cpu" else -1
        groups.setdefault((group, row.shape), []).append(number)
    found = list(rows)
    for numbers in groups.values():
        one, several = numbers[0], len(numbers) > 1
        batch = torch.stack([rows[n] for n in numbers]) if several else rows[one][None]
        for number, value in zip(numbers, function(batch), strict=True):
            found[number] = value
    return found


def fade_of(columns: int, like: Tensor) -> Tensor:
    """Weights [columns] of a window's mask: positive everywhere, and a triangle.

    Windows at half overlap sum to a constant.
    """
    ramp = torch.arange(1, columns + 1, device=like.device)
    return torch.minimum(ramp, ramp.flip(0)).to(like.dtype)


class _CrossFade:
    """Mean of the masks of a clip's windows, weighted with triangular windows.

    Of a single window it is the window's.
    """

    def __init__(self, prompts: int, n_freqs: int, frames: int, like: Tensor) -> None:
        self.size, self.like = (prompts, n_freqs, frames), like
        self.sums: tuple[Tensor, Tensor] | None = None  # of masks, and of weights
        self.only: Tensor | None = None
        self.stop = 0  # the column after those of the windows

    def add(self, first: int, masks: Tensor) -> None:
        """Add masks [P, F, T] of a window that starts at the clip's column `first`."""
        start, self.stop = self.stop, first + masks.shape[-1]
        if start == 0:
            self.only = masks
            return
        if self.sums is None:
            frames = self.size[-1]
            self.sums = self.like.new_zeros(self.size), self.like.new_zeros(frames)
            assert self.only is not None
            self._sum(0, self.only)
        self._sum(first, masks)

    def _sum(self, first: int, masks: Tensor) -> None:
        assert self.sums is not None
        total, weight = self.sums
        fade = fade_of(masks.shape[-1], masks)
        place = slice(first, first + masks.shape[-1])
        total[..., place] += masks * fade
        weight[place] += fade

    def mean(self) -> Tensor:
        """Masks [P, F, T], clamped: rounding may lift one of ones above 1.

        What is in no window is masked as what is before it.
        """
        assert self.only is not None  # every clip has a window
        if self.sums is None:
            missing = self.size[-1] - self.stop
            end = self.only[..., -1:].expand(*self.only.shape[:-1], missing)
            return torch.cat([self.only, end], -1).clamp_(0, 1)
        total, weight = self.sums
        total[..., self.stop :] = total[..., self.stop - 1, None]
        weight[self.stop :] = weight[self.stop - 1]
        return (total / weight).clamp_(0, 1)
