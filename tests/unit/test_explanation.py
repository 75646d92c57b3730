"""Explanations: what sums to what, windows, cross-fade, files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import ClapFeatureExtractor

from lmaczs import __version__
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.explanation import (
    Interpretation,
    Part,
    explain,
    explain_batch,
    masks_of_clip,
    similarities,
    window_starts,
)
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.mask_events import WindowScores
from lmaczs.report.figures import to_bands
from lmaczs.utils.errors import InputError
from lmaczs.verdict import verdict_of

RATE, SIZE, HOP = 32000, 160000, 640  # of the tiny CLAP
LENGTHS = {
    "one sample": 1,
    "0.05 s": 1600,
    "odd": 39487,
    "all but one": SIZE - 1,
    "exactly a window": SIZE,
    "a sample more": SIZE + 1,
    "a hop more": SIZE + HOP,
    "3.7 windows": 592000,
}
PROMPTS = ["a dog barking", "heavy rain", "church bells"]


def random_decoder(clap: FrozenClap, domain: Domain = "stft") -> MaskDecoder:
    """Make a decoder with random weights whose masks are far from constant."""
    torch.manual_seed(2)
    decoder = MaskDecoder(clap, domain, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(20)
        decoder.draw.bias.zero_()
    return decoder.eval()


def constant_decoder(clap: FrozenClap, value: float) -> MaskDecoder:
    """Make a decoder whose masks are one value everywhere."""
    decoder = MaskDecoder(clap, width=8)
    nn.init.zeros_(decoder.draw.weight)
    decoder.draw.bias.data = torch.tensor([value, 0.5]).logit()
    return decoder.eval()


def noise(samples: int, seed: int = 0) -> Tensor:
    """Noise bursts, so that no two windows are alike."""
    rng = torch.Generator().manual_seed(seed)
    level = torch.rand(samples // 4000 + 1, generator=rng).repeat_interleave(4000)
    level = level.clamp(min=0.05)  # anything less is silence to the model
    return 0.3 * torch.randn(samples, generator=rng) * level[:samples].square()


def explain_all(
    clap: FrozenClap, decoder: MaskDecoder, wav: Tensor, prompts: Sequence[str]
) -> list[Interpretation]:
    """Explain a clip for prompts, as the interpreter does."""
    return explain(clap, decoder, wav, prompts, clap.encode_text(prompts))


def loop_over_windows(wav: Tensor) -> list[tuple[int, Tensor]]:
    """Windows of 5 s, half of it apart, the last one just before the end."""
    starts, start = [], 0
    while start + SIZE + HOP <= len(wav):
        starts.append(start)
        start += SIZE // 2
    while start > 0 and start + SIZE > len(wav):
        start -= HOP
    return [(s, wav[s : s + SIZE]) for s in [*starts, start]]


def loop_similarity(clap: FrozenClap, wav: Tensor, prompt: str) -> float:
    """Similarity of the most similar window, one window at a time."""
    text = clap.encode_text([prompt])[0]
    cosines = []
    for _, window in loop_over_windows(wav):
        with torch.no_grad():
            cosines.append(
                clap.audio_embedding(clap.front_end.log_mel(window[None]))[0]
            )
    return max(float(text @ cosine) for cosine in cosines)


def loop_mask(
    clap: FrozenClap, decoder: MaskDecoder, wav: Tensor, prompt: str
) -> Tensor:
    """Mask of a long clip: a mean over windows, weighted with triangles."""
    text = clap.encode_text([prompt])
    frames = clap.front_end.clip_frames(len(wav))
    total, weight = torch.zeros(clap.front_end.n_freqs, frames), torch.zeros(frames)
    for start, window in loop_over_windows(wav):
        mask = masks_of_clip(clap, decoder, window, text)[0][0]
        for column in range(mask.shape[1]):
            share = min(column + 1, mask.shape[1] - column)
            total[:, start // HOP + column] += share * mask[:, column]
            weight[start // HOP + column] += share
    if weight[-1] == 0:  # in no window
        total[:, -1], weight[-1] = total[:, -2], weight[-2]
    return total / weight


@pytest.fixture(scope="module")
def decoder(tiny_clap: FrozenClap) -> MaskDecoder:
    """Random decoder for the tiny CLAP."""
    return random_decoder(tiny_clap)


@pytest.fixture(scope="module")
def faint_decoder(tiny_clap: FrozenClap) -> MaskDecoder:
    """One whose masks stay below a half: rounding never decides what counts as 1."""
    decoder = random_decoder(tiny_clap)
    with torch.no_grad():
        decoder.draw.weight.div_(40)
        decoder.draw.bias.copy_(torch.tensor([-3.0, 0.5]))
    return decoder


# --- one clip -----------------------------------------------------------------------


@pytest.mark.parametrize("samples", LENGTHS.values(), ids=LENGTHS)
def test_parts_sum_to_the_input(
    tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int
) -> None:
    """Explanation and residual are as long as the clip and sum to it."""
    wav = noise(samples)
    (one,) = explain_all(tiny_clap, decoder, wav, ["a dog"])
    assert one.waveform.shape == one.residual.shape == wav.shape
    torch.testing.assert_close(one.waveform + one.residual, wav, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.input, wav, atol=1e-6, rtol=0)
    front_end = tiny_clap.front_end
    masked_out = front_end.istft((1 - one.mask) * front_end.stft(wav), samples)
    torch.testing.assert_close(one.residual, masked_out, atol=1e-5, rtol=0)
    assert one.waveform.dtype == one.residual.dtype == torch.float32
    assert (one.sample_rate, one.hop_length) == (RATE, HOP)


@pytest.mark.parametrize("samples", LENGTHS.values(), ids=LENGTHS)
def test_masked_stft_is_mask_times_stft(
    tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int
) -> None:
    """The mask lies on the clip's own STFT, in [0, 1]; the waveform is the inverse."""
    wav = noise(samples)
    (one,) = explain_all(tiny_clap, decoder, wav, ["a dog"])
    spectrum = tiny_clap.front_end.stft(wav)
    assert one.mask.shape == one.masked_stft.shape == spectrum.shape
    assert one.mask.dtype == torch.float32
    assert one.masked_stft.dtype == torch.complex64
    assert 0 <= one.mask.min() <= one.mask.max() <= 1
    torch.testing.assert_close(one.masked_stft, one.mask * spectrum)
    inverse = tiny_clap.front_end.istft(one.masked_stft, samples)
    torch.testing.assert_close(one.waveform, inverse, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", list(LENGTHS.values())[1:], ids=list(LENGTHS)[1:])
def test_what_is_heard_is_what_is_scored(
    tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int
) -> None:
    """Each similarity is that of the sound itself, encoded on its own."""
    wav = noise(samples)
    for one in explain_all(tiny_clap, decoder, wav, PROMPTS):
        for similarity, sound in (
            (one.similarity, wav),
            (one.masked_similarity, one.waveform),
            (one.residual_similarity, one.residual),
        ):
            expected = loop_similarity(tiny_clap, sound, one.prompt)
            assert similarity == pytest.approx(expected, abs=2e-5)


def test_similarities_differ(tiny_clap: FrozenClap, decoder: MaskDecoder) -> None:
    """The random models tell prompts and sounds apart, or the tests show nothing."""
    results = explain_all(tiny_clap, decoder, noise(SIZE), PROMPTS)
    scores = [
        (r.similarity, r.masked_similarity, r.residual_similarity) for r in results
    ]
    assert torch.tensor(scores).flatten().sort().values.diff().min() > 1e-4
    assert (results[0].mask - results[1].mask).abs().max() > 0.01
    assert results[0].mask.std() > 0.05


def test_without_verification(tiny_clap: FrozenClap, decoder: MaskDecoder) -> None:
    """verify=False leaves out two similarities and changes nothing else."""
    wav, text = noise(50000), tiny_clap.encode_text(["a dog"])
    (full,) = explain(tiny_clap, decoder, wav, ["a dog"], text)
    (quick,) = explain(tiny_clap, decoder, wav, ["a dog"], text, verify=False)
    assert quick.masked_similarity is None
    assert quick.residual_similarity is None
    assert quick.similarity == full.similarity
    assert torch.equal(quick.mask, full.mask)
    assert torch.equal(quick.waveform, full.waveform)


@pytest.mark.parametrize("samples", [39487, 400000])
def test_prompts_do_not_disturb_each_other(
    tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int
) -> None:
    """A prompt's explanation is the same alone, and first or last among others."""
    wav = noise(samples)
    (alone,) = explain_all(tiny_clap, decoder, wav, PROMPTS[:1])
    first = explain_all(tiny_clap, decoder, wav, PROMPTS)[0]
    last = explain_all(tiny_clap, decoder, wav, PROMPTS[::-1])[-1]
    for other in (first, last):
        assert other.prompt == alone.prompt
        torch.testing.assert_close(other.mask, alone.mask, atol=1e-4, rtol=0)
        torch.testing.assert_close(other.waveform, alone.waveform, atol=1e-5, rtol=0)
        assert other.masked_similarity == pytest.approx(
            alone.masked_similarity, abs=1e-5
        )


@pytest.mark.parametrize("samples", [1600, SIZE, 300000])
def test_silence(tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int) -> None:
    """Digital silence has a mask and stays silent; its parts have no similarity."""
    (one,) = explain_all(tiny_clap, decoder, torch.zeros(samples), ["a dog"])
    assert 0 <= one.mask.min() <= one.mask.max() <= 1
    assert one.waveform.abs().max() == one.residual.abs().max() == 0
    assert -1 <= one.similarity <= 1
    assert one.empty
    assert one.masked_similarity is None
    assert one.residual_similarity is None


@pytest.mark.parametrize("value", [1e-30, 1e-8])
@pytest.mark.parametrize("samples", [39487, SIZE + 1])
def test_mask_of_nothing_is_empty(
    tiny_clap: FrozenClap, value: float, samples: int
) -> None:
    """What is kept is silence, or all but: it has no similarity, the rest has one."""
    wav = noise(samples)
    (one,) = explain_all(tiny_clap, constant_decoder(tiny_clap, value), wav, ["a dog"])
    assert one.empty
    assert one.masked_similarity is None
    assert one.residual_similarity == pytest.approx(one.similarity, abs=1e-4)


def test_mask_where_there_is_no_sound_is_empty() -> None:
    """A mask may be large: where the recording is silent it keeps nothing."""
    one = interpretation()
    silent = dataclasses.replace(one, stft=0 * one.stft, waveform=0 * one.waveform)
    assert one.mask.max() > 0.5
    assert silent.empty
    assert silent.to_dict()["empty"]


def test_mask_of_everything_leaves_what_the_model_does_not_hear(
    tiny_clap: FrozenClap,
) -> None:
    """The residual has nothing in the bins that a mel band covers."""
    front_end, decoder = tiny_clap.front_end, constant_decoder(tiny_clap, 0.999)
    (one,) = explain_all(tiny_clap, decoder, noise(SIZE), ["a dog"])
    assert not one.empty
    assert (one.mask[front_end.visible] == 1).all()
    assert (one.mask[~front_end.visible] == 0).all()
    level = front_end.stft(one.residual)[front_end.visible].abs().square().mean()
    assert level < 1e-3 * one.stft.abs().square().mean()
    assert one.masked_similarity == pytest.approx(one.similarity, abs=1e-2)


def test_silent_gaps_have_an_empty_mask(tiny_clap: FrozenClap) -> None:
    """Frames without a sound in them, also where the decoder keeps everything."""
    wav = noise(SIZE)
    wav[40000:80000] = 0
    (one,) = explain_all(tiny_clap, constant_decoder(tiny_clap, 0.999), wav, ["a dog"])
    column = torch.arange(one.mask.shape[1]) * HOP
    reach = tiny_clap.front_end.n_fft // 2
    silent = (column >= 40000 + reach) & (column <= 80000 - reach)
    assert silent.sum() > 50
    assert (one.mask[:, silent] == 0).all()
    visible = one.mask[tiny_clap.front_end.visible]
    assert (visible[:, (column < 40000) | (column > 80000)] == 1).all()


def test_mel_area_is_the_mean_of_what_is_drawn(tiny_clap: FrozenClap) -> None:
    """All of it is 1; a mask of the low bins has more area than cells."""
    one = interpretation()
    ones = dataclasses.replace(one, mask=torch.ones_like(one.mask))
    assert ones.mel_area == pytest.approx(1)
    (real,) = explain_all(tiny_clap, random_decoder(tiny_clap), noise(SIZE), ["a dog"])
    drawn = to_bands(real.mask, real.sample_rate).mean()
    assert real.mel_area == pytest.approx(float(drawn), abs=0.01)
    low = torch.zeros_like(real.mask)
    low[:100] = 1
    assert dataclasses.replace(real, mask=low).mel_area > 3 * float(low.mean())


def test_a_loud_tone_below_the_band_is_left_out(tiny_clap: FrozenClap) -> None:
    """It would be switched on and off by a mask that changes in time."""
    front_end = tiny_clap.front_end
    lowest = int(front_end.visible.nonzero()[0]) * RATE / front_end.n_fft
    time = torch.arange(SIZE) / RATE
    tone = torch.sin(2 * torch.pi * 0.2 * lowest * time)
    (one,) = explain_all(
        tiny_clap, random_decoder(tiny_clap), noise(SIZE) + tone, ["a dog"]
    )
    (quiet,) = explain_all(tiny_clap, random_decoder(tiny_clap), noise(SIZE), ["a dog"])
    assert (one.mask[~front_end.visible] == 0).all()
    assert one.waveform.square().mean() < 1.1 * quiet.waveform.square().mean()


def test_sound_beyond_the_models_band_has_no_similarity(tiny_clap: FrozenClap) -> None:
    """To the model a constant, which no mel band holds, is silence; none is kept."""
    decoder = constant_decoder(tiny_clap, 0.999)
    (one,) = explain_all(tiny_clap, decoder, torch.full((SIZE,), 0.1), ["a dog"])
    assert one.empty
    assert one.masked_similarity is None


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("samples", [39487, 250000])
def test_every_domain_masks_the_stft(
    tiny_clap: FrozenClap, domain: Domain, samples: int
) -> None:
    """Masks of every domain, also mel, lie on the STFT's bins and give a sound."""
    decoder = random_decoder(tiny_clap, domain)
    wav = noise(samples)
    (one,) = explain_all(tiny_clap, decoder, wav, ["a dog"])
    assert one.mask.shape == tiny_clap.front_end.stft(wav).shape
    torch.testing.assert_close(one.waveform + one.residual, wav, atol=1e-5, rtol=0)


def test_fused_checkpoint(tiny_fused_clap: FrozenClap) -> None:
    """A fused CLAP is explained too, longer clips by windows."""
    decoder = random_decoder(tiny_fused_clap)
    wav = noise(SIZE + 12345)
    (one,) = explain_all(tiny_fused_clap, decoder, wav, ["a dog"])
    torch.testing.assert_close(one.waveform + one.residual, wav, atol=1e-5, rtol=0)
    heard = loop_similarity(tiny_fused_clap, one.waveform, "a dog")
    assert one.masked_similarity == pytest.approx(heard, abs=2e-5)


# --- presence and verdict -----------------------------------------------------------


def loop_presence(
    clap: FrozenClap, wav: Tensor, prompt: str, names: list[str]
) -> float:
    """Rank of a prompt in its most similar window, one window at a time."""
    best, rank = -2.0, 0.0
    for _, window in loop_over_windows(wav):
        with torch.no_grad():
            log_mel = clap.front_end.log_mel(window[None])
            audio = clap.audio_embedding(log_mel)[0]
        cosine = float(clap.encode_text([prompt])[0] @ audio)
        below = [float(one @ audio) < cosine - 1e-6 for one in clap.encode_text(names)]
        if cosine > best:
            best, rank = cosine, sum(below) / len(below)
    return rank


@pytest.mark.parametrize("samples", [39487, 592000])
def test_presence_is_the_rank_in_the_best_window(
    tiny_clap: FrozenClap, decoder: MaskDecoder, samples: int
) -> None:
    """Of input, explanation and residual; the verdict follows from the three."""
    wav, names = noise(samples), [f"the sound of {word}" for word in "abcdefgh"]
    text, references = tiny_clap.encode_text(PROMPTS), tiny_clap.encode_text(names)
    options = {"references": references}
    for one in explain(tiny_clap, decoder, wav, PROMPTS, text, **options):
        ranks = one.presence, one.masked_presence, one.residual_presence
        for rank, sound in zip(ranks, (wav, one.waveform, one.residual), strict=True):
            expected = loop_presence(tiny_clap, sound, one.prompt, names)
            assert rank == pytest.approx(expected)
        assert one.verdict == verdict_of(*ranks, references=len(names))
        assert one.to_dict()["verdict"] == one.verdict


def test_reference_prompt_is_not_ahead_of_itself(
    tiny_clap: FrozenClap, decoder: MaskDecoder
) -> None:
    """However it was rounded: the presence is at most (R - 1) / R."""
    text = tiny_clap.encode_text(["a dog"])
    options = {"references": text - 1e-7, "verify": False}
    (one,) = explain(tiny_clap, decoder, noise(SIZE), ["a dog"], text, **options)
    assert one.presence == 0


def test_verdict_needs_verification_and_references(
    tiny_clap: FrozenClap, decoder: MaskDecoder
) -> None:
    """Without verification the presence in the input is left, and no verdict."""
    wav, text = noise(50000), tiny_clap.encode_text(["a dog"])
    references = tiny_clap.encode_text(PROMPTS)
    call = tiny_clap, decoder, wav, ["a dog"], text
    (full,) = explain(*call, references=references)
    (quick,) = explain(*call, references=references, verify=False)
    (plain,) = explain(*call)
    assert quick.presence == full.presence is not None
    assert quick.masked_presence is quick.residual_presence is quick.verdict is None
    assert full.verdict is not None
    assert plain.presence is plain.verdict is None
    assert full.masked_similarity == plain.masked_similarity


@pytest.mark.parametrize(
    ("level", "samples"), [(0.0, 1600), (0.0, 300000), (0.1, SIZE)]
)
def test_silence_has_no_presence(
    tiny_clap: FrozenClap, level: float, samples: int
) -> None:
    """Nothing is recognised in digital silence, nor beyond the model's band."""
    decoder, wav = constant_decoder(tiny_clap, 0.999), torch.full((samples,), level)
    text, references = tiny_clap.encode_text(["a dog"]), tiny_clap.encode_text(PROMPTS)
    (one,) = explain(tiny_clap, decoder, wav, ["a dog"], text, references=references)
    assert one.presence is one.masked_presence is one.residual_presence is None
    assert one.verdict == "not heard"


def test_empty_mask_keeps_nothing(tiny_clap: FrozenClap) -> None:
    """A prompt that leads in the input and has an empty mask is not kept."""
    text = tiny_clap.encode_text(["a dog"])
    call = tiny_clap, constant_decoder(tiny_clap, 1e-30), noise(SIZE), ["a dog"], text
    (plain,) = explain(*call)
    behind = text * (0.5 if plain.similarity > 0 else 2)
    (one,) = explain(*call, references=behind)
    assert (one.presence, one.masked_presence) == (1.0, None)
    assert one.verdict == "not kept"


# --- windows ------------------------------------------------------------------------


@given(hop=st.integers(1, 50), size=st.integers(2, 2000), samples=st.integers(1, 20000))
@settings(max_examples=200)
def test_window_starts(hop: int, size: int, samples: int) -> None:
    """They lie on frames, overlap by half and leave out less than a hop at the end."""
    assume(size >= 2 * hop)
    starts = window_starts(samples, size, hop)
    assert starts[0] == 0
    assert all(start % hop == 0 for start in starts)
    if samples < size + hop:
        assert starts == [0]
        return
    assert samples - hop < starts[-1] + size <= samples
    steps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    assert all(0 < step <= size / 2 for step in steps)
    assert len(starts) <= 2 + (samples - size) / (size // 2 // hop * hop)


@pytest.mark.parametrize(
    "samples", [SIZE + 1, SIZE + HOP - 1, SIZE + HOP, 240000, 240001, 592000]
)
@pytest.mark.parametrize("value", [0.25, 0.45])
def test_cross_fade_is_a_partition(
    tiny_clap: FrozenClap, samples: int, value: float
) -> None:
    """Windows that agree on a value give that value, also where they meet."""
    decoder = constant_decoder(tiny_clap, value)
    (one,) = explain_all(tiny_clap, decoder, noise(samples), ["a dog"])
    expected = torch.full_like(one.mask, value)
    expected[~tiny_clap.front_end.visible] = 0
    torch.testing.assert_close(one.mask, expected, atol=1e-5, rtol=0)


def test_mask_within_one_window_is_that_windows(
    tiny_clap: FrozenClap, faint_decoder: MaskDecoder
) -> None:
    """Before the second window starts the mask is that of the first one alone."""
    wav = noise(592000)
    (long,) = explain_all(tiny_clap, faint_decoder, wav, ["a dog"])
    (short,) = explain_all(tiny_clap, faint_decoder, wav[:SIZE], ["a dog"])
    before = SIZE // 2 // HOP
    torch.testing.assert_close(
        long.mask[:, :before], short.mask[:, :before], atol=1e-5, rtol=0
    )
    assert (
        long.mask[:, before : 2 * before] - short.mask[:, before:-1]
    ).abs().max() > 0


@pytest.mark.parametrize("samples", [SIZE, SIZE + 1, SIZE + HOP, 592000])
def test_cross_fade_against_a_loop(
    tiny_clap: FrozenClap, faint_decoder: MaskDecoder, samples: int
) -> None:
    """Masks of long clips are what a loop over single windows gives."""
    wav = noise(samples)
    (one,) = explain_all(tiny_clap, faint_decoder, wav, ["a dog"])
    assert one.mask.max() < 0.5
    assert one.mask.std() > 0.01
    expected = loop_mask(tiny_clap, faint_decoder, wav, "a dog")
    torch.testing.assert_close(one.mask, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [30000, SIZE, SIZE + 1, 377777])
def test_hop_that_does_not_divide_the_length(
    tiny_clap: FrozenClap, samples: int
) -> None:
    """A checkpoint whose input is no whole number of hops is explained, too."""
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=RATE,
        fft_window_size=2048,
        hop_length=650,
        max_length_s=5,
        frequency_min=50,
        truncation="rand_trunc",
    )
    clap = FrozenClap(tiny_clap.model, extractor, tiny_clap.tokenizer)
    assert clap.front_end.max_samples % clap.front_end.hop_length
    wav = noise(samples)
    (one,) = explain_all(clap, constant_decoder(clap, 0.25), wav, ["a dog"])
    assert one.mask.shape == clap.front_end.stft(wav).shape
    expected = torch.full_like(one.mask, 0.25)
    expected[~clap.front_end.visible] = 0
    torch.testing.assert_close(one.mask, expected)
    torch.testing.assert_close(one.waveform + one.residual, wav, atol=1e-5, rtol=0)


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_windows_in_work_are_bounded(
    tiny_clap: FrozenClap, decoder: MaskDecoder, at_once: int
) -> None:
    """However long the clip, at most `windows_at_once` are encoded at a time."""
    batches: list[int] = []
    tower = tiny_clap.model.audio_model
    hook = tower.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["input_features"])),
        with_kwargs=True,
    )
    windows = 9
    wav, text = noise((windows + 1) * SIZE // 2), tiny_clap.encode_text(["a dog"])
    given = tiny_clap, decoder, wav, ["a dog"], text
    (one,) = explain(*given, windows_at_once=at_once)
    hook.remove()
    assert max(batches) == at_once
    assert sum(batches) == 3 * windows  # input, explanation, residual
    (other,) = explain(*given, verify=False, windows_at_once=2)
    torch.testing.assert_close(one.mask, other.mask, atol=1e-5, rtol=0)


def test_clips_of_a_batch_do_not_disturb_each_other(
    tiny_clap: FrozenClap, faint_decoder: MaskDecoder
) -> None:
    """Clips of any length, each with prompts of its own, as if they came alone."""
    wavs = [noise(n, seed) for seed, n in enumerate([SIZE, 1600, 300000, 39487, SIZE])]
    prompts = [PROMPTS[:1], PROMPTS, PROMPTS[1:], [], PROMPTS[2:]]
    texts = [tiny_clap.encode_text(own) for own in prompts]
    batch = explain_batch(tiny_clap, faint_decoder, wavs, prompts, texts)
    assert [[one.prompt for one in own] for own in batch] == prompts
    for wav, own, found in zip(wavs, prompts, batch, strict=True):
        if not own:
            continue
        alone = explain_all(tiny_clap, faint_decoder, wav, own)
        for one, other in zip(found, alone, strict=True):
            for name in ("mask", "waveform", "residual"):
                got, expected = getattr(one, name), getattr(other, name)
                torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
            for name in ("similarity", "masked_similarity", "residual_similarity"):
                expected = pytest.approx(getattr(other, name), abs=1e-5)
                assert getattr(one, name) == expected


def test_clips_that_are_encoded_are_not_encoded_again(
    tiny_clap: FrozenClap, faint_decoder: MaskDecoder
) -> None:
    """A batch may take some of them, in any order: the same explanations."""
    fe = tiny_clap.front_end
    wavs = [noise(n, seed) for seed, n in enumerate([SIZE, 1600, SIZE, 39487])]
    log_mel = torch.cat([fe.log_mel(wav[None]) for wav in wavs])
    encoding, chosen = tiny_clap.audio_features(log_mel), [3, 0, 2]
    given = (
        [wavs[n] for n in chosen],
        [PROMPTS] * 3,
        [tiny_clap.encode_text(PROMPTS)] * 3,
    )
    expected = explain_batch(tiny_clap, faint_decoder, *given, verify=False)
    encoded = list[int]()
    hook = tiny_clap.model.audio_model.register_forward_hook(
        lambda *_: encoded.append(1)
    )
    found = explain_batch(
        tiny_clap, faint_decoder, *given, verify=False, encoding=encoding.of(chosen)
    )
    hook.remove()
    assert not encoded
    for own, others in zip(found, expected, strict=True):
        for one, other in zip(own, others, strict=True):
            torch.testing.assert_close(one.mask, other.mask, atol=1e-5, rtol=0)
            assert one.similarity == pytest.approx(other.similarity, abs=1e-6)


def test_similarity_of_a_long_clip_is_that_of_its_best_window(
    tiny_clap: FrozenClap,
) -> None:
    """Silence around a sound does not make it less similar."""
    sound = noise(SIZE)
    wav = torch.cat([torch.zeros(SIZE), sound, torch.zeros(SIZE)])
    text = tiny_clap.encode_text(PROMPTS)
    with torch.no_grad():
        of_sound = similarities(tiny_clap, sound, text)
        of_clip = similarities(tiny_clap, wav, text)
    assert (of_clip >= of_sound - 1e-5).all()


# --- what is returned and written ---------------------------------------------------


def interpretation(samples: int = 8000) -> Interpretation:
    """Make an interpretation of noise by hand; its explanation peaks at 1.5."""
    waveform = torch.linspace(-1.5, 1.5, samples)
    stft = torch.rand(65, 1 + samples // 64, dtype=torch.complex64)
    mask = torch.rand(stft.shape)
    return Interpretation(
        prompt="a dog",
        stft=stft,
        waveform=waveform,
        residual=0.1 * waveform.flip(0),
        mask=mask,
        sample_rate=16000,
        similarity=0.5,
        masked_similarity=0.25,
        residual_similarity=-0.125,
        hop_length=64,
        model="tiny",
        presence=0.75,
        refine_steps=3,
        masked_presence=0.875,
        residual_presence=0.25,
        verdict="not heard",
    )


def with_events() -> Interpretation:
    """One second in two events; the second window is silence to the model."""
    mask = torch.zeros(65, 251)
    mask[8:17, 50:100] = mask[8:17, 230:245] = 0.5
    ranks = torch.tensor([0.97, math.nan])
    scores = 0.4 * ranks
    windows = WindowScores(torch.full([65], 1 / 65), 150, (0, 101), scores, ranks)
    one = interpretation(16000)
    return dataclasses.replace(
        one, stft=torch.ones(65, 251) + 0j, mask=mask, presence=0.97, windows=windows
    )


def test_events_are_those_of_the_mask_where_the_prompt_is() -> None:
    """As `find_events` has them; not without windows, nor of an empty mask."""
    one = with_events()
    assert len(one.events) == 1
    event = one.events.iloc[0]
    found = event[["start", "stop", "low_hz", "high_hz"]].astype(float).tolist()
    assert found == pytest.approx([49.5 / 250, 99.5 / 250, 7.5 * 125, 16.5 * 125])
    assert event.prompt == "a dog"
    assert event.presence == pytest.approx(0.97)
    assert event.mass == pytest.approx(0.5 * 9 / 65)
    assert one.to_dict()["events"] == one.events.to_dict("records")
    assert "windows" not in one.to_dict()
    for other in (
        dataclasses.replace(one, windows=None),
        dataclasses.replace(one, waveform=0 * one.waveform),
    ):
        assert other.events.empty and list(other.events) == list(one.events)


def test_interpretation_is_frozen() -> None:
    """Fields cannot be replaced; two interpretations are compared as objects."""
    one, other = interpretation(), interpretation()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.prompt = "rain"  # type: ignore[misc]
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_to_dict_holds_every_scalar() -> None:
    """The scalars stand under their own names, with values that are derived."""
    one = interpretation()
    assert one.to_dict() == {
        "prompt": "a dog",
        "sample_rate": 16000,
        "similarity": 0.5,
        "masked_similarity": 0.25,
        "residual_similarity": -0.125,
        "hop_length": 64,
        "model": "tiny",
        "presence": 0.75,
        "refine_steps": 3,
        "masked_presence": 0.875,
        "residual_presence": 0.25,
        "verdict": "not heard",
        "warnings": [],
        "prompt_audio": None,
        "contrast": [],
        "margin": None,
        "masked_margin": None,
        "residual_margin": None,
        "margin_kept": None,
        "recording": None,
        "recording_sha256": None,
        "channel": None,
        "empty": False,
        "mask_mean": pytest.approx(one.mask.double().mean().item(), rel=1e-5),
        "mel_area": one.mel_area,
        "seconds": 0.5,
        "events": [],
        "lmaczs_version": __version__,
    }


def test_save_writes_four_files(tmp_path: Path) -> None:
    """Sounds, picture and numbers have fixed names, and their paths are returned."""
    one = interpretation()
    folder = tmp_path / "new" / "folder"
    paths = one.save(folder)
    names = ["explanation.json", "explanation.png", "explanation.wav", "residual.wav"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert paths == {name: folder / name for name in names}
    assert json.loads(paths["explanation.json"].read_text("utf-8")) == one.to_dict()
    assert paths["explanation.png"].read_bytes().startswith(b"\x89PNG")


def test_saved_sounds_are_not_clipped(tmp_path: Path) -> None:
    """A peak of 1.5 comes back as it was, in float WAV at the model's rate."""
    one = interpretation()
    paths = one.save(str(tmp_path))
    for name, sound in (
        ("explanation.wav", one.waveform),
        ("residual.wav", one.residual),
    ):
        samples, rate = soundfile.read(paths[name], dtype="float32")
        assert rate == one.sample_rate
        assert soundfile.info(paths[name]).subtype == "FLOAT"
        assert torch.equal(torch.from_numpy(samples), sound)


def test_save_without_verification(tmp_path: Path) -> None:
    """Similarities are null without verify, and the figure shows none."""
    one = dataclasses.replace(
        interpretation(), masked_similarity=None, residual_similarity=None
    )
    paths = one.save(tmp_path)
    values = json.loads(paths["explanation.json"].read_text("utf-8"))
    assert values["masked_similarity"] is None
    assert values["residual_similarity"] is None


def test_saving_again_replaces(tmp_path: Path) -> None:
    """A second explanation takes the place of the first, whole."""
    interpretation(8000).save(tmp_path)
    paths = interpretation(4000).save(tmp_path)
    assert soundfile.info(paths["explanation.wav"]).frames == 4000
    assert json.loads(paths["explanation.json"].read_text("utf-8"))["seconds"] == 0.25
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "name", ["explanation.wav", "residual.wav", "explanation.png", "explanation.json"]
)
def test_failing_to_write_leaves_nothing_partial(tmp_path: Path, name: str) -> None:
    """Where a file cannot get its name, no temporary file stays behind."""
    (tmp_path / name / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=name):
        interpretation().save(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {
        "explanation.wav",
        "residual.wav",
        "explanation.png",
        "explanation.json",
    }
    for path in tmp_path.glob("*.wav"):
        assert path.is_dir() or soundfile.info(path).frames == 8000


@pytest.mark.parametrize("part", ["input", "mask", "explanation", "residual"])
def test_parts_are_drawn_into_axes_of_the_user(part: Part) -> None:
    """In seconds and Hz, one scale for all sounds, and nothing else is touched."""
    one = interpretation()
    figure = Figure()
    axes = figure.subplots(1, 2)
    axes[0].set_title("mine")
    image = one.plot(axes[0], part)
    assert image in axes[0].images and not axes[1].images
    assert axes[0].get_title() == "mine" and axes[0].get_xlim() == (0, 0.5)
    assert axes[0].get_ylim() == (0, one.sample_rate / 2)
    assert image.get_clim() == ((0, 1) if part == "mask" else (-70, 0))
    shown = {
        "input": one.stft,
        "explanation": one.masked_stft,
        "residual": (1 - one.mask) * one.stft,
    }
    values = torch.as_tensor(image.get_array().data)
    expected = to_bands(one.mask, one.sample_rate)
    if part != "mask":
        power = to_bands(shown[part].abs().square(), one.sample_rate)
        loudest = to_bands(one.stft.abs().square(), one.sample_rate).max()
        expected = (10 * (power / loudest).log10()).clamp(-70, 0)
    torch.testing.assert_close(values, expected)


def test_a_part_that_does_not_exist_is_named() -> None:
    """The message says which there are."""
    message = "part is 'masks': give input, mask, explanation or residual"
    with pytest.raises(InputError, match=message):
        interpretation().plot(Figure().subplots(), "masks")  # type: ignore[arg-type]
