"""Masks and tables for the figures of the LMAC-ZS paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.evaluation.conditions import ContaminatedClips
from lmaczs.evaluation.explainer import Explainer, ExplainerInput
from lmaczs.evaluation.randomisation import randomise
from lmaczs.evaluation.scoring import predict
from lmaczs.explanation import masks_of_clip, similarities
from lmaczs.frontend import power
from lmaczs.utils.errors import InputError, nearest

FIGURE_LABELS = ("dog", "rain", "rooster", "clock tick")

ClipMasks = Callable[[Tensor, Tensor], Tensor]
Masks = dict[tuple[str, str], Tensor]


class LabelledClips:
    """Test clips (id, path, label) and the prompts of all labels, for one model.

    `text` [K, D] embeds the prompts that `template` makes of the K `labels`; `table`
    has the clips. `batch_size` pairs of clip and prompt are explained at once.
    Explainers draw with `seed`.
    """

    def __init__(
        self,
        clap: FrozenClap,
        clips: pd.DataFrame,
        labels: Sequence[str],
        template: str,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        self.clap, self.labels, self.template = clap, list(labels), template
        self.batch_size, self.seed = batch_size, seed
        self.text = self.embed(labels)
        self._data = ContaminatedClips(clips, clap.front_end, "clean")
        self.table = self._data.clips

    def __len__(self) -> int:
        return len(self.table)

    def embed(self, labels: Sequence[str]) -> Tensor:
        """Embeddings [P, D] of labels' prompts."""
        return self.clap.encode_text([self.template.format(one) for one in labels])

    def batch(self, rows: Sequence[int]) -> ExplainerInput:
        """Clips of the table, each with the prompt of its predicted class."""
        clips = default_collate([self._data[row] for row in rows])
        prompts = dict(zip(self.labels, self.text, strict=True))
        return predict(self.clap, prompts, clips, seed=self.seed).batch

    def sounds(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield name, label and waveform [samples], cut to the encoder's length."""
        for row in tqdm(range(len(self)), desc="similarity", unit="clip"):
            clip = self._data[row]
            yield clip["id"], clip["label"], clip["wav"][: clip["samples"]]

    def clip_masks(self, explain: Explainer) -> ClipMasks:
        """Function that explains a clip of `sounds`, on that clip's own grid."""

        def masks_of(wav: Tensor, text: Tensor) -> Tensor:
            front_end, clap = self.clap.front_end, self.clap
            spectrum = front_end.stft(front_end.fit_length(wav[None]))
            log_mel = front_end.stft_to_log_mel(spectrum)
            samples = torch.tensor([len(wav)], device=wav.device)
            grid = spectrum[..., : front_end.n_frames], log_mel
            given = *grid, text[:1], samples
            batch = ExplainerInput(clap, *given, seed=self.seed, classes=self.text)
            return front_end.crop_mask(self.masks(explain, batch, text)[0], len(wav))

        return masks_of

    def masks(self, explain: Explainer, batch: ExplainerInput, text: Tensor) -> Tensor:
        """Masks [B, P, F, T] of every prompt [P, D] for every clip of a batch."""
        parts = text.split(self.batch_size)
        found = [
            torch.cat([explain(batch.with_prompts(row, part)) for part in parts])
            for row in range(len(batch.text))
        ]
        masks = torch.stack(found)
        if masks.shape[-2] != batch.spectrum.shape[-2]:  # a decoder of mel bands
            masks = self.clap.front_end.expand_mask(masks)
        return masks

    def first_of(self, labels: Sequence[str]) -> list[int]:
        """Row of the first clip of each label, see `labels_of_figures`."""
        labels = labels_of_figures(self.table, labels)
        return [int((self.table.label == label).argmax()) for label in labels]


def labels_of_figures(
    clips: pd.DataFrame, labels: Sequence[str] | None = None
) -> list[str]:
    """Labels of figures: those given, `FIGURE_LABELS`, or the first four of the clips.

    A label that no clip has raises `InputError`.
    """
    there = sorted(clips.label.unique())
    if labels is None:
        known = set(FIGURE_LABELS) <= set(there)
        return list(FIGURE_LABELS) if known else there[: len(FIGURE_LABELS)]
    for label in labels:
        if label not in there:
            raise InputError(
                f"figure_labels: no clip of split test is {label!r}"
                f"{nearest(label, there)}; there are {', '.join(there)}"
            )
    return list(labels)


@torch.no_grad()
def similarity_table(
    clap: FrozenClap,
    methods: Mapping[str, ClipMasks],
    sounds: Iterable[tuple[str, str, Tensor]],
    labels: Sequence[str],
    template: str,
    with_masked: bool = False,
) -> pd.DataFrame:
    """Similarity and mask of every clip for every label (figures 3, left, and 10).

    `sounds` are name, label and waveform [samples] of clips; `template` makes prompts
    of `labels`; `methods` give masks [P, F, T] of a clip [samples] and prompts [P, D].

    Columns: id, label (of the clip), method, prompt (a label), present (whether it is
    the clip's), similarity, mask_mean, power_kept (fraction of the clip's power). With
    `with_masked` also masked_similarity, that of the clip under the mask, of clips no
    longer than the encoder's input.
    """
    text = clap.encode_text([template.format(label) for label in labels])
    rows = []

    def figures(
        wav: Tensor, cells: Tensor, masks_of: ClipMasks, part: Tensor
    ) -> Tensor:
        masks = masks_of(wav, part)
        sizes = _sizes(masks, cells)
        if not with_masked:
            return sizes
        masked = _masked_similarity(clap, wav, masks, part)
        return torch.cat([sizes, masked[:, None]], 1)

    for name, own, sound in sounds:
        wav = sound.to(clap.device)
        cells = power(clap.front_end.stft(wav[None])[0])
        similar = similarities(clap, wav, text).tolist()
        for method, masks_of in methods.items():
            parts = [figures(wav, cells, masks_of, part) for part in text.split(16)]
            for label, value, sizes in zip(
                labels, similar, torch.cat(parts).tolist(), strict=True
            ):
                rows.append((name, own, method, label, label == own, value, *sizes))
    columns = ["id", "label", "method", "prompt", "present", "similarity"]
    masked = ["masked_similarity"] if with_masked else []
    return pd.DataFrame(rows, columns=[*columns, "mask_mean", "power_kept", *masked])


def _masked_similarity(
    clap: FrozenClap, wav: Tensor, masks: Tensor, text: Tensor
) -> Tensor:
    """Similarity [P] of a clip [samples] under masks [P, F, T] to prompts [P, D]."""
    front_end = clap.front_end
    tiled = front_end.tile_mask(masks, len(wav))
    spectrum = front_end.stft(front_end.fit_length(wav[None]))
    log_mel = front_end.input_tf(spectrum, tiled[None])
    return (clap.audio_embedding(log_mel) * text).sum(1)


def _sizes(masks: Tensor, cells: Tensor) -> Tensor:
    """Mean, and kept fraction of the power `cells` [F, T], of masks: [P, 2]."""
    kept = (masks.square() * cells).sum((1, 2)) / cells.sum().clamp_min(1e-20)
    return torch.stack([masks.mean((1, 2)), kept], 1)


def decoded_masks(clap: FrozenClap, decoder: Decoder) -> ClipMasks:
    """Masks of a decoder for clips of any length, encoded once for all prompts."""
    return lambda wav, text: masks_of_clip(clap, decoder, wav, text)[0]


def prompt_masks(
    clips: LabelledClips, explainers: Mapping[str, Explainer], labels: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """One clip of each of P labels, explained for all these labels (figure 4).

    Power [P, F, T], and masks [P, P, F, T] of each explainer.
    """
    batch, text = clips.batch(clips.first_of(labels)), clips.embed(labels)
    masks = {name: clips.masks(one, batch, text) for name, one in explainers.items()}
    return batch.cells, masks


def randomisation_table(
    clips: LabelledClips, explainers: Mapping[str, Explainer], count: int
) -> tuple[pd.DataFrame, Masks]:
    """Masks while the audio encoder is randomised from the top (figures 3 and 5).

    Of `count` clips, evenly spaced: the table of `randomise`, and the first clip's
    masks [F, T] by explainer and stage.
    """
    rows = list(range(0, len(clips), max(1, len(clips) // count)))[:count]
    starts = range(0, len(rows), clips.batch_size)
    parts, first = [], Masks()
    for start in tqdm(starts, desc="cascade", unit="batch"):
        batch = clips.batch(rows[start : start + clips.batch_size])
        table, masks = randomise(explainers, batch)
        parts.append(table.assign(clip=table["clip"] + start))
        first = first or {key: found[0] for key, found in masks.items()}
    return pd.concat(parts, ignore_index=True), first
