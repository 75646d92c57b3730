"""The frozen CLAP: text embeddings, audio embeddings, multi-scale audio features.

CLAP's audio encoder (HTS-AT) stacks `R` stretches of time on top of each other to get
a square image: a token grid as Hugging Face returns it is *not* (frequency, time).
All maps that this module returns are, by `unfold`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ClapFeatureExtractor, ClapModel, PreTrainedTokenizerBase

from lmaczs.clap_checkpoint import ClapError, load_checkpoint
from lmaczs.frontend import FrontEnd
from lmaczs.hub import local_folder
from lmaczs.utils.ending import sentence_of
from lmaczs.utils.errors import LmaczsError

logger = logging.getLogger(__name__)

UNRELATED = ("a dog barking", "piano music", "heavy rain", "a person speaking")
COLLAPSED_COSINE = 0.95  # mean, of unrelated prompts: a text tower beyond it is dead


@dataclass(frozen=True)
class AudioEncoding:
    """Audio-encoder output for a batch of clips.

    Attributes
    ----------
    embedding : Tensor [B, D]
        Unit norm.
    features : tuple of Tensor [B, C, f, t]
        `h` of the paper: patch embedding and output of every stage, fine to coarse,
        frequency low to high; last, the audio embedding [B, D, f, t] of each location
        on the coarsest grid, unit norm, comparable with text embeddings.
    last : Tensor [B, C, f, t]
        The last stage after its norm, from which `embedding` is computed (for
        Grad-CAM's gradient).
    """

    embedding: Tensor
    features: tuple[Tensor, ...]
    last: Tensor

    def of(self, clips: Sequence[int]) -> AudioEncoding:
        """Output for some of the clips."""
        rows = list(clips)
        features = tuple(one[rows] for one in self.features)
        return AudioEncoding(self.embedding[rows], features, self.last[rows])


class FrozenClap(nn.Module):
    """A CLAP checkpoint without gradients to its weights, always in eval mode.

    Gradients flow through it to its input.

    Parameters
    ----------
    model : ClapModel
        Fused or not.
    feature_extractor : ClapFeatureExtractor
        The checkpoint's own.
    tokenizer : PreTrainedTokenizerBase
        The checkpoint's own.
    cached_prompts : int
        Most text embeddings in the cache; it is emptied before it would exceed them.

    Attributes
    ----------
    precision : torch.dtype
        In which the audio encoder multiplies (autocast); its results are float32.
    """

    def __init__(
        self,
        model: ClapModel,
        feature_extractor: ClapFeatureExtractor,
        tokenizer: PreTrainedTokenizerBase,
        cached_prompts: int = 16384,
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor
        self.front_end = FrontEnd(feature_extractor)
        self.freq_ratio = model.audio_model.audio_encoder.freq_ratio
        self.embedding_dim = int(model.config.projection_dim)
        self.logit_scale = float(model.logit_scale_a.exp())
        text_config: Any = model.config.text_config
        positions = text_config.max_position_embeddings
        self.max_tokens = min(tokenizer.model_max_length, positions - 2)
        self.cached_prompts = cached_prompts
        self._prompt_cache: dict[str, Tensor] = {}
        self.precision = torch.float32
        self.text_spread = self._check_text_tower()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        relative_to: str | Path | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> FrozenClap:
        """Load a checkpoint from a folder, or by Hub id; see `hub.local_folder`.

        `revision` is a commit, a tag or a branch of a repository of the Hub.

        FileNotFoundError if there is no such folder or it holds no CLAP checkpoint;
        ClapError if that is damaged or not to be trusted, see `load_checkpoint`.
        """
        place = local_folder(source, relative_to) or source
        parts = load_checkpoint(place, revision, trust_remote_code)
        try:
            return cls(*parts)
        except LmaczsError:
            raise
        except Exception as error:  # numbers of its files that do not fit one another
            raise ClapError(
                f"{source} cannot encode a prompt: {sentence_of(error)}"
            ) from error

    def train(self, mode: bool = True) -> FrozenClap:
        """Stay in eval mode: ``Brain.fit`` calls ``train()`` on every module."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        device: torch.device = self.model.logit_scale_a.device
        return device

    @property
    def feature_shapes(self) -> list[tuple[int, int, int]]:
        """(channels, frequency, time) of each map in `AudioEncoding.features`."""
        config = self.model.config.audio_config
        grid = config.spec_size // config.patch_size
        width, ratio = config.patch_embeds_hidden_size, self.freq_ratio
        stages = [
            (width * 2**i, grid // 2**i // ratio, grid // 2**i * ratio)
            for i in range(len(config.depths))
        ]
        return [stages[0], *stages, (self.embedding_dim, *stages[-1][1:])]

    # ------------------------------------------------------------------- text

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings `t` of the paper; each distinct prompt is encoded once.

        Prompts are encoded one by one: in a batch, padding and matrix sizes would
        change an embedding in its last bits with the other prompts.

        Parameters
        ----------
        prompts : sequence of str
            Whole sentences, see `lmaczs.prompts.to_sentence`.

        Returns
        -------
        Tensor [N, D]
            Unit norm, on this module's device.

        Raises
        ------
        TypeError
            If `prompts` is one string.
        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts is a text; give a list of prompts: [{prompts!r}]")
        new = [p for p in dict.fromkeys(prompts) if p not in self._prompt_cache]
        if len(self._prompt_cache) + len(new) > self.cached_prompts:
            self._prompt_cache.clear()
            new = list(dict.fromkeys(prompts))
        self._prompt_cache.update((p, self.embed_texts([p])[0]) for p in new)
        rows = [self._prompt_cache[p] for p in prompts]
        found = torch.stack(rows) if rows else torch.zeros(0, self.embedding_dim)
        return found.to(self.device)

    @torch.no_grad()
    def embed_texts(self, prompts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Text embeddings [N, D] of many prompts, in batches and uncached; on the CPU.

        A quarter of the time of `encode_text`, and equal to it but for the last bits.
        """
        parts = []
        for first in range(0, len(prompts), batch_size):
            tokens = self.tokenizer(
                list(prompts[first : first + batch_size]),
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            with torch.autocast(self.device.type, enabled=False):  # callers cache it
                out = self.model.get_text_features(
                    tokens.input_ids, tokens.attention_mask
                )
            parts.append(out.pooler_output.cpu())
        return torch.cat(parts)

    def _check_text_tower(self) -> float:
        """Mean cosine of unrelated prompts: about 1 for a collapsed text tower."""
        embeddings = self.encode_text(UNRELATED)
        if not bool(embeddings.isfinite().all()):
            raise ClapError("the embeddings of this checkpoint's prompts are NaN")
        off_diagonal = ~torch.eye(len(UNRELATED), dtype=torch.bool)
        spread = float((embeddings @ embeddings.T).cpu()[off_diagonal].mean())
        if spread > COLLAPSED_COSINE:
            logger.warning(
                "This checkpoint's text embeddings are all alike (mean cosine of "
                "unrelated prompts %.3f): no explanation of it can depend on the "
                "prompt. Use another checkpoint.",
                spread,
            )
        return spread

    # ------------------------------------------------------------------ audio

    def audio_features(self, log_mel: Tensor) -> AudioEncoding:
        """Embedding and features of clips, from log-mels [B, C, T, n_mels]."""
        out = self._audio(
            log_mel,
            output_hidden_states=True,
            output_hidden_states_before_downsampling=True,
        )
        last = out.last_hidden_state
        stages = tuple(unfold(h, self.freq_ratio) for h in out.hidden_states)
        places = self.model.audio_projection(last.movedim(1, -1)).movedim(-1, 1)
        features = (*stages, nn.functional.normalize(places, dim=1))
        return AudioEncoding(out.pooler_output, features, last)

    def audio_embedding(self, log_mel: Tensor) -> Tensor:
        """Embedding [B, D] of clips, unit norm, from log-mels: `f` of the paper."""
        embedding: Tensor = self._audio(log_mel).pooler_output
        return embedding

    def _audio(self, log_mel: Tensor, **options: bool) -> Any:
        # even a fused checkpoint: longer clips come in windows
        longer = torch.zeros(
            log_mel.shape[0], 1, dtype=torch.bool, device=log_mel.device
        )
        encode = partial(self.model.get_audio_features, is_longer=longer, **options)
        if self.precision == torch.float32:  # training's autocast holds
            return encode(log_mel)
        with torch.autocast(log_mel.device.type, self.precision):
            out = encode(log_mel)
        out.last_hidden_state = out.last_hidden_state.float()
        # the norm that transformers gives it is rounded as well
        out.pooler_output = nn.functional.normalize(out.pooler_output.float(), dim=-1)
        if out.hidden_states is not None:
            out.hidden_states = tuple(h.float() for h in out.hidden_states)
        return out


def unfold(tokens: Tensor, freq_ratio: int) -> Tensor:
    """Undo HTS-AT's folding of time into the image's rows.

    ::

        image rows   [stretch 0: low .. high | stretch 1: low .. high | ...]
        becomes      low .. high  x  stretch 0, stretch 1, ... in time

    Parameters
    ----------
    tokens : Tensor [B, C, R * f, w]
        A token grid as HF returns it.
    freq_ratio : int
        Number `R` of stretches, ``spec_size // num_mel_bins``.

    Returns
    -------
    Tensor [B, C, f, R * w]
        (frequency low to high, time).
    """
    b, c, rows, width = tokens.shape
    f = rows // freq_ratio
    stretches = tokens.reshape(b, c, freq_ratio, f, width)
    return stretches.permute(0, 1, 3, 2, 4).reshape(b, c, f, freq_ratio * width)
