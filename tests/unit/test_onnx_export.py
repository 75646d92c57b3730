"""ONNX graphs: what onnxruntime makes of them is what the model does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch

import lmaczs.onnx_export
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.frontend import Domain, power
from lmaczs.onnx_export import export_onnx
from lmaczs.presence import reference_names, reference_text
from lmaczs.utils.errors import InputError
from lmaczs.utils.locks import locked

TEMPLATE = "I hear {}."


def decoder_of(clap: FrozenClap, domain: str = "stft") -> MaskDecoder:
    """Random weights, whose masks depend on prompt and place."""
    torch.manual_seed(0)
    decoder = MaskDecoder(clap, cast(Domain, domain), width=8, initial_logit=0.0)
    with torch.no_grad():
        decoder.draw.weight.mul_(5)
    return decoder.eval()


class Graphs:
    """The graphs of a folder, run by onnxruntime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """Results of a graph."""
        session = onnxruntime.InferenceSession(self.folder / f"{name}.onnx")
        names = [one.name for one in session.get_inputs()]
        feed = {key: one.numpy() for key, one in zip(names, inputs, strict=True)}
        return [torch.from_numpy(one) for one in session.run(None, feed)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("geometry", "domain", "fused"),
    [("small", "stft", True), ("other", "mel", False)],
)
@torch.no_grad()
def test_graphs_are_the_model(
    geometry: str,
    domain: str,
    fused: bool,
    make_clap_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """For other numbers of clips and prompts than it was exported with.

    Frames that are silence have no mask; masks are on the STFT's bins in any domain.
    """
    clap = FrozenClap.from_pretrained(make_clap_folder(geometry, fused))
    decoder, fe = decoder_of(clap, domain), clap.front_end
    dest = export_onnx(clap, decoder, tmp_path / "onnx", TEMPLATE, "tiny", ["rain"])
    run = Graphs(dest)
    wavs = torch.randn(4, fe.max_samples, generator=torch.Generator().manual_seed(1))
    wavs[:, : fe.max_samples // 2] = 0
    stft = fe.stft(wavs)[..., : fe.n_frames]
    text = torch.nn.functional.normalize(torch.randn(4, 5, clap.embedding_dim), dim=-1)
    encoding = clap.audio_features(fe.log_mel(wavs))
    embedding, log_mel, *features = run("encoder", power(stft).contiguous())
    torch.testing.assert_close(embedding, encoding.embedding, atol=1e-4, rtol=0)
    assert len(features) == len(encoding.features)
    assert fe.log_mel(wavs).shape[1] == (4 if fused else 1)  # as it was
    assert log_mel.shape[1] == 1

    masks = decoder(text, encoding.features, fe.log_mel(wavs))
    masks = fe.expand_mask(masks) if domain == "mel" else masks
    quiet = fe.n_frames // 2 - fe.n_fft // fe.hop_length
    masks[..., :quiet] = 0
    (found,) = run("decoder", text, log_mel, *features)
    assert (found[..., :quiet] == 0).all()
    later = slice(fe.n_frames // 2 + 2, None)
    off = (found - masks)[..., later].abs() > 1e-4
    assert off.float().mean() < 1e-3

    (similarity,) = run("masked", power(stft).contiguous(), found, text)
    left = clap.audio_embedding(fe.input_tf(stft, found)).unflatten(0, (4, 5))
    own = (left * text).sum(-1)
    torch.testing.assert_close(similarity, own, atol=1e-4, rtol=0)

    texts = np.load(dest / "prompts.npz")
    assert texts["prompts"].tolist() == ["rain"]
    assert texts["references"].tolist() == list(reference_names())
    kept = torch.from_numpy(texts["prompt_embeddings"])
    torch.testing.assert_close(kept, clap.encode_text(["I hear rain."]))
    kept = torch.from_numpy(texts["reference_embeddings"])
    torch.testing.assert_close(kept, reference_text(clap, TEMPLATE))
    facts = json.loads((dest / "model.json").read_text())
    assert facts["model"] == "tiny"
    assert facts["template"] == TEMPLATE
    assert (facts["sample_rate"], facts["n_fft"]) == (fe.sample_rate, fe.n_fft)


@pytest.mark.slow
def test_graph_that_differs_is_refused(
    tiny_clap: FrozenClap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is written."""
    monkeypatch.setattr(lmaczs.onnx_export, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="encoder.onnx: onnxruntime's results differ"):
        export_onnx(tiny_clap, decoder_of(tiny_clap), tmp_path / "onnx", TEMPLATE)
    assert list(tmp_path.iterdir()) == []


def test_model_on_another_device_is_refused(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """The sentence says how to load it."""
    decoder, clap = decoder_of(tiny_clap), copy.deepcopy(tiny_clap).to("meta")
    with pytest.raises(InputError, match="the model is on meta: load it with run_opts"):
        export_onnx(clap, decoder, tmp_path / "onnx", TEMPLATE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_export_writes_is_left_to_it(
    tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """With --force, too."""
    with locked(tmp_path), pytest.raises(InputError, match="another lmaczs writes"):
        export_onnx(tiny_clap, decoder_of(tiny_clap), tmp_path, TEMPLATE, force=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_export_is_not_replaced(
    tiny_clap: FrozenClap, tmp_path: Path, force: bool
) -> None:
    """Neither a file nor a folder that holds something else."""
    (tmp_path / "notes.txt").write_text("mine")
    for dest in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InputError, match=f"^{dest}: it is "):
            export_onnx(tiny_clap, decoder_of(tiny_clap), dest, TEMPLATE, force=force)
    assert (tmp_path / "notes.txt").read_text() == "mine"
