"""The mask decoder: shapes, range, and what a mask depends on."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import AudioEncoding, FrozenClap
from lmaczs.decoder import MaskDecoder, load_decoder, relative_level, resize
from lmaczs.frontend import DOMAINS, Domain, MelToFreq
from lmaczs.utils.errors import InputError

ANY_CLAP = pytest.mark.parametrize(
    "fixture", ["tiny_clap", "tiny_fused_clap", "laion_like_clap"]
)
PROMPTS = ["a dog barking", "heavy rain", "church bells"]


@pytest.fixture
def clap(request: pytest.FixtureRequest, fixture: str) -> FrozenClap:
    """One of the tiny CLAPs, by the name of its fixture."""
    return request.getfixturevalue(fixture)


@pytest.fixture
def decoder(tiny_clap: FrozenClap) -> MaskDecoder:
    """A random decoder for the tiny CLAP."""
    return make(tiny_clap)


def make(clap: FrozenClap, domain: Domain = "stft", seed: int = 0) -> MaskDecoder:
    """Make a random decoder whose masks are far from constant."""
    torch.manual_seed(seed)
    decoder = MaskDecoder(clap, domain)
    with torch.no_grad():
        decoder.draw.weight.mul_(3)
        decoder.draw.bias.copy_(torch.tensor([1.0, 0.0]))
    return decoder.eval()


def encode(clap: FrozenClap, clips: int = 2) -> tuple[AudioEncoding, Tensor]:
    """Encode noises that start at different times; also their log-mel."""
    samples = clap.front_end.max_samples
    noise = torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    starts = torch.linspace(0, 0.7, clips)[:, None] * samples
    log_mel = clap.front_end.log_mel(noise * (torch.arange(samples) > starts))
    return clap.audio_features(log_mel), log_mel


def masks_of(
    decoder: MaskDecoder, clap: FrozenClap, prompts: list[str], clips: int = 2
) -> Tensor:
    """Decode masks [B, P, F, T] of all prompts for some clips."""
    encoding, log_mel = encode(clap, clips)
    text = clap.encode_text(prompts).expand(clips, -1, -1)
    with torch.no_grad():
        return decoder(text, encoding.features, log_mel)


@ANY_CLAP
@pytest.mark.parametrize("domain", DOMAINS)
def test_masks_have_the_shape_of_their_domain(clap: FrozenClap, domain: Domain) -> None:
    """[n_mels, T] in the mel domain, else [F, T]; in [0, 1]; from the config alone."""
    masks = masks_of(make(clap, domain), clap, PROMPTS)
    bins = clap.front_end.n_mels if domain == "mel" else clap.front_end.n_freqs
    assert masks.shape == (2, 3, bins, clap.front_end.n_frames)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.std() > 0.05


def test_masks_stay_in_range_when_saturated(
    decoder: MaskDecoder, tiny_clap: FrozenClap
) -> None:
    """Logits that are huge make zeros and ones, never more than one."""
    with torch.no_grad():
        decoder.draw.weight.mul_(1e4)
    masks = masks_of(decoder, tiny_clap, PROMPTS)
    assert masks.min() == 0
    assert masks.max() == 1


def test_stft_masks_are_mel_masks_expanded(tiny_clap: FrozenClap) -> None:
    """With the same weights the domains draw the same mask."""
    mel = masks_of(make(tiny_clap, "mel"), tiny_clap, PROMPTS)
    stft = masks_of(make(tiny_clap, "stft"), tiny_clap, PROMPTS)
    assert torch.allclose(tiny_clap.front_end.expand_mask(mel), stft, atol=1e-6)


@ANY_CLAP
def test_masks_depend_on_prompt_and_clip(clap: FrozenClap) -> None:
    """Another prompt on the same clip, or another clip, makes another mask."""
    masks = masks_of(make(clap), clap, PROMPTS)
    assert (masks[:, 0] - masks[:, 1]).abs().mean() > 1e-3
    assert (masks[0] - masks[1]).abs().mean() > 1e-3


def test_each_input_counts(decoder: MaskDecoder, tiny_clap: FrozenClap) -> None:
    """Features of every size, of each the last stage's, and the log-mel itself."""
    encoding, log_mel = encode(tiny_clap)
    text = tiny_clap.encode_text(PROMPTS).expand(2, -1, -1)
    with torch.no_grad():
        before = decoder(text, encoding.features, log_mel)
        assert not torch.equal(before, decoder(text, encoding.features, log_mel + 9))
        *stages, places = encoding.features
        sizes = [stage.shape[-2:] for stage in (*stages, places[..., :0])]
        for number in range(len(encoding.features)):
            features = list(encoding.features)
            features[number] = features[number].roll(1, 0)
            counts = number == len(stages) or sizes[number] != sizes[number + 1]
            after = decoder(text, tuple(features), log_mel)
            assert torch.equal(before, after) != counts
        assert sizes[0] == sizes[1]


