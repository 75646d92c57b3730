"""Composites in memory, and what a tagger says of each.

They are made once, in parts that are kept as they come: who is interrupted goes on.
What the tagger embeds is carried to the text space by ridge regression on the labelled
clips (`TeacherMap`), and is then a goal for every sound that it can hear.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from lmaczs.audio.io import load_audio
from lmaczs.audio.resampling import resample
from lmaczs.audio.scales import db_to_power, power_to_db
from lmaczs.distillation import yamnet as audioset_teacher
from lmaczs.distillation.clip_cache import NO_LABEL, ClipBank, label_weights
from lmaczs.distillation.composites import Composer
from lmaczs.distillation.yamnet import AudioSetTagger
from lmaczs.frontend import FrontEnd, power
from lmaczs.utils.files import atomic_write

PART = 1000  # composites that are kept at a time
CLIPS = 4  # one of them gives an envelope
FLOOR_DB = -100.0


@dataclass(frozen=True)
class CompositeBank:
    """Composites, and the clips that they are made of, as a tagger hears them.

    Attributes
    ----------
    decibels : Tensor [N, n_mels, T]
        Mel power in dB, half precision, -100 where there is none.
    scores : Tensor [N, P, K]
        The tagger's scores of P patches, half precision.
    heard : Tensor [N, 2 E]
        Mean and maximum of its embeddings over the patches.
    present : Tensor [N, L]
        1 for every label that is told in a composite.
    """

    decibels: Tensor
    scores: Tensor
    heard: Tensor
    present: Tensor

    def __len__(self) -> int:
        """How many there are."""
        return len(self.decibels)

    def mel(self, rows: Tensor) -> Tensor:
        """Mel power of some composites.

        Parameters
        ----------
        rows : Tensor [B]
            Which.

        Returns
        -------
        Tensor [B, n_mels, T]
            float32; 0 where there is none.
        """
        decibels = self.decibels[rows].float()
        return db_to_power(decibels) * (decibels > FLOOR_DB)


class TeacherMap:
    """From what a tagger hears to the text space, by ridge regression.

    Parameters
    ----------
    heard : Tensor [N, F]
        Mean and maximum of the tagger's embeddings, of N labelled clips.
    text : Tensor [N, D]
        Embeddings of their labels.
    penalty : float
        Of the squared weights, for each clip; features are standardised.
    """

    def __init__(self, heard: Tensor, text: Tensor, penalty: float = 0.5) -> None:
        self.mean, self.deviation = heard.mean(0), heard.std(0) + 1e-3
        x = self._standard(heard)
        ridge = penalty * len(x) * torch.eye(x.shape[1])
        self.weights = torch.linalg.solve(x.T @ x + ridge, x.T @ text)

    def __call__(self, heard: Tensor) -> Tensor:
        """Where in the text space a sound should be.

        Parameters
        ----------
        heard : Tensor [N, F]
            As the tagger hears it.

        Returns
        -------
        Tensor [N, D]
            Unit norm.
        """
        return nn.functional.normalize(self._standard(heard) @ self.weights, dim=-1)

    def _standard(self, heard: Tensor) -> Tensor:
        return (heard.float() - self.mean) / self.deviation


class Composites(Dataset):
    """Composites of training clips; each depends on the seed and its number alone.

    Parameters
    ----------
    clips : ClipBank
        Those of its training split that have a label are used, rare labels more often.
    front_end : FrontEnd
        The checkpoint's.
    composer : Composer
        Makes them.
    tagger : tuple
        Files of the tagger and of its class map.
    hparams : dict
        Of a YAML: seed, class_balance, composites.
    """

    def __init__(
        self,
        clips: ClipBank,
        front_end: FrontEnd,
        composer: Composer,
        tagger: tuple[str, str],
        hparams: dict[str, Any],
    ) -> None:
        self.clips, self.front_end, self.composer = clips, front_end, composer
        self.tagger, self.seed = tagger, hparams["seed"]
        self.size = hparams["composites"]
        rows = clips.rows("train")
        self.rows = rows[clips.target[rows] != NO_LABEL].numpy()
        weights = label_weights(clips.target[self.rows], hparams["class_balance"])
        self.chance = (weights / weights.sum()).numpy()

    def __len__(self) -> int:
        """How many there are to be."""
        return self.size

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Make and hear one: decibels, scores, heard, present."""
        rng = np.random.default_rng([self.seed, int(number)])
        drawn = rng.choice(self.rows, CLIPS, p=self.chance)
        wav, told = self.composer([self.wavs[row] for row in drawn], rng)
        present = torch.zeros(len(self.clips.labels), dtype=torch.bool)
        present[self.clips.target[drawn[told]]] = True
        return *self.hear(wav), present

    def hear(self, wav: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the encoder gets of a sound, and what the tagger says of it.

        Parameters
        ----------
        wav : Tensor [samples]
            A sound.

        Returns
        -------
        tuple of Tensor
            decibels [n_mels, T], scores [P, K], heard [2 E], half precision.
        """
        front_end = self.front_end
        mel = front_end.mel_power(power(front_end.stft(wav[None])))[0]
        decibels = power_to_db(mel[:, : front_end.n_frames])
        heard = resample(wav, front_end.sample_rate, audioset_teacher.SAMPLE_RATE)
        scores, embedding = open_tagger(*self.tagger).hear(heard)
        summary = torch.cat([embedding.mean(0), embedding.amax(0)])
        return decibels.half(), scores.half(), summary.half()

    @cached_property
    def wavs(self) -> dict[int, Tensor]:
        """The clips that composites are made of, by their rows."""
        rate, path = self.front_end.sample_rate, self.clips.table.path
        return {row: load_audio(path[row], rate) for row in self.rows}

    def as_heard(self) -> Tensor:
        """What the tagger hears in those clips, as the encoder gets them.

        Returns
        -------
        Tensor [n, 2 E]
            In the order of `rows`.
        """
        fit = self.front_end.fit_length
        fitted = (fit(self.wavs[row][None])[0] for row in self.rows)
        return torch.stack([self.hear(wav)[-1] for wav in fitted])


@lru_cache(maxsize=1)
def open_tagger(model_file: str, class_map: str) -> AudioSetTagger:
    """The tagger, opened once by each worker."""
    return AudioSetTagger(model_file, class_map)


def load_composites(
    composites: Composites, folder: Path, num_workers: int
) -> tuple[CompositeBank, Tensor]:
    """Make what is missing of the composites, and read them.

    Parameters
    ----------
    composites : Composites
        Which.
    folder : Path
        Where they are kept; parts of another set are replaced.
    num_workers : int
        Processes that make them.

    Returns
    -------
    tuple
        The composites, and what is heard in the clips that they are made of [n, 2 E].
    """
    key = _key(composites)
    (heard,) = kept(folder / "clips.pt", key, lambda: [composites.as_heard()])
    parts = []
    for start in tqdm(range(0, len(composites), PART), desc="composites", unit="part"):
        rows = range(start, min(start + PART, len(composites)))
        subset = Subset(composites, rows)
        loader = DataLoader(subset, 50, num_workers=num_workers)
        path = folder / f"{start:07d}.pt"
        parts.append(kept(path, f"{key} {rows}", lambda own=loader: _columns(own)))
    return CompositeBank(*_columns(parts)), heard.float()


def _columns(rows: Iterable[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*rows, strict=True)]


def kept(path: Path, key: str, make: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What a file holds if it was made for the same, otherwise what is made now.

    Parameters
    ----------
    path : Path
        The file; it appears whole or not at all.
    key : str
        What decides its contents.
    make : callable
        Called where they are missing or others.

    Returns
    -------
    list of Tensor
    """
    if path.is_file():
        found = torch.load(path, weights_only=True)
        if found["key"] == key:
            return found["columns"]
    columns = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        torch.save({"key": key, "columns": columns}, part)
    return columns


def _key(composites: Composites) -> str:
    """What decides the composites but their number."""
    clips, front_end = composites.clips, composites.front_end
    files = clips.table.path[composites.rows].map(lambda path: Path(path).stat())
    states = [(state.st_size, state.st_mtime_ns) for state in files]
    numbers = front_end.n_fft, front_end.hop_length, front_end.max_samples
    filters = front_end.mel_filters.double().sum().item()
    tagger = [hashlib.sha256(Path(f).read_bytes()).digest() for f in composites.tagger]
    drawn = composites.chance.tolist(), composites.seed, clips.labels
    text = repr((states, numbers, filters, tagger, drawn, composites.composer))
    return hashlib.sha256(text.encode()).hexdigest()
