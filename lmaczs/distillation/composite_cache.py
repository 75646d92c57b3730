"""Features of composites: generated once, cached in chunks, and read into memory.

An interrupted run resumes at the first missing chunk. Ridge regression on the labelled
clips projects the tagger's embedding to the text space: a target that needs no label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from lmaczs.audio.resampling import resample
from lmaczs.audio.scales import db_to_power
from lmaczs.data.segments import segments_of
from lmaczs.distillation.clip_cache import (
    NO_LABEL,
    ClipFeatures,
    Tagger,
    clips_key,
    digest_of,
    front_end_key,
    label_weights,
)
from lmaczs.distillation.composites import Composer
from lmaczs.distillation.target_space import RidgeProjection
from lmaczs.distillation.yamnet import SAMPLE_RATE
from lmaczs.frontend import MEL_FLOOR, FrontEnd
from lmaczs.utils.cache import cached

VERSION = "composites 1"  # of what is cached: raise it where the composites change
FLOOR_DB = 10 * np.log10(MEL_FLOOR)


@dataclass(frozen=True)
class CompositeFeatures:
    """N composites as the encoder reads them, and their targets."""

    decibels: Tensor  # [N, n_mels, T], mel power in dB, half precision, -100: none
    scores: Tensor  # [N, P, K], the tagger's, of P patches, half precision
    embedding: Tensor  # [N, D], the tagger's, projected to the text space, unit norm
    present: Tensor  # [N, L], true for every label of a composite

    def __len__(self) -> int:
        return len(self.decibels)

    def mel(self, rows: Tensor) -> Tensor:
        """Mel power [B, n_mels, T] of rows [B]: float32, 0 where there is none."""
        decibels = self.decibels[rows].float()
        return db_to_power(decibels) * (decibels > FLOOR_DB)


class CompositeDataset(Dataset):
    """Composites of training clips; each depends only on `seed` and its number.

    Clips of split train that have a label are drawn by their `label_weights`.
    """

    def __init__(
        self,
        clips: ClipFeatures,
        front_end: FrontEnd,
        composer: Composer,
        tagger: Tagger,
        size: int,
        class_balance: float,
        seed: int,
    ) -> None:
        self.clips, self.front_end, self.composer = clips, front_end, composer
        self.tagger, self.size, self.seed = tagger, size, seed
        rows = clips.rows("train")
        self.rows = rows[clips.target[rows] != NO_LABEL].numpy()
        self.table = clips.table.iloc[self.rows]
        weights = label_weights(clips.target[self.rows], class_balance)
        self.probabilities = (weights / weights.sum()).numpy()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Compose and score one: the three tensors of `features`, and present [L]."""
        rng = np.random.default_rng([self.seed, int(number)])
        count, front_end = self.composer.n_clips, self.front_end
        # drawn as rows of the table, to which a composite's number leads
        drawn = rng.choice(len(self.rows), count, p=self.probabilities)
        length = front_end.max_samples, front_end.sample_rate
        wav, audible = self.composer([self.wavs[i] for i in drawn], *length, rng)
        present = torch.zeros(len(self.clips.labels), dtype=torch.bool)
        present[self.clips.target[self.rows[drawn[audible]]]] = True
        return *self.features(wav), present

    def features(self, wav: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decibels [n_mels, T], scores [P, K] and summary [2 E] of a sound, as float16.

        `wav` [samples] has the encoder's length. The summary is the mean and the
        maximum of the tagger's embeddings over the P patches.
        """
        front_end = self.front_end
        stft = front_end.stft(wav[None])[..., : front_end.n_frames]
        decibels = front_end.stft_to_log_mel(stft)[0, 0].T
        at_16k = resample(wav, front_end.sample_rate, SAMPLE_RATE)
        scores, embedding = self.tagger.forward(at_16k)
        summary = torch.cat([embedding.mean(0), embedding.amax(0)])
        return decibels.half(), scores.half(), summary.half()

    @cached_property
    def wavs(self) -> list[Tensor]:
        """Waveforms of the clips that composites are made of."""
        rate = self.front_end.sample_rate
        return [one.load(rate) for one in segments_of(self.table)]

    def clip_summaries(self) -> Tensor:
        """Summaries [n, 2 E] of those clips, fitted to the encoder's length."""
        fitted = (self.front_end.fit_length(wav[None])[0] for wav in self.wavs)
        return torch.stack([self.features(wav)[-1] for wav in fitted])

    @property
    def key(self) -> str:
        """Digest of everything that the composites depend on, except their number."""
        return digest_of(
            VERSION,
            clips_key(self.table),
            front_end_key(self.front_end),
            (self.tagger.fingerprint, self.tagger.class_names),
            (self.probabilities.tolist(), self.seed, self.clips.labels),
            tuple(vars(self.composer).values()),
        )


def load_composites(
    dataset: CompositeDataset,
    folder: Path,
    text: Tensor,
    num_workers: int,
    chunk: int = 1000,
) -> CompositeFeatures:
    """Read N composites from chunks in `folder`, and make the missing ones.

    Chunks of other composites are replaced. `text` [L, D] embeds the labels, unit norm.
    """
    key = dataset.key
    clips = cached(folder / "clips.pt", key, dataset.clip_summaries)
    chunks = []
    for start in tqdm(range(0, len(dataset), chunk), desc="composites", unit="chunk"):
        rows = range(start, min(start + chunk, len(dataset)))
        loader = DataLoader(Subset(dataset, rows), 50, num_workers=num_workers)
        path = folder / f"{start:07d}.pt"
        chunks.append(cached(path, f"{key} {rows}", partial(_columns, loader)))
    decibels, scores, summary, present = _columns(chunks)
    known = text[dataset.clips.target[dataset.rows]]
    embedding = RidgeProjection(clips.float(), known)(summary)
    return CompositeFeatures(decibels, scores, embedding, present)


def _columns(rows: Iterable[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*rows, strict=True)]
