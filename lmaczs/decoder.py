"""The mask decoder: M(t, h) of LMAC-ZS, with layers of ours (LMAC-ZS+).

A mask from a text embedding and the features of every stage of the audio encoder. The
text conditions every scale (FiLM, Perez et al., 2018); injected only once, it is
ignored and the decoder masks the loudest source. A per-location similarity map of text
and audio is added at every scale, so that masks generalise to unseen prompts.

The last layer predicts two values for every 4 x 4 cells of the log-mel, finer than the
encoder's patches: a logit, and its slope over the level of each cell, so that a mask
follows a sound through its pauses and between its partials. The mask is interpolated
to the STFT's bins (`FrontEnd.expand_mask`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.frontend import Domain
from lmaczs.utils.errors import InputError
from lmaczs.utils.weights import (
    broken,
    counted,
    is_pickle,
    some,
    tensors_in,
    unpickled,
)


class Decoder(nn.Module, ABC):
    """A mask decoder: M(t, h), whatever its layers.

    Attributes
    ----------
    domain : {"mel", "stft", "waveform"}
        Of its masks.
    """

    domain: Domain

    @abstractmethod
    def forward(
        self, text: Tensor, features: tuple[Tensor, ...], log_mel: Tensor
    ) -> Tensor:
        """Decode a mask for every clip and prompt.

        Parameters
        ----------
        text : Tensor [B, P, D]
            Unit-norm embeddings of P prompts for each clip.
        features : tuple of Tensor [B, C, f, t]
            `AudioEncoding.features`.
        log_mel : Tensor [B, C, T, n_mels]
            The encoder's input, dB.

        Returns
        -------
        Tensor [B, P, F, T], or [B, P, n_mels, T] in the mel domain
            In [0, 1], on the input grid of `lmaczs.frontend`.
        """


# `lmaczs.decoder.MaskDecoder`, its arguments `clap`, `domain` and `width`, and
# `lmaczs.decoder.load_decoder` stand in every exported hyperparams.yaml, and the names
# of the submodules in every checkpoint: a file format.
class MaskDecoder(Decoder):
    """Decode a mask from a prompt's embedding and a clip's features.

    Without BatchNorm, which would make a mask depend on its batch. An exported folder
    names `clap`, `domain` and `width` alone; any other argument that differs from its
    default has to be added to its hyperparams.yaml.

    Parameters
    ----------
    clap : FrozenClap
        Gives the shapes of embeddings, features and spectrograms; not stored.
    domain : {"mel", "stft", "waveform"}
        ``mel``: masks [n_mels, T]. Otherwise [F, T].
    width : int
        Channels at the coarse scales, a multiple of `groups`; above eight times that,
        of eight times `groups`.
    stride : int
        Mel bands, and frames, per cell of the last layer.
    groups : int
        Groups of every GroupNorm.
    similarity_gain : float
        Factor of the similarity maps: cosines are small beside normalised features.
    floor_db : float
        Log-mel level, dB, that is scaled to -1.
    range_db : float
        dB above `floor_db` that are scaled to 0.
    threshold : float
        Mask values above it become 1, with the sigmoid's gradient (straight-through):
        the residual of a mask of 0.9 is only 20 dB down, and the model still detects
        it.
    training_threshold : float
        `threshold` in training; higher, to keep the forward pass close to the mask.
    initial_logit : float
        Logit of a new decoder's masks, which keep nearly everything. From 0, training
        ends at a faint constant mask, since a gain hardly changes an embedding.
    initial_slope : float
        Change of a new decoder's logit per 20 dB of a cell's level.

    Attributes
    ----------
    domain : str

    Raises
    ------
    InputError
        If it cannot have that width.
    """

    def __init__(
        self,
        clap: FrozenClap,
        domain: Domain = "stft",
        width: int = 32,
        stride: int = 4,
        groups: int = 8,
        similarity_gain: float = 4.0,
        floor_db: float = -100.0,
        range_db: float = 50.0,
        threshold: float = 0.5,
        training_threshold: float = 0.9,
        initial_logit: float = 3.0,
        initial_slope: float = 1.0,
    ) -> None:
        super().__init__()
        fine = max(groups, width // 8)
        if width < 1 or width % groups or fine % groups:
            raise InputError(
                f"width is {width}: give a multiple of {groups} up to {8 * groups}, or "
                f"one of {8 * groups}"
            )
        self.domain = domain
        self.stride, self.similarity_gain = stride, similarity_gain
        self.floor_db, self.range_db = floor_db, range_db
        self.threshold, self.training_threshold = threshold, training_threshold
        front_end = clap.front_end
        self.n_frames, self.n_mels = front_end.n_frames, front_end.n_mels
        shapes = clap.feature_shapes
        text_dim = clap.embedding_dim
        self.stages = _last_of_each_size(shapes[:-1])
        channels = [shapes[number][0] for number in self.stages]
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.agree = nn.ModuleList(nn.Conv2d(1, width, 1) for _ in channels)
        self.blocks = nn.ModuleList(
            FiLMBlock(width, text_dim, groups) for _ in channels
        )
        # bands and frames that do not fill a cell are padded, and cropped at the end
        self.missing = (-self.n_mels % stride, -self.n_frames % stride)
        self.listen = nn.Conv2d(1, fine, stride + 2, stride=stride, padding=1)
        self.narrow = nn.Conv2d(width, fine, 1)
        self.film = FiLM(fine, text_dim, groups)
        self.draw = nn.Conv2d(fine, 2, 3, padding=1)
        self.draw.bias = nn.Parameter(torch.tensor([initial_logit, initial_slope]))
        self.mel_to_freq = None if domain == "mel" else deepcopy(front_end.mel_to_freq)

    def forward(
        self, text: Tensor, features: tuple[Tensor, ...], log_mel: Tensor
    ) -> Tensor:
        """Decode a mask for every clip and prompt, see `Decoder.forward`."""
        batch, prompts = text.shape[:2]
        flat, places = text.flatten(0, 1), features[-1]
        agreement = self.similarity_gain * (text @ places.flatten(2))
        agreement = agreement.reshape(batch * prompts, 1, *places.shape[-2:])
        x = torch.zeros_like(agreement)
        stages = [features[number] for number in self.stages]
        layers = zip(self.project, self.agree, self.blocks, stages, strict=True)
        for project, agree, block, stage in reversed(list(layers)):
            lateral = per_prompt(project(stage), prompts)
            x = resize(x, stage) + lateral + agree(resize(agreement, stage))
            x = block(x, flat)
        sound = log_mel[:, :1].transpose(-1, -2).contiguous()
        cells = (sound - self.floor_db) / self.range_db - 1
        cells = self.listen(_pad(cells, self.missing))
        x = resize(self.narrow(x), cells) + per_prompt(cells, prompts)
        # residual: FiLM's norm removes constants, such as how present a prompt is
        drawn = self.draw(x + self.film(x, flat))
        level = per_prompt(relative_level(sound), prompts)
        mask = self._mask_of(drawn, level).reshape(batch, prompts, self.n_mels, -1)
        return mask if self.mel_to_freq is None else self.mel_to_freq(mask)

    def _mask_of(self, drawn: Tensor, level: Tensor) -> Tensor:
        """Mask on the mel grid: a sigmoid, and 1 above the threshold.

        The gradient is the sigmoid's throughout: with a sigmoid stretched and clipped
        at 1, that of the masked-out level in dB would be infinite there.
        """
        rows, columns = drawn.shape[-2:]
        fine = _interpolate(drawn, (self.stride * rows, self.stride * columns))
        keep, steep = fine[..., : self.n_mels, : self.n_frames].split(1, dim=1)
        mask = torch.addcmul(keep, steep, level).sigmoid()
        threshold = self.training_threshold if self.training else self.threshold
        return mask + ((1 - mask) * (mask > threshold)).detach()


def load_decoder(decoder: Decoder, path: str | Path) -> None:
    """Load a decoder's weights, which have to be whole and finite.

    SpeechBrain's own loading ignores missing and unknown weights.

    Parameters
    ----------
    decoder : Decoder
        Changed in place.
    path : str or Path
        A safetensors file, or a pickle of torch's: older exports have one. A pickle is
        for files that the user trusts; torch's reader of weights alone opens it.

    Raises
    ------
    InputError
        If the weights are those of another architecture, NaN, infinite or no floating
        point, or the file is damaged.
    """
    path = Path(path)
    state = unpickled([path]) if is_pickle(path) else tensors_in([path])
    try:
        decoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{path} holds weights of another decoder (was it trained for another "
            f"CLAP, or with another width?): {str(error).splitlines()[-1].strip()}"
        ) from error
    if bad := broken(state):
        raise InputError(f"{path}: {counted(bad)} NaN or infinite ({some(bad)})")
    if bad := [key for key, w in state.items() if not w.is_floating_point()]:
        raise InputError(f"{path}: {counted(bad)} of whole numbers ({some(bad)})")


class FiLM(nn.Module):
    """Group norm, gain and shift from the text, GELU (Perez et al., 2018)."""

    def __init__(self, width: int, text_dim: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.film = nn.Linear(text_dim, 2 * width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Condition features [N, width, f, t] on text embeddings [N, D]."""
        # unit-norm embeddings have entries of about 1/sqrt(D)
        film = self.film(text * text.shape[-1] ** 0.5)[..., None, None]
        gain, shift = film.chunk(2, dim=1)
        return nn.functional.gelu(self.norm(x) * (1 + gain) + shift)


