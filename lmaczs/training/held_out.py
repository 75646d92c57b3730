"""How a decoder does on held-out clips, beside masks that are fitted without one."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.metrics.faithfulness import (
    MEANINGS,
    class_probabilities,
    faithfulness_table,
)
from lmaczs.metrics.metric import legend
from lmaczs.presence import reference_text
from lmaczs.refinement import refine

HELD_OUT_FILE = "held_out.json"  # of a run, see `lmaczs.training.adapt`
SHOWN = ("AI", "AD", "AG", "FF", "Fid-In", "MM")
SECONDS = "s a clip"

Rows = dict[str, dict[str, float]]
"""Means over clips of `SHOWN` and the time of a clip in seconds, by method."""


@dataclass(frozen=True)
class HeldOut:
    """A batch of clips, and the prompts that the model ranks first among classes.

    spectrum [B, F, n_frames]; text [B, D]; log_mel is the encoder's input; samples [B].
    """

    spectrum: Tensor
    log_mel: Tensor
    encoding: AudioEncoding
    text: Tensor
    samples: Tensor


MaskMaker = Callable[[HeldOut], Tensor]
"""Gives masks [B, F, n_frames] in the decoder's domain."""


def mask_makers(clap: FrozenClap, decoder: Decoder) -> dict[str, MaskMaker]:
    """Decoder alone, decoder with refinement, and refinement without a decoder."""

    def decoded(batch: HeldOut) -> Tensor:
        masks = decoder(batch.text[:, None], batch.encoding.features, batch.log_mel)
        return clap.front_end.tile_mask(masks.float(), batch.samples)[:, 0]

    def refined(batch: HeldOut, start: Tensor | None) -> Tensor:
        found = refine(
            clap,
            batch.spectrum,
            batch.encoding,
            batch.text,
            reference_text(clap),
            batch.samples,
            start,
            domain=decoder.domain,
        )
        return found.masks

    return {
        "decoder": decoded,
        "decoder, refined": lambda batch: refined(batch, decoded(batch)),
        "fitted": lambda batch: refined(batch, None),
    }


@torch.no_grad()
def compare(
    clap: FrozenClap,
    decoder: Decoder,
    batches: Iterable[Mapping[str, Any]],
    classes: Tensor,
) -> Rows:
    """Explain the class that the model predicts for each clip by every method.

    Parameters
    ----------
    clap : FrozenClap
        The model.
    decoder : Decoder
        Trained for it, in eval mode and on its device.
    batches : iterable of mapping
        Of `lmaczs.data.prompted_dataset.collate`.
    classes : Tensor [K, D]
        Embeddings of the prompts that the model chooses from.

    Returns
    -------
    dict of str to dict
        Means over the clips. The time is that of the mask alone, on this machine.
    """
    makers = mask_makers(clap, decoder)
    kept: dict[str, dict[str, list[Tensor]]] = {name: {} for name in makers}
    seconds, clips = dict.fromkeys(makers, 0.0), 0
    for given in batches:
        batch = _held_out(clap, given, classes)
        clips += len(batch.text)
        for name, make in makers.items():
            begun = _now(clap.device)
            masks = make(batch)
            seconds[name] += _now(clap.device) - begun
            for key, values in _metrics(
                clap, decoder.domain, batch, masks, classes
            ).items():
                kept[name].setdefault(key, []).append(values.cpu())
    return {
        name: {
            **{key: float(torch.cat(own[key]).mean()) for key in SHOWN},
            SECONDS: seconds[name] / max(1, clips),
        }
        for name, own in kept.items()
    }


def _held_out(clap: FrozenClap, batch: Mapping[str, Any], classes: Tensor) -> HeldOut:
    front_end = clap.front_end
    spectrum = front_end.stft(batch["wav"].to(clap.device))
    log_mel = front_end.stft_to_log_mel(spectrum)
    encoding = clap.audio_features(log_mel)
    text = classes[(encoding.embedding @ classes.T).argmax(-1)]
    samples = batch["samples"].to(clap.device)
    cut = spectrum[..., : front_end.n_frames]
    return HeldOut(cut, log_mel, encoding, text, samples)


def _metrics(
    clap: FrozenClap, domain: Any, batch: HeldOut, masks: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    both = torch.stack([masks, 1 - masks], 1)
    log_mel = clap.front_end.input_tf(batch.spectrum, both, domain)
    embedded = clap.audio_embedding(log_mel).view(len(masks), 2, -1)

    def probabilities(embedding: Tensor) -> Tensor:
        return class_probabilities(embedding, classes, clap.logit_scale)

    kept, left = (probabilities(embedded[:, i]) for i in (0, 1))
    return faithfulness_table(
        probabilities(batch.encoding.embedding), kept, left, masks
    )


def _now(device: torch.device) -> float:
    """Time in s, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def held_out_table(rows: Rows, clips: int, classes: int) -> str:
    """Markdown table of `compare`, with a legend."""
    lines = _cells(rows)
    lines.insert(1, ["---"] * len(lines[0]))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_legend(clips, classes)}"


def held_out_text(rows: Rows, clips: int, classes: int) -> str:
    """The same for a terminal."""
    table = [
        f"{name:<17}" + "".join(f"{cell:>9}" for cell in cells)
        for name, *cells in _cells(rows)
    ]
    return "\n".join([*table, *textwrap.wrap(_legend(clips, classes), 88)])


def _cells(rows: Rows) -> list[list[str]]:
    names = [*SHOWN, SECONDS]
    return [
        ["", *names],
        *([name, *(f"{one[key]:.3g}" for key in names)] for name, one in rows.items()),
    ]


def _legend(clips: int, classes: int) -> str:
    return (
        f"Means over {clips} held-out clips, each for the prompt that the CLAP ranks "
        f"first of {classes}. Decoder: its masks, in one pass; refined: improved by "
        "gradient steps where they fail; fitted: gradient steps from nothing, without "
        f"a decoder. {legend(MEANINGS, SHOWN)}; {SECONDS}: seconds for a mask, on the "
        "machine that measured."
    )
