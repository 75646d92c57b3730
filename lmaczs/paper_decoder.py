"""The mask decoder M(t, h) by the recipe of LMAC-ZS (Paissan et al., 2024).

From the last four representations of the audio encoder, coarse to fine, a mask grows
by transposed convolutions; at each of them the text enters by cross-attention, as in
latent diffusion (Rombach et al., 2022), and a sigmoid ends it. The paper's text has no
widths or numbers of layers: those are ours. So are two readings of it. A CLAP has one
embedding for a prompt, and attention to a single key is the same in every place:
the embedding is projected to several keys. And the mask is drawn on the mel grid, which
is what the encoder reads, and carried to the STFT's bins as that of `MaskDecoder` is.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder, per_prompt
from lmaczs.frontend import Domain
from lmaczs.utils.errors import InputError

REPRESENTATIONS = 4


# Its path, its arguments `clap`, `domain` and `width`, and the names of its submodules
# stand in exported folders, as those of `lmaczs.decoder.MaskDecoder` do.
class PaperDecoder(Decoder):
    """Decode a mask by transposed convolutions and cross-attention.

    Parameters
    ----------
    clap : FrozenClap
        Gives the shapes of embeddings, features and spectrograms; not stored.
    domain : {"mel", "stft", "waveform"}
        ``mel``: masks [n_mels, T]. Otherwise [F, T].
    width : int
        Channels, a multiple of `heads` and of `groups`.
    keys : int
        Keys and values that an embedding is projected to.
    heads : int
        Heads of each cross-attention.
    groups : int
        Groups of every GroupNorm.
    initial_logit : float
        Logit of a new decoder's masks, which keep nearly everything. From 0, training
        by the paper's objective ends at a faint constant mask: a gain hardly changes an
        embedding.

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
        keys: int = 8,
        heads: int = 4,
        groups: int = 8,
        initial_logit: float = 3.0,
    ) -> None:
        super().__init__()
        if width < 1 or width % heads or width % groups:
            raise InputError(
                f"width is {width}: give a multiple of {heads} and of {groups}"
            )
        self.domain, self.width = domain, width
        front_end, shapes = clap.front_end, clap.feature_shapes[:-1]
        self.size = front_end.n_mels, front_end.n_frames
        self.stages = range(len(shapes))[-REPRESENTATIONS:]
        kept = [shapes[number] for number in self.stages]
        self.context = nn.Linear(clap.embedding_dim, keys * width)
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c, *_ in kept)
        self.attend = nn.ModuleList(CrossAttention(width, heads) for _ in kept)
        self.up = nn.ModuleList(
            # a patch embedding and the stage after it are of one size
            upsampling(width, groups, doubles=fine[1:] != coarse[1:])
            for fine, coarse in zip(kept[:-1], kept[1:], strict=True)
        )
        doublings = math.ceil(math.log2(front_end.n_mels / kept[0][1]))
        self.grow = nn.Sequential(
            *(upsampling(width, groups, doubles=True) for _ in range(doublings))
        )
        self.draw = nn.Conv2d(width, 1, 3, padding=1)
        self.draw.bias = nn.Parameter(torch.tensor([initial_logit]))
        self.mel_to_freq = None if domain == "mel" else deepcopy(front_end.mel_to_freq)

    def forward(
        self, text: Tensor, features: tuple[Tensor, ...], log_mel: Tensor
    ) -> Tensor:
        """Decode masks of every prompt for every clip, see `Decoder.forward`."""
        batch, prompts = text.shape[:2]
        # unit-norm embeddings have entries of about 1/sqrt(D)
        unit_scale = text.flatten(0, 1) * text.shape[-1] ** 0.5
        context = self.context(unit_scale).unflatten(-1, (-1, self.width))
        stages = [
            per_prompt(project(features[number]), prompts)
            for project, number in zip(self.project, self.stages, strict=True)
        ]
        x = self.attend[-1](stages.pop(), context)
        for up, attend in reversed(list(zip(self.up, self.attend, strict=False))):
            x = attend(up(x) + stages.pop(), context)
        drawn = self.draw(self.grow(x))
        # the encoder, too, stretches its input's frames to its grid
        drawn = nn.functional.interpolate(
            drawn, self.size, mode="bilinear", align_corners=False
        )
        mask = drawn.sigmoid().view(batch, prompts, *self.size)
        return mask if self.mel_to_freq is None else self.mel_to_freq(mask)


class CrossAttention(nn.Module):
    """Attention of every place to the text, then a feed-forward layer; both residual.

    A transformer block of latent diffusion without its self-attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_out = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Condition features [N, width, f, t] on keys [N, K, width]."""
        places = x.flatten(2).transpose(1, 2)
        query = self.norm(places)
        places = places + self.attention(query, context, context, need_weights=False)[0]
        places = places + self.mix(self.norm_out(places))
        out: Tensor = places.transpose(1, 2).reshape(x.shape)
        return out


def upsampling(width: int, groups: int, doubles: bool) -> nn.Sequential:
    """Transposed convolution that doubles both axes or keeps them, norm and GELU."""
    kernel, stride = (4, 2) if doubles else (3, 1)
    convolution = nn.ConvTranspose2d(width, width, kernel, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(groups, width), nn.GELU())