class FiLMBlock(nn.Module):
    """FiLM-conditioned residual block."""

    def __init__(self, width: int, text_dim: int, groups: int) -> None:
        super().__init__()
        self.film = FiLM(width, text_dim, groups)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm_out = nn.GroupNorm(groups, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Apply the block; shapes are those of `FiLM`."""
        y = self.conv(self.film(x, text))
        out: Tensor = x + self.mix(nn.functional.gelu(self.norm_out(y)))
        return out


def relative_level(log_mel: Tensor) -> Tensor:
    """Level of every cell of log-mels [B, 1, n_mels, T] relative to its clip's.

    In units of 20 dB, 0 at 20 dB below the clip's mean power; independent of gain.
    """
    cells = log_mel.shape[-2] * log_mel.shape[-1]
    ten = 10 / math.log(10)
    total = ten * (log_mel / ten).logsumexp((2, 3), keepdim=True)
    mean = total - 10 * math.log10(cells)
    return (log_mel - mean) / 20 + 1


def _last_of_each_size(shapes: Sequence[tuple[int, int, int]]) -> list[int]:
    """Indices of the last stage of each size."""
    same_size = groupby(range(len(shapes)), lambda number: shapes[number][1:])
    return [list(numbers)[-1] for _, numbers in same_size]


def per_prompt(x: Tensor, prompts: int) -> Tensor:
    """[B, C, f, t] -> [B * P, C, f, t], each clip's features once per prompt."""
    return x[:, None].expand(-1, prompts, -1, -1, -1).flatten(0, 1)


def _pad(x: Tensor, missing: tuple[int, int]) -> Tensor:
    """Repeat the last row and column to fill the last cells."""
    return nn.functional.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate maps [..., f, t] to the grid of another map."""
    return _interpolate(x, (like.shape[-2], like.shape[-1]))


def _interpolate(x: Tensor, size: tuple[int, int]) -> Tensor:
    # a token stands for the middle of its patch, which align_corners=True would move
    # by up to 1.5 frames and bands at the finest scale
    return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
