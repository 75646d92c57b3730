"""A model as ONNX graphs, which programs without torch can run.

A folder of three graphs, with any number of clips (B) and of prompts (P) of each::

    encoder.onnx   power [B, F, T] -> embedding [B, D], log_mel, features_0, ...
    decoder.onnx   text [B, P, D], log_mel, features_0, ... -> mask [B, P, F, T]
    masked.onnx    power, mask, text -> similarity [B, P] that is left under the masks
    prompts.npz    prompts and references, by name, with their embeddings
    model.json     of the STFT, and of the model

Power is that of an STFT of the encoder's whole input, see `FrontEnd.fit_length`; mel
bands and decibels are in the graphs. ``docs/onnx_explain.py`` shows the rest.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from lmaczs import __version__
from lmaczs.clap import FrozenClap
from lmaczs.decoder import Decoder
from lmaczs.explanation import heard_frames
from lmaczs.frontend import power
from lmaczs.presence import reference_names, reference_text
from lmaczs.prompts import to_sentence
from lmaczs.utils.errors import InputError
from lmaczs.utils.extras import require_packages
from lmaczs.utils.locks import written_alone

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference between a graph's results and the model's own."""

SPARED = 1e-3
"""Share of a mask's cells in which it may be larger: a decoder may round masks above a
threshold to 1, and those beside it fall on either side."""

GRAPHS = ("encoder", "decoder", "masked")
FILES = {*(f"{name}.onnx" for name in GRAPHS), "prompts.npz", "model.json"}
SIZES = ((2, 3), (1, 1), (3, 2))  # clips and prompts: the first exports, others check


class _Encoder(nn.Module):
    def __init__(self, clap: FrozenClap) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, power: Tensor) -> tuple[Tensor, ...]:
        front_end = self.clap.front_end
        log_mel = front_end.to_log_mel(front_end.mel_power(power))
        encoding = self.clap.audio_features(log_mel)
        return encoding.embedding, log_mel, *encoding.features


class _Decoder(nn.Module):
    def __init__(self, clap: FrozenClap, decoder: Decoder) -> None:
        super().__init__()
        self.clap, self.decoder = clap, decoder

    def forward(self, text: Tensor, log_mel: Tensor, features: list[Tensor]) -> Tensor:
        masks: Tensor = self.decoder(text, tuple(features), log_mel)
        if self.decoder.domain == "mel":
            masks = self.clap.front_end.expand_mask(masks)
        heard = heard_frames(self.clap.front_end, log_mel)
        return masks * heard[:, None, None].to(masks.dtype)


class _Masked(nn.Module):
    def __init__(self, clap: FrozenClap) -> None:
        super().__init__()
        self.clap = clap

    def forward(self, power: Tensor, mask: Tensor, text: Tensor) -> Tensor:
        front_end = self.clap.front_end
        masked = (mask.square() * power[:, None]).flatten(0, 1)
        log_mel = front_end.to_log_mel(front_end.mel_power(masked))
        embedding = self.clap.audio_embedding(log_mel).unflatten(0, mask.shape[:2])
        return (embedding * text).sum(-1)


@dataclass(frozen=True)
class _Material:
    """Inputs and outputs of all graphs for some clips and prompts."""

    power: Tensor
    text: Tensor
    encoded: tuple[Tensor, ...]
    mask: Tensor
    similarity: Tensor

    def inputs(self, name: str) -> tuple[Tensor | list[Tensor], ...]:
        _, log_mel, *features = self.encoded
        return {
            "encoder": (self.power,),
            "decoder": (self.text, log_mel, features),
            "masked": (self.power, self.mask, self.text),
        }[name]

    def outputs(self, name: str) -> tuple[Tensor, ...]:
        masks, scores = (self.mask,), (self.similarity,)
        return {"encoder": self.encoded, "decoder": masks, "masked": scores}[name]


