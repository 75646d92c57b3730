"""The decoder by the paper's recipe: shapes, range, and what a mask depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.training.export import inference_yaml
from lmaczs.utils.errors import InputError

ANY_CLAP = pytest.mark.parametrize(
    "fixture", ["tiny_clap", "tiny_fused_clap", "laion_like_clap"]
)
PROMPTS = ["a dog barking", "heavy rain", "church bells"]


@pytest.fixture
def clap(request: pytest.FixtureRequest, fixture: str) -> FrozenClap:
    """One of the tiny CLAPs, by the name of its fixture."""
    return request.getfixturevalue(fixture)


def make(clap: FrozenClap, domain: Domain = "stft") -> PaperDecoder:
    """Make a random decoder whose masks are far from constant."""
    torch.manual_seed(0)
    decoder = PaperDecoder(clap, domain, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(5)
    return decoder.eval()


def encode(clap: FrozenClap, clips: int) -> tuple[AudioEncoding, Tensor, Tensor]:
    """Encode noises that start at different times, and the prompts for each."""
    samples = clap.front_end.max_samples
    noise = torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    starts = torch.linspace(0, 0.7, clips)[:, None] * samples
    log_mel = clap.front_end.log_mel(noise * (torch.arange(samples) > starts))
    text = clap.encode_text(PROMPTS).expand(clips, -1, -1)
    return clap.audio_features(log_mel), log_mel, text


def masks_of(decoder: PaperDecoder, clap: FrozenClap, clips: int = 2) -> Tensor:
    """Decode masks [B, P, F, T] of the prompts for some clips."""
    encoding, log_mel, text = encode(clap, clips)
    with torch.no_grad():
        return decoder(text, encoding.features, log_mel)


@ANY_CLAP
@pytest.mark.parametrize("domain", DOMAINS)
def test_masks_have_the_shape_of_their_domain(clap: FrozenClap, domain: Domain) -> None:
    """[n_mels, T] in the mel domain, else [F, T]; a sigmoid that is not cut."""
    masks = masks_of(make(clap, domain), clap)
    bins = clap.front_end.n_mels if domain == "mel" else clap.front_end.n_freqs
    assert masks.shape == (2, 3, bins, clap.front_end.n_frames)
    if domain != "mel":
        masks = masks[..., clap.front_end.visible, :]
    assert 0 < masks.min() < masks.max() < 1
    assert masks.std() > 0.02


@ANY_CLAP
def test_a_mask_depends_on_its_prompt_and_clip_alone(clap: FrozenClap) -> None:
    """Not on other prompts or clips of the batch, in training neither."""
    decoder = make(clap).train()
    masks = masks_of(decoder, clap)
    assert (masks[:, 0] - masks[:, 1]).abs().mean() > 1e-3
    assert (masks[0] - masks[1]).abs().mean() > 1e-3
    encoding, log_mel, text = encode(clap, 2)
    for row in range(2):
        features = tuple(f[row : row + 1] for f in encoding.features)
        for column in range(len(PROMPTS)):
            one = text[row : row + 1, column : column + 1]
            alone = decoder(one, features, log_mel[row : row + 1])[0, 0]
            assert (alone - masks[row, column]).abs().max() < 1e-5


@ANY_CLAP
def test_last_four_representations_count(clap: FrozenClap) -> None:
    """Of the encoder's stages the last four, and neither places nor log-mel."""
    decoder = make(clap)
    encoding, log_mel, text = encode(clap, 2)
    with torch.no_grad():
        before = decoder(text, encoding.features, log_mel)
        assert torch.equal(before, decoder(text, encoding.features, log_mel + 9))
        stages = len(encoding.features) - 1
        for number in range(len(encoding.features)):
            features = list(encoding.features)
            features[number] = features[number].roll(1, 0)
            counts = stages - 4 <= number < stages
            after = decoder(text, tuple(features), log_mel)
            assert torch.equal(before, after) != counts


def test_time_runs_forward(tiny_clap: FrozenClap) -> None:
    """What changes the last frames of all stages changes no early frame of the mask."""
    decoder = make(tiny_clap, "mel")
    encoding, log_mel, text = encode(tiny_clap, 1)
    altered = tuple(feature.clone() for feature in encoding.features)
    for feature in altered:
        feature[..., -1:] += 1
    with torch.no_grad():
        change = decoder(text, altered, log_mel) - decoder(
            text, encoding.features, log_mel
        )
    per_frame = change.abs().mean((0, 1, 2))
    frames = len(per_frame)
    assert per_frame[-frames // 8 :].mean() > 3 * per_frame[: frames // 2].mean()


def test_every_weight_learns(tiny_clap: FrozenClap) -> None:
    """The text's keys, too: there is more than one."""
    decoder = make(tiny_clap).train()
    encoding, log_mel, text = encode(tiny_clap, 2)
    (decoder(text, encoding.features, log_mel) - 0.3).square().mean().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


def test_exported_folder_is_loaded(
    tiny_clap: FrozenClap, tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """Its hyperparams.yaml names this class; masks are those of its weights."""
    decoder = make(tiny_clap)
    save_file(decoder.state_dict(), tmp_path / "decoder.safetensors")
    path = "lmaczs.paper_decoder.PaperDecoder"
    values = (str(tiny_clap_folder), "tiny", "stft", 8, "{}")
    text = inference_yaml(*values, decoder=path)
    assert f"\ndecoder: !new:{path}\n" in text
    (tmp_path / "hyperparams.yaml").write_text(text)
    loaded = ZeroShotInterpreter.from_hparams(tmp_path)
    samples = tiny_clap.front_end.max_samples
    wav = torch.rand(1, samples, generator=torch.Generator().manual_seed(0)) - 0.5
    (one,) = loaded.interpret_batch(wav, PROMPTS[0], refine=0)
    log_mel = tiny_clap.front_end.log_mel(wav)
    encoding = tiny_clap.audio_features(log_mel)
    prompt = tiny_clap.encode_text(PROMPTS[:1])[None]
    with torch.no_grad():
        expected = decoder(prompt, encoding.features, log_mel)[0, 0]
    assert torch.allclose(one.mask[:, : expected.shape[-1]], expected, atol=1e-4)


def test_a_width_that_cannot_be_divided(tiny_clap: FrozenClap) -> None:
    """Among heads and groups."""
    with pytest.raises(InputError, match="^width is 12: give a multiple of 4 and of 8"):
        PaperDecoder(tiny_clap, "mel", width=12)