@ANY_CLAP
def test_a_mask_depends_on_nothing_else(clap: FrozenClap) -> None:
    """Neither on the other prompts nor on the other clips of the batch."""
    decoder = make(clap).train()  # training must not change that either
    masks = masks_of(decoder, clap, PROMPTS, clips=3)
    encoding, log_mel = encode(clap, 3)
    for row in range(3):
        features = tuple(f[row : row + 1] for f in encoding.features)
        for column, prompt in enumerate(PROMPTS):
            text = clap.encode_text([prompt])[None]
            alone = decoder(text, features, log_mel[row : row + 1])[0, 0]
            assert (alone - masks[row, column]).abs().max() < 1e-5


def test_there_is_no_batch_norm(decoder: MaskDecoder) -> None:
    """Nor any other statistic of a batch: all that is kept is parameters."""
    assert not any("BatchNorm" in type(m).__name__ for m in decoder.modules())
    assert decoder.state_dict().keys() == dict(decoder.named_parameters()).keys()


@ANY_CLAP
@pytest.mark.parametrize("domain", DOMAINS)
def test_gradients_reach_every_weight(
    clap: FrozenClap, domain: Domain, masked_log_mel: Callable[..., Tensor]
) -> None:
    """From similarity under the mask, through the frozen CLAP, to all parameters."""
    decoder = make(clap, domain)
    front_end = clap.front_end
    wav = torch.randn(1, front_end.max_samples)
    log_mel = front_end.log_mel(wav)
    text = clap.encode_text(PROMPTS[:1])[None]
    mask = decoder(text, clap.audio_features(log_mel).features, log_mel)[:, 0]
    masked = clap.audio_embedding(masked_log_mel(front_end, wav, mask, domain))
    (masked * text[:, 0]).sum().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


def test_a_token_is_put_back_where_it_was(laion_like_clap: FrozenClap) -> None:
    """Resized to the input grid, a map of token places says each frame and band."""
    frames, bands = 1001, 64
    token = 4 * torch.arange(256.0) + 1.5  # centre, in the 1024 stretched frames
    time = (token * (frames - 1) / 1023).expand(1, 1, 16, -1)
    grid = torch.empty(bands, frames)
    resized = resize(time, grid)[0, 0, 0]
    assert (resized - torch.arange(frames))[2:-2].abs().max() < 0.05
    freq = (4 * torch.arange(16.0) + 1.5)[:, None].expand(1, 1, -1, 256)
    resized = resize(freq, grid)[0, 0, :, 0]
    assert (resized - torch.arange(bands))[2:-2].abs().max() < 1e-4


