"""The mask decoder: M(t, h) of LMAC-ZS, with layers of ours (LMAC-ZS+).

A text embedding and the features of every stage of the audio encoder go in, a mask
comes out. Coarse stages say *what*, fine ones *where*; the text is let in at every
scale (FiLM, Perez et al., 2018), because a decoder that hears of the prompt only once
learns to draw the loudest sound whatever the prompt is. Where the encoder's own
embedding of a place agrees with the text is told at every scale, too: so a mask can
follow prompts that the decoder was not trained on.

The mask is drawn on every fourth mel band and frame, which is finer than the encoder's
patches. What is drawn there is how much of a place is kept, and how much that depends
on the level of each of its cells, so that a mask follows a sound through its pauses and
between its partials. It is carried to the STFT's bins by interpolation
(`FrontEnd.expand_mask`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.frontend import Domain
from lmaczs.utils.errors import InputError

GROUPS = 8
PLACE = 4  # mel bands and frames that share what is drawn
FLOOR_DB, RANGE_DB = -100.0, 50.0
CONTRAST = 4.0  # similarities are below 1
# A cell that is kept for the most part is kept entirely: what a mask of 0.9 removes is
# 20 dB weaker, which an audio model hears as well. While it learns, less is rounded, so
# that it hears what it draws.
WHOLE, WHOLE_IN_TRAINING = 0.5, 0.9
# A new decoder keeps nearly everything. An audio model hardly hears a gain, so that one
# that starts half-way ends at a faint mask that is alike everywhere.
KEEP = 3.0
STEEP = 1.0  # for 20 dB


class MaskDecoder(nn.Module):
    """Decode a mask from a prompt's embedding and a clip's features.

    All sizes but `width` come from the checkpoint. There is no BatchNorm: its
    statistics would differ between processes, and a mask would depend on its batch.

    Parameters
    ----------
    clap : FrozenClap
        Gives the shapes of embeddings, features and spectrograms. It is asked once
        and not kept.
    domain : {"mel", "stft", "waveform"}
        ``mel``: masks [n_mels, T]. Otherwise [F, T].
    width : int
        Channels at the coarse scales, a multiple of 8.

    Attributes
    ----------
    domain : str
        As given.
    """

    def __init__(
        self, clap: FrozenClap, domain: Domain = "stft", width: int = 32
    ) -> None:
        super().__init__()
        self.domain = domain
        front_end = clap.front_end
        self.n_frames, self.n_mels = front_end.n_frames, front_end.n_mels
        shapes = clap.feature_shapes
        text_dim = clap.embedding_dim
        self.stages = _last_of_each_size(shapes[:-1])
        channels = [shapes[number][0] for number in self.stages]
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.agree = nn.ModuleList(nn.Conv2d(1, width, 1) for _ in channels)
        self.blocks = nn.ModuleList(FilmBlock(width, text_dim) for _ in channels)
        fine = max(GROUPS, width // 8)
        # bands and frames that do not fill a place get more, and lose them again
        self.missing = (-self.n_mels % PLACE, -self.n_frames % PLACE)
        self.listen = nn.Conv2d(1, fine, PLACE + 2, stride=PLACE, padding=1)
        self.narrow = nn.Conv2d(width, fine, 1)
        self.film = Film(fine, text_dim)
        self.draw = nn.Conv2d(fine, 2, 3, padding=1)
        self.draw.bias.data = torch.tensor([KEEP, STEEP])
        bridge = None if domain == "mel" else front_end.mel_to_freq.clone()
        self.register_buffer("mel_to_freq", bridge, persistent=False)

    def forward(
        self, text: Tensor, features: tuple[Tensor, ...], log_mel: Tensor
    ) -> Tensor:
        """Decode masks of every prompt for every clip.

        Parameters
        ----------
        text : Tensor [B, P, D]
            Unit-norm embeddings of P prompts for each clip.
        features : tuple of Tensor [B, C, f, t]
            From `FrozenClap.audio_features`, fine to coarse.
        log_mel : Tensor [B, C, T, n_mels]
            The encoder's input, dB: the finest of the features.

        Returns
        -------
        Tensor [B, P, F, T], or [B, P, n_mels, T] in the mel domain
            In [0, 1], on the input grid (see `lmaczs.frontend`).
        """
        batch, prompts = text.shape[:2]
        flat, places = text.flatten(0, 1), features[-1]
        agreement = CONTRAST * (text @ places.flatten(2))
        agreement = agreement.reshape(batch * prompts, 1, *places.shape[-2:])
        x = torch.zeros_like(agreement)
        stages = [features[number] for number in self.stages]
        layers = zip(self.project, self.agree, self.blocks, stages, strict=True)
        for project, agree, block, stage in reversed(list(layers)):
            size = stage.shape[-2:]
            heard = _per_prompt(project(stage), prompts)
            x = _resize(x, size) + heard + agree(_resize(agreement, size))
            x = block(x, flat)
        sound = log_mel[:, :1].transpose(-1, -2).contiguous()
        heard = (sound - FLOOR_DB) / RANGE_DB - 1
        heard = self.listen(_pad(heard, self.missing))
        x = _resize(self.narrow(x), heard.shape[-2:]) + _per_prompt(heard, prompts)
        # the norm in it takes away what is the same everywhere: how present a prompt is
        drawn = self.draw(x + self.film(x, flat))
        level = _per_prompt(relative_level(sound), prompts)
        mask = self._mask_of(drawn, level).reshape(batch, prompts, self.n_mels, -1)
        return mask if self.mel_to_freq is None else self.mel_to_freq @ mask

    def _mask_of(self, drawn: Tensor, level: Tensor) -> Tensor:
        """Mask on the mel grid: a sigmoid, and 1 where that is large.

        The gradient is the sigmoid's throughout. Of a sigmoid that is stretched beyond
        1 and cut, the level in dB of what is removed would fall infinitely fast there.
        """
        size = [PLACE * n for n in drawn.shape[-2:]]
        fine = _resize(drawn, size)[..., : self.n_mels, : self.n_frames]
        keep, steep = fine.split(1, dim=1)
        mask = torch.addcmul(keep, steep, level).sigmoid()
        whole = mask > (WHOLE_IN_TRAINING if self.training else WHOLE)
        return mask + ((1 - mask) * whole).detach()


def load_decoder(decoder: MaskDecoder, path: str | Path) -> None:
    """Load a decoder's weights, all of them or none.

    SpeechBrain's own transfer ignores missing and unknown weights.

    Parameters
    ----------
    decoder : MaskDecoder
        Built for the same CLAP.
    path : str or Path
        A state dict.

    Raises
    ------
    InputError
        If the weights are those of another architecture.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        decoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{path} holds weights of another decoder (was it trained for another "
            f"CLAP, or with another width?): {str(error).splitlines()[-1].strip()}"
        ) from error


