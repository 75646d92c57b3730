"""The mask decoder: M(t, h) of LMAC-ZS.

A text embedding and the features of every stage of the audio encoder go in, a mask
comes out. Coarse stages say *what*, fine ones *where*; the text is let in at every
scale (FiLM, Perez et al., 2018), because a decoder that hears of the prompt only once
learns to draw the loudest sound whatever the prompt is. Where the encoder's own
embedding of a place agrees with the text is told at every scale, too: so a mask can
follow prompts that the decoder was not trained on.

The mask is drawn on every second mel band and frame, which is finer than the encoder's
patches. What is drawn there is how much of a place is kept, and how much that depends
on the level of each of its cells, so that a mask follows a sound through its pauses and
between its partials. It is carried to the STFT's bins by interpolation
(`FrontEnd.expand_mask`).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.frontend import Domain

GROUPS = 8
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
        self, clap: FrozenClap, domain: Domain = "stft", width: int = 64
    ) -> None:
        super().__init__()
        self.domain = domain
        front_end = clap.front_end
        self.n_frames, self.n_mels = front_end.n_frames, front_end.n_mels
        shapes = clap.feature_shapes
        text_dim = clap.embedding_dim
        stages = shapes[:-1]
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c, _, _ in stages)
        self.agree = nn.ModuleList(nn.Conv2d(1, width, 1) for _ in stages)
        self.blocks = nn.ModuleList(FilmBlock(width, text_dim) for _ in stages)
        fine = max(GROUPS, width // 8)
        # an odd number of frames or bands gets one more, and loses it again
        self.odd = (self.n_mels % 2, self.n_frames % 2)
        self.listen = nn.Conv2d(1, fine, 4, stride=2, padding=1)
        self.narrow = nn.Conv2d(width, fine, 1)
        self.refine = FilmBlock(fine, text_dim)
        self.draw = nn.Conv2d(fine, 2, 1)
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
            From `FrozenClap.encode_audio`, fine to coarse.
        log_mel : Tensor [B, C, T, n_mels]
            The encoder's input, dB: the finest of the features.

        Returns
        -------
        Tensor [B, P, F, T], or [B, P, n_mels, T] in the mel domain
            In [0, 1], on the input grid (see `lmaczs.frontend`).
        """
        batch, prompts = text.shape[:2]
        flat, (*stages, places) = text.flatten(0, 1), features
        agreement = CONTRAST * (text @ places.flatten(2))
        agreement = agreement.reshape(batch * prompts, 1, *places.shape[-2:])
        x = torch.zeros_like(agreement)
        layers = zip(self.project, self.agree, self.blocks, stages, strict=True)
        for project, agree, block, stage in reversed(list(layers)):
            size = stage.shape[-2:]
            heard = _per_prompt(project(stage), prompts)
            x = _resize(x, size) + heard + agree(_resize(agreement, size))
            x = block(x, flat)
        heard = (log_mel[:, :1].transpose(-1, -2) - FLOOR_DB) / RANGE_DB - 1
        heard = self.listen(_pad(heard, self.odd))
        x = _resize(self.narrow(x), heard.shape[-2:]) + _per_prompt(heard, prompts)
        drawn = self.draw(self.refine(x, flat))
        level = _per_prompt(relative_level(log_mel[:, :1]), prompts)
        mask = self._mask_of(drawn, level).reshape(batch, prompts, self.n_mels, -1)
        return mask if self.mel_to_freq is None else self.mel_to_freq @ mask

    def _mask_of(self, drawn: Tensor, level: Tensor) -> Tensor:
        """Mask on the mel grid: a sigmoid, and 1 where that is large.

        The gradient is the sigmoid's throughout. Of a sigmoid that is stretched beyond
        1 and cut, the level in dB of what is removed would fall infinitely fast there.
        """
        size = [2 * n for n in drawn.shape[-2:]]
        fine = _resize(drawn, size)[..., : self.n_mels, : self.n_frames]
        keep, steep = fine.split(1, dim=1)
        mask = (keep + steep * level).sigmoid()
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
    ValueError
        If the weights are those of another architecture.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        decoder.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds weights of another decoder (was it trained for another "
            f"CLAP, or with another width?): {str(error).splitlines()[-1].strip()}"
        ) from error


class FilmBlock(nn.Module):
    """Residual convolution whose channels are scaled and shifted by the text.

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
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm_out = nn.GroupNorm(GROUPS, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Apply the block.

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
        gain, shift = self.film(text * text.shape[-1] ** 0.5)[..., None, None].chunk(
            2, dim=1
        )
        y = self.conv(nn.functional.gelu(self.norm(x) * (1 + gain) + shift))
        return x + self.mix(nn.functional.gelu(self.norm_out(y)))


def relative_level(log_mel: Tensor) -> Tensor:
    """Level of every cell against that of its clip.

    Parameters
    ----------
    log_mel : Tensor [B, 1, T, n_mels]
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
    return ((log_mel - mean) / 20 + 1).transpose(-1, -2)


def _per_prompt(x: Tensor, prompts: int) -> Tensor:
    """[B, C, f, t] -> [B * P, C, f, t], each clip's features once a prompt."""
    return x.repeat_interleave(prompts, dim=0)


def _pad(x: Tensor, odd: tuple[int, int]) -> Tensor:
    """Repeat the last row or column where its number is odd."""
    return nn.functional.pad(x, (0, odd[1], 0, odd[0]), mode="replicate")


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    # a token stands for the middle of its patch, which align_corners=True would move
    # by up to 1.5 frames and bands at the finest scale
    return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