def test_two_prompts_learn_opposite_masks(tiny_clap: FrozenClap) -> None:
    """On one clip, one prompt comes to keep the low bands, another the high ones."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, "mel", width=32)
    encoding, log_mel = encode(tiny_clap, 1)
    text = tiny_clap.encode_text(PROMPTS[:2])[None]
    target = torch.zeros(1, 2, 64, tiny_clap.front_end.n_frames)
    target[:, 0, :32] = target[:, 1, 32:] = 1
    optimizer = torch.optim.Adam(decoder.parameters(), 5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        masks = decoder(text, encoding.features, log_mel)
        nn.functional.mse_loss(masks, target).backward()
        optimizer.step()
    assert masks[target == 1].mean() > 0.8
    assert masks[target == 0].mean() < 0.2


def test_whether_a_prompt_is_there_is_heard() -> None:
    """Of prompts never seen, by how far the encoder agrees with them everywhere."""
    torch.manual_seed(0)
    decoder = MaskDecoder(shapes_only(16, 20), "mel", width=8)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)

    def masks(seed: int) -> Tensor:
        """Mean masks of a prompt that is there and of one that is not [8, 2]."""
        rng = torch.Generator().manual_seed(seed)
        text = nn.functional.normalize(torch.randn(8, 2, 16, generator=rng), dim=-1)
        features = [torch.randn(8, *shape, generator=rng) for shape in SHAPES[:-1]]
        features.append(text[:, 0, :, None, None].expand(8, *SHAPES[-1]))
        log_mel = 20 * torch.randn(8, 1, 20, 16, generator=rng) - 50
        return decoder(text, tuple(features), log_mel).mean((2, 3))

    for seed in range(120):
        optimizer.zero_grad()
        kept = masks(seed)
        (kept[:, 1] - kept[:, 0]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        there, absent = masks(1000).mean(0).tolist()
    assert there > 0.9
    assert absent < 0.1


# --- how a mask is drawn ------------------------------------------------------------

SHAPES = [(4, 4, 8), (6, 2, 4), (16, 2, 4)]  # two stages, and places' embeddings


def shapes_only(n_mels: int, n_frames: int) -> SimpleNamespace:
    """What a decoder asks of a CLAP, with two stages and 20 STFT bins."""
    position = torch.linspace(0, n_mels - 1, 20, dtype=torch.float64)[:, None]
    bridge = (1 - (position - torch.arange(n_mels)).abs()).relu()
    return SimpleNamespace(
        front_end=SimpleNamespace(
            n_mels=n_mels,
            n_frames=n_frames,
            mel_to_freq=MelToFreq(bridge.float()),
        ),
        feature_shapes=SHAPES,
        embedding_dim=16,
    )


def draw_on(decoder: MaskDecoder, clips: int = 2, prompts: int = 3) -> Tensor:
    """Decode masks of noise: for prompts, features and log-mels alike."""
    rng = torch.Generator().manual_seed(0)
    text = nn.functional.normalize(torch.randn(clips, prompts, 16, generator=rng), -1)
    features = tuple(torch.randn(clips, *shape, generator=rng) for shape in SHAPES)
    shape = (clips, 1, decoder.n_frames, decoder.n_mels)
    return decoder(text, features, 20 * torch.randn(shape, generator=rng) - 50)


def flat(bias: float) -> MaskDecoder:
    """Make a decoder that draws one value everywhere."""
    decoder = MaskDecoder(shapes_only(8, 10), "mel", width=8)
    with torch.no_grad():
        decoder.draw.weight.zero_()
        decoder.draw.bias.copy_(torch.tensor([bias, 0.0]))
    return decoder


@pytest.mark.parametrize("n_mels", [8, 9])
@pytest.mark.parametrize("n_frames", [20, 21])
@pytest.mark.parametrize("domain", DOMAINS)
def test_odd_numbers_of_bands_and_frames(
    n_mels: int, n_frames: int, domain: Domain
) -> None:
    """Masks are on every band and frame, in [0, 1], and all weights learn."""
    torch.manual_seed(0)
    decoder = MaskDecoder(shapes_only(n_mels, n_frames), domain, width=8)
    nn.init.zeros_(decoder.draw.bias)
    masks = draw_on(decoder)
    assert masks.shape == (2, 3, n_mels if domain == "mel" else 20, n_frames)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert masks.isfinite().all()
    assert masks.std() > 0.01
    masks.square().mean().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("n_mels", "n_frames"), [(16, 40), (17, 41), (18, 39), (16, 42)]
)
def test_every_fourth_band_and_frame_is_drawn(n_mels: int, n_frames: int) -> None:
    """And what is drawn stands in the middle of the four that it is for."""
    decoder = MaskDecoder(shapes_only(n_mels, n_frames), "mel", width=8)
    drawn = []
    decoder.draw.register_forward_hook(lambda *args: drawn.append(args[-1]))
    draw_on(decoder)
    bands, frames = math.ceil(n_mels / 4), math.ceil(n_frames / 4)
    assert drawn[0].shape == (6, 2, bands, frames)
    place = torch.arange(frames) * 4.0 + 1.5  # of frames 4 k to 4 k + 3
    found = placed(decoder, (place / 10 - 3).expand(bands, -1))
    inner = slice(2, n_frames - 3)
    expected = torch.arange(float(n_frames))[inner].expand(n_mels, -1)
    torch.testing.assert_close(found[:, inner], expected, atol=1e-3, rtol=0)
    place = torch.arange(bands) * 4.0 + 1.5
    found = placed(decoder, (place / 10 - 3)[:, None].expand(-1, frames))
    inner = slice(2, n_mels - 3)
    expected = torch.arange(float(n_mels))[inner, None].expand(-1, n_frames)
    torch.testing.assert_close(found[inner], expected, atol=1e-3, rtol=0)


def mask_from(decoder: MaskDecoder, drawn: Tensor, log_mel: Tensor) -> Tensor:
    """Mask [n_mels, T] of a clip, as if the last layer had given `drawn`."""
    features = tuple(torch.randn(1, *shape) for shape in SHAPES)
    hook = decoder.draw.register_forward_hook(lambda *args: drawn)
    mask = decoder(torch.randn(1, 1, 16), features, log_mel)
    hook.remove()
    return mask[0, 0]


def random_log_mel(decoder: MaskDecoder) -> Tensor:
    """Noise about -50 dB, [1, 1, T, n_mels]."""
    return 10 * torch.randn(1, 1, decoder.n_frames, decoder.n_mels) - 50


def placed(decoder: MaskDecoder, keep: Tensor) -> Tensor:
    """Tenths that were drawn above -3, in every cell, whatever its level."""
    drawn = torch.stack([keep, torch.zeros_like(keep)])[None]
    mask = mask_from(decoder, drawn, random_log_mel(decoder))
    assert mask.shape == (decoder.n_mels, decoder.n_frames)
    return 10 * (mask.logit() + 3)


@pytest.mark.parametrize("steep", [-2.0, 0.0, 0.5, 3.0])
def test_level_of_a_cell_shifts_what_is_drawn(steep: float) -> None:
    """By as much as is drawn as well, in each cell by its own level."""
    clap = shapes_only(8, 10)
    decoder = MaskDecoder(clap, "mel", width=8, training_threshold=1.0)
    drawn = torch.tensor([0.3, steep])[None, :, None, None].expand(1, 2, 2, 3)
    log_mel = random_log_mel(decoder)
    level = relative_level(log_mel.transpose(-1, -2))[0, 0]
    mask = mask_from(decoder, drawn, log_mel)
    expected = (0.3 + steep * level).sigmoid()
    torch.testing.assert_close(mask, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("gain", [-37.0, 0.0, 12.0])
def test_level_is_that_above_the_mean_power(gain: float) -> None:
    """In steps of 20 dB from 20 dB below it; a gain changes nothing."""
    log_mel = -60 + 15 * torch.randn(3, 1, 9, 6) + gain
    expected = torch.empty(3, 1, 9, 6)
    for clip in range(3):
        power = [10 ** (float(x) / 10) for x in log_mel[clip].flatten()]
        mean = 10 * math.log10(sum(power) / len(power))
        expected[clip, 0] = (log_mel[clip, 0] - mean + 20) / 20
    torch.testing.assert_close(relative_level(log_mel), expected, atol=1e-4, rtol=0)


def test_level_of_silence_is_finite() -> None:
    """At the extractor's floor everywhere: every cell is at the mean."""
    level = relative_level(torch.full((1, 1, 9, 6), -100.0))
    torch.testing.assert_close(level, torch.ones(1, 1, 9, 6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_frames", [20, 21])
def test_last_frame_is_heard(n_frames: int) -> None:
    """Where a frame is added to an odd number, the last one still counts."""
    torch.manual_seed(0)
    decoder = MaskDecoder(shapes_only(9, n_frames), "mel", width=8)
    with torch.no_grad():  # so that nothing is cut at 1
        decoder.draw.weight.mul_(0.1)
        decoder.draw.bias.zero_()
    text, features = torch.ones(1, 1, 16) / 4, tuple(torch.ones(1, *x) for x in SHAPES)
    log_mel = torch.full((1, 1, n_frames, 9), -50.0)
    before = decoder(text, features, log_mel)
    assert before.max() < 1
    for place in ((0, 0, -1, 4), (0, 0, 4, -1)):
        louder = log_mel.clone()
        louder[place] = 0.0
        change = (decoder(text, features, louder) - before).abs()[0, 0]
        where = change[:, -1] if place[2] == -1 else change[-1]
        assert where.max() > 1e-4


@pytest.mark.parametrize("bias", [-9.0, -0.1, 0.1, 2.1, 2.3, 5.0, 40.0])
@pytest.mark.parametrize(
    ("training", "whole", "from_bias"),
    [(True, 0.9, math.log(9)), (False, 0.5, 0.0)],
)
def test_mask_is_a_sigmoid_or_one(
    bias: float, training: bool, whole: float, from_bias: float
) -> None:
    """Above a half, in training above 0.9, exactly 1: a cell can be kept entirely."""
    masks = draw_on(flat(bias).train(training))
    value = 1 / (1 + math.exp(-bias))
    assert (value > whole) == (bias > from_bias)
    if value > whole:
        assert (masks == 1).all()
    else:
        torch.testing.assert_close(masks, torch.full_like(masks, value))


@pytest.mark.parametrize("bias", [0.0, 2.1, 2.3, 5.0])
def test_gradient_passes_where_a_mask_is_one(bias: float) -> None:
    """It is that of the sigmoid, on both sides of the step: a 1 can be unlearnt."""
    decoder = flat(bias)
    draw_on(decoder).mean().backward()
    sigmoid = 1 / (1 + math.exp(-bias))
    expected = sigmoid * (1 - sigmoid)
    assert decoder.draw.bias.grad[0].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("bias", [-3.0, 2.1, 2.19, 2.2, 3.0])
def test_what_is_removed_has_a_bounded_gradient(bias: float) -> None:
    """Its level in dB falls by at most 8.7 for each unit that is drawn."""
    decoder = flat(bias)
    left = (1 - draw_on(decoder)).square().clamp_min(1e-10)
    (10 * left.log10()).mean().backward()
    assert abs(decoder.draw.bias.grad[0].item()) <= 20 / math.log(10)


# --- weights ------------------------------------------------------------------------


def test_weights_are_loaded_whole(
    decoder: MaskDecoder, tiny_clap: FrozenClap, tmp_path: Path
) -> None:
    """A decoder that was saved and loaded draws the same masks."""
    torch.save(decoder.state_dict(), tmp_path / "decoder.ckpt")
    other = make(tiny_clap, seed=1)
    before = masks_of(other, tiny_clap, PROMPTS)
    load_decoder(other, tmp_path / "decoder.ckpt")
    expected = masks_of(decoder, tiny_clap, PROMPTS)
    assert not torch.equal(before, expected)
    assert torch.equal(masks_of(other, tiny_clap, PROMPTS), expected)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("draw.bias"),
        lambda state: state.update(more=torch.zeros(1)),
        lambda state: state.update({"draw.bias": torch.zeros(1)}),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_of_another_decoder_are_refused(
    decoder: MaskDecoder, tmp_path: Path, spoil: Callable[[dict], object]
) -> None:
    """The error names the file; SpeechBrain would ignore it silently."""
    state = decoder.state_dict()
    spoil(state)
    torch.save(state, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt holds weights of another"):
        load_decoder(decoder, tmp_path / "other.ckpt")


def test_hyperparams_of_0_1_0_are_a_file_format(
    tiny_clap: FrozenClap, tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """What version 0.1.0 exported is loaded, where its pickle is trusted."""
    exported = Path(__file__).parents[1] / "data" / "hyperparams-0.1.0.yaml"
    shutil.copytree(tiny_clap_folder, tmp_path / "clap_small")
    folder = tmp_path / "lmaczs_small"
    folder.mkdir()
    shutil.copy(exported, folder / "hyperparams.yaml")
    torch.save(make(tiny_clap).state_dict(), folder / "decoder.ckpt")
    with pytest.raises(ValueError, match="is a pickle.*trust_remote_code=True.*export"):
        ZeroShotInterpreter.from_hparams(folder)
    loaded = ZeroShotInterpreter.from_hparams(folder, trust_remote_code=True)
    expected = make(tiny_clap).state_dict()
    found = loaded.mods["decoder"].state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("width", [0, -8, 7, 72, 80])
def test_a_width_that_cannot_be_normalised(width: int) -> None:
    """The sentence has those that can."""
    with pytest.raises(InputError, match=f"^width is {width}: give a multiple of 8 up"):
        MaskDecoder(shapes_only(8, 10), "mel", width=width)
    for good in (8, 40, 64, 128):
        MaskDecoder(shapes_only(8, 10), "mel", width=good)