class Film(nn.Module):
    """Channels that are normalised, scaled and shifted by the text, and rectified.

    Parameters
    ----------
    width : int
        Channels, a multiple of 8.
    text_dim : int
        Size of the text embedding.
    """

    def __init__(self, width: int, text_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.film = nn.Linear(text_dim, 2 * width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Let the text in.

        Parameters
        ----------
        x : Tensor [N, width, f, t]
            Features.
        text : Tensor [N, D]
            Text embedding of each.

        Returns
        -------
        Tensor [N, width, f, t]
        """
        # unit-norm embeddings have entries of about 1/sqrt(D)
        film = self.film(text * text.shape[-1] ** 0.5)[..., None, None]
        gain, shift = film.chunk(2, dim=1)
        return nn.functional.gelu(self.norm(x) * (1 + gain) + shift)


class FilmBlock(nn.Module):
    """Residual convolution that hears of the text.

    Parameters
    ----------
    width : int
        Channels, a multiple of 8.
    text_dim : int
        Size of the text embedding.
    """

    def __init__(self, width: int, text_dim: int) -> None:
        super().__init__()
        self.film = Film(width, text_dim)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm_out = nn.GroupNorm(GROUPS, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Apply the block; shapes are those of `Film`."""
        y = self.conv(self.film(x, text))
        return x + self.mix(nn.functional.gelu(self.norm_out(y)))


def relative_level(log_mel: Tensor) -> Tensor:
    """Level of every cell against that of its clip.

    Parameters
    ----------
    log_mel : Tensor [B, 1, n_mels, T]
        dB.

    Returns
    -------
    Tensor [B, 1, n_mels, T]
        In steps of 20 dB, 0 at 20 dB below the clip's mean power; the same at any gain.
    """
    cells = log_mel.shape[-2] * log_mel.shape[-1]
    ten = 10 / math.log(10)
    total = ten * (log_mel / ten).logsumexp((2, 3), keepdim=True)
    mean = total - 10 * math.log10(cells)
    return (log_mel - mean) / 20 + 1


def _last_of_each_size(shapes: Sequence[tuple[int, int, int]]) -> list[int]:
    """Of neighbours of one size the last one, which holds what the others found."""
    same_size = groupby(range(len(shapes)), lambda number: shapes[number][1:])
    return [list(numbers)[-1] for _, numbers in same_size]


def _per_prompt(x: Tensor, prompts: int) -> Tensor:
    """[B, C, f, t] -> [B * P, C, f, t], each clip's features once a prompt."""
    return x[:, None].expand(-1, prompts, -1, -1, -1).flatten(0, 1)


def _pad(x: Tensor, missing: tuple[int, int]) -> Tensor:
    """Repeat the last row and column where places are not filled."""
    return nn.functional.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    # a token stands for the middle of its patch, which align_corners=True would move
    # by up to 1.5 frames and bands at the finest scale
    return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