@torch.no_grad()
def export_onnx(
    clap: FrozenClap,
    decoder: Decoder,
    dest: str | Path,
    template: str,
    model_name: str = "",
    prompts: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write a model as ONNX graphs that onnxruntime runs as torch does.

    Parameters
    ----------
    clap : FrozenClap
        The model, on the CPU.
    decoder : Decoder
        Trained for it, on the CPU.
    dest : str or Path
        Written whole or not at all. It must be missing, empty or, with `force`, such a
        folder.
    template : str
        Sentence with ``{}`` for prompts that are labels.
    model_name : str
        For model.json.
    prompts : sequence of str
        Whose embeddings are stored, beside those of the reference prompts.
    force : bool
        Replace such a folder.

    Returns
    -------
    Path
        `dest`.

    Raises
    ------
    MissingExtraError
        Without the packages of the extra onnx.
    InputError
        If the model is not on the CPU, `dest` must not be replaced, or is written by
        another process, or a graph's results are not the model's.
    """
    require_packages(PACKAGES, "onnx")
    if clap.device.type != "cpu":
        raise InputError(
            f"the model is on {clap.device}: load it with "
            'run_opts={"device": "cpu"} to export it'
        )
    dest = Path(dest)
    _require_free(dest, force)
    text = clap.encode_text([to_sentence(one, template) for one in prompts])
    graphs: dict[str, nn.Module] = {
        "encoder": _Encoder(clap),
        "decoder": _Decoder(clap, decoder),
        "masked": _Masked(clap),
    }
    alone = written_alone(dest, lambda: _require_free(dest, force))
    with _one_channel(clap), alone as part:
        materials = [_material(graphs, clap, *sizes) for sizes in SIZES]
        for name, graph in graphs.items():
            path = part / f"{name}.onnx"
            _write(name, graph.eval(), materials[0], path)
            for material in materials[1:]:
                _check(name, path, material)
        np.savez(
            part / "prompts.npz",
            prompts=np.array(prompts, dtype=str),
            prompt_embeddings=text.numpy(),
            references=np.array(reference_names()),
            reference_embeddings=reference_text(clap, template).numpy(),
        )
        facts = {**_facts(clap), "model": model_name, "template": template}
        content = json.dumps({**facts, "lmaczs_version": __version__}, indent=1)
        (part / "model.json").write_text(content + "\n", "utf-8")
    return dest


@contextmanager
def _one_channel(clap: FrozenClap) -> Iterator[None]:
    """Have a fused encoder take the path of clips that are no longer than its input.

    It is the only one that is taken here, where longer clips come in windows; but it
    looks whether there are others, which no graph can.
    """
    encoder: Any = clap.model.audio_model.audio_encoder
    front_end, parts = clap.front_end, (encoder, encoder.patch_embed)
    fused, channels = encoder.enable_fusion, front_end.n_channels
    try:
        front_end.n_channels = 1
        for part in parts:
            part.enable_fusion = False
        yield
    finally:
        front_end.n_channels = channels
        for part in parts:
            part.enable_fusion = fused


def _facts(clap: FrozenClap) -> dict[str, int | float | str]:
    """What of the front end is not in the graphs."""
    front_end = clap.front_end
    return {
        "sample_rate": front_end.sample_rate,
        "n_fft": front_end.n_fft,
        "hop_length": front_end.hop_length,
        "max_samples": front_end.max_samples,
        "n_frames": front_end.n_frames,
        "padding": front_end.padding,
        "logit_scale": clap.logit_scale,
    }


def _material(
    graphs: dict[str, nn.Module], clap: FrozenClap, clips: int, prompts: int
) -> _Material:
    """Noise that fades, and prompts at random."""
    front_end, random = clap.front_end, torch.Generator().manual_seed(clips)
    noise = torch.randn(clips, front_end.max_samples, generator=random)
    fading = noise * torch.logspace(-1, -4, front_end.max_samples)
    cells = power(front_end.stft(fading)[..., : front_end.n_frames]).contiguous()
    text = torch.randn(clips, prompts, clap.embedding_dim, generator=random)
    text = nn.functional.normalize(text, dim=-1)
    encoded = graphs["encoder"](cells)
    mask = graphs["decoder"](text, encoded[1], list(encoded[2:]))
    similarity = graphs["masked"](cells, mask, text)
    return _Material(cells, text, encoded, mask, similarity)


def _write(name: str, graph: nn.Module, material: _Material, path: Path) -> None:
    """Export a graph whose numbers of clips and prompts are left open."""
    # it warns of torchvision's operators, which no CLAP has
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    features = [f"features_{n}" for n in range(len(material.encoded) - 2)]
    clips, prompts = {0: Dim("clips")}, {0: Dim("clips"), 1: Dim("prompts")}
    names, outputs, shapes = {
        "encoder": (["power"], ["embedding", "log_mel", *features], (clips,)),
        "decoder": (
            ["text", "log_mel", *features],
            ["mask"],
            (prompts, clips, [clips] * len(features)),
        ),
        "masked": (
            ["power", "mask", "text"],
            ["similarity"],
            (clips, prompts, prompts),
        ),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own code
        torch.onnx.export(
            graph,
            material.inputs(name),
            path,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _check(name: str, path: Path, material: _Material) -> None:
    """Raise `InputError` if onnxruntime has other results than the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options)
    given = [
        tensor
        for one in material.inputs(name)
        for tensor in (one if isinstance(one, list) else [one])
    ]
    names = [one.name for one in session.get_inputs()]
    feed = {key: one.numpy() for key, one in zip(names, given, strict=True)}
    found = session.run(None, feed)
    for own, other in zip(material.outputs(name), found, strict=True):
        scale = max(1.0, float(own.abs().max()))
        off = (own - torch.from_numpy(other)).abs() > TOLERANCE * scale
        if float(off.float().mean()) > (SPARED if name == "decoder" else 0):
            raise InputError(
                f"{name}.onnx: onnxruntime's results differ by more than {TOLERANCE} "
                "from the model's; try other versions of torch and onnxruntime"
            )


def _require_free(dest: Path, force: bool) -> None:
    """Raise `InputError` unless a folder may be written or replaced."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest}: it is a file: name a folder")
    content = {path.name for path in dest.iterdir()} if dest.is_dir() else set()
    if content and not (force and content <= FILES):
        raise InputError(
            f"{dest}: it is not empty: name another folder, or add --force if it holds "
            "ONNX graphs of an earlier export"
        )
