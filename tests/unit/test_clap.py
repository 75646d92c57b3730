"""The frozen CLAP: where its features lie, what never changes, what is cached."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoFeatureExtractor,
    AutoTokenizer,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
)

from lmaczs.clap import FrozenClap, unfold

WORDS = "a dog barking heavy rain on the roof siren far away clock music".split()
ANY_CLAP = pytest.mark.parametrize(
    "fixture", ["tiny_clap", "tiny_fused_clap", "laion_like_clap"]
)


@pytest.fixture
def clap(request: pytest.FixtureRequest, fixture: str) -> FrozenClap:
    """One of the tiny CLAPs, by the name of its fixture."""
    return request.getfixturevalue(fixture)


@pytest.fixture
def own_clap(tiny_clap_folder: Path) -> FrozenClap:
    """A CLAP that a test may change."""
    return FrozenClap.from_pretrained(tiny_clap_folder)


def sounds(clap: FrozenClap, clips: int = 3) -> Tensor:
    """Log-mel [B, C, T, n_mels] of noises that start at different times."""
    generator = torch.Generator().manual_seed(0)
    samples = clap.front_end.max_samples
    starts = torch.linspace(0, 0.7, clips)[:, None] * samples
    noise = torch.randn(clips, samples, generator=generator)
    return clap.front_end.log_mel(noise * (torch.arange(samples) > starts))


# --- geometry -----------------------------------------------------------------------


def without_mixing(clap: FrozenClap) -> FrozenClap:
    """A copy whose blocks pass their input on: only patches and their merging act.

    Its input has mean 0, so that an impulse is the only thing there; the impulses
    are so weak that layer norms are linear.
    """
    clap = copy.deepcopy(clap)
    encoder = clap.model.audio_model.audio_encoder
    encoder.batch_norm.running_mean.zero_()
    for stage in encoder.layers:
        for block in stage.blocks:
            for dense in (block.attention.output.dense, block.output.dense):
                dense.weight.zero_()
                dense.bias.zero_()
    return clap


def frames_inside_tokens(clap: FrozenClap) -> list[int]:
    """Frames, two in each stretch, that lie in the middle of a token of every stage."""
    config = clap.model.config.audio_config
    columns, frames = config.spec_size * clap.freq_ratio, clap.front_end.n_frames
    wanted = [
        stretch * config.spec_size + share * config.spec_size // 16
        for stretch in range(clap.freq_ratio)
        for share in (3, 12)
    ]
    return [round((w + 1.5) * (frames - 1) / (columns - 1)) for w in wanted]


@pytest.mark.parametrize("fixture", ["tiny_clap", "laion_like_clap"])
def test_an_impulse_shows_where_it_is_in_every_stage(clap: FrozenClap) -> None:
    """A click in one band lights the token of its frequency and time, at each scale."""
    clap = without_mixing(clap)
    config = clap.model.config.audio_config
    columns, frames = config.spec_size * clap.freq_ratio, clap.front_end.n_frames
    for number, frame in enumerate(frames_inside_tokens(clap)):
        band = (2 + 19 * number) % 64
        log_mel = torch.zeros(1, 1, frames, 64)
        log_mel[0, 0, frame, band] = 1e-11
        *features, _ = clap.audio_features(log_mel).features
        assert len(features) == len(config.depths) + 1
        column = frame * (columns - 1) / (frames - 1)
        for depth, feature in zip(
            [0, *range(len(config.depths))], features, strict=True
        ):
            energy = feature[0].double().square().sum(0)
            peak = divmod(int(energy.argmax()), energy.shape[1])
            patch = config.patch_size * 2**depth
            assert peak == (band // patch, int(column // patch))


@ANY_CLAP
def test_feature_shapes_are_those_of_the_features(clap: FrozenClap) -> None:
    """Shapes are known before anything is encoded; every row is a share of 64 bands."""
    features = clap.audio_features(sounds(clap, 1)).features
    assert [tuple(f.shape[1:]) for f in features] == clap.feature_shapes


@ANY_CLAP
def test_the_coarsest_feature_is_what_is_pooled(clap: FrozenClap) -> None:
    """Normed, averaged and projected, it gives the embedding."""
    encoding = clap.audio_features(sounds(clap))
    coarsest = encoding.features[-2].permute(0, 2, 3, 1)
    pooled = clap.model.audio_model.audio_encoder.norm(coarsest).mean((1, 2))
    embedding = nn.functional.normalize(clap.model.audio_projection(pooled), dim=-1)
    assert torch.allclose(embedding, encoding.embedding, atol=1e-5)


@ANY_CLAP
def test_every_place_has_an_embedding_as_if_it_were_a_clip(clap: FrozenClap) -> None:
    """What the projection makes of one place's features, at unit norm."""
    encoding = clap.audio_features(sounds(clap))
    places = encoding.features[-1]
    for row in range(places.shape[2]):
        for column in range(places.shape[3]):
            alone = clap.model.audio_projection(encoding.last[:, :, row, column])
            expected = nn.functional.normalize(alone, dim=-1)
            assert torch.allclose(places[:, :, row, column], expected, atol=1e-5)


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_unfold_puts_stretches_in_a_row(ratio: int) -> None:
    """Against a loop over rows and columns."""
    folded = torch.randn(2, 3, 4 * ratio, 5)
    unfolded = unfold(folded, ratio)
    assert unfolded.shape == (2, 3, 4, 5 * ratio)
    for row in range(4 * ratio):
        for column in range(5):
            time = row // 4 * 5 + column
            expected = folded[:, :, row, column]
            assert torch.equal(unfolded[:, :, row % 4, time], expected)


def test_unfold_undoes_what_the_encoder_does(laion_like_clap: FrozenClap) -> None:
    """Of HF's own folded image it makes the log-mel again, low bands first."""
    encoder = laion_like_clap.model.audio_model.audio_encoder
    image = torch.randn(2, 1, 1024, 64)
    unfolded = unfold(encoder.reshape_mel2img(image), laion_like_clap.freq_ratio)
    assert torch.equal(unfolded, image.transpose(2, 3))


# --- frozen -------------------------------------------------------------------------


def test_training_never_reaches_it(own_clap: FrozenClap) -> None:
    """What Brain.fit does to its modules changes no mode, statistic or output."""
    log_mel = sounds(own_clap)
    before = own_clap.audio_features(log_mel)
    state = copy.deepcopy(own_clap.state_dict())
    modules = nn.ModuleDict({"clap": own_clap, "decoder": nn.Dropout()})
    modules.train()
    assert modules["decoder"].training
    assert not any(module.training for module in own_clap.modules())
    after = own_clap.audio_features(log_mel)
    assert torch.equal(before.embedding, after.embedding)
    assert all(map(torch.equal, before.features, after.features))
    assert state.keys() == own_clap.state_dict().keys()
    assert all(torch.equal(v, own_clap.state_dict()[k]) for k, v in state.items())


@ANY_CLAP
def test_gradients_reach_the_input_and_no_weight(clap: FrozenClap) -> None:
    """No parameter asks for a gradient; every frame and band of the input gets one."""
    assert not any(weight.requires_grad for weight in clap.parameters())
    log_mel = sounds(clap, 1).clone().requires_grad_()
    clap.audio_embedding(log_mel)[:, 0].sum().backward()
    gradient = log_mel.grad[0, 0]
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(0) > 0).all()
    assert (gradient.abs().sum(1) > 0).all()
    assert all(weight.grad is None for weight in clap.parameters())


@ANY_CLAP
def test_a_clip_is_encoded_alike_in_any_batch(clap: FrozenClap) -> None:
    """Repeated, alone or among others, a clip has one unit-norm embedding."""
    log_mel = sounds(clap)
    together = clap.audio_embedding(log_mel)
    assert together.shape == (3, clap.embedding_dim)
    assert torch.allclose(together.norm(dim=-1), torch.ones(3))
    assert torch.equal(together, clap.audio_embedding(log_mel))
    assert torch.equal(together, clap.audio_features(log_mel).embedding)
    alone = torch.cat([clap.audio_embedding(clip[None]) for clip in log_mel])
    assert torch.allclose(together, alone, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 0.01


@ANY_CLAP
def test_similarities_are_those_of_hf(clap: FrozenClap) -> None:
    """Logit scale times cosine is what ClapModel returns as logits_per_audio."""
    prompts = ["a dog barking", "heavy rain"]
    log_mel = sounds(clap)
    tokens = clap.tokenizer(prompts, padding=True, return_tensors="pt")
    out = clap.model(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        input_features=log_mel,
        is_longer=torch.zeros(3, 1, dtype=torch.bool),
    )
    cosines = clap.audio_embedding(log_mel) @ clap.encode_text(prompts).T
    assert torch.allclose(clap.logit_scale * cosines, out.logits_per_audio, atol=1e-4)


def test_a_fused_checkpoint_reads_one_channel(tiny_fused_clap: FrozenClap) -> None:
    """Its other three channels, views of clips beyond its length, do not count."""
    log_mel = sounds(tiny_fused_clap, 2).clone()
    assert log_mel.shape[1] == 4
    changed = log_mel.clone()
    changed[:, 1:] = -100
    embed = tiny_fused_clap.audio_embedding
    assert torch.equal(embed(log_mel), embed(changed))
    leaf = log_mel.clone().requires_grad_()
    embed(leaf)[:, 0].sum().backward()
    reached = leaf.grad.abs().sum((0, 2, 3)) > 0
    assert reached.tolist() == [True, False, False, False]


# --- text ---------------------------------------------------------------------------


def count_tokenized(clap: FrozenClap, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every prompt that the tokenizer is given from now on."""
    seen, tokenizer = [], clap.tokenizer

    def counting(prompts: list[str], **options: object) -> object:
        seen.extend(prompts)
        return tokenizer(prompts, **options)

    monkeypatch.setattr(clap, "tokenizer", counting)
    return seen


def test_a_prompt_is_encoded_once(
    own_clap: FrozenClap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order and repetitions are kept, and nothing is encoded that is known."""
    seen = count_tokenized(own_clap, monkeypatch)
    first = own_clap.encode_text(["rain", "a siren", "rain"])
    assert seen == ["rain", "a siren"]
    again = own_clap.encode_text(["a siren", "thunder", "rain"])
    assert seen == ["rain", "a siren", "thunder"]
    assert torch.equal(first[0], first[2])
    assert torch.equal(again[[2, 0]], first[:2])
    assert not torch.equal(again[0], again[1])


def test_one_text_is_not_taken_for_its_letters(own_clap: FrozenClap) -> None:
    """A string is refused with what to give; no prompts have no embeddings."""
    with pytest.raises(TypeError, match=r"list of prompts: \['rain'\]"):
        own_clap.encode_text("rain")
    assert own_clap.encode_text([]).shape == (0, own_clap.embedding_dim)


def test_the_cache_has_a_limit_that_is_not_noticed(own_clap: FrozenClap) -> None:
    """Beyond the limit it starts anew, with the same embeddings."""
    parts = own_clap.model, own_clap.feature_extractor, own_clap.tokenizer
    small = FrozenClap(*parts, cached_prompts=5)
    prompts = [f"sound {number}" for number in range(8)]
    singly = torch.cat([small.encode_text([p]) for p in prompts])
    together = small.encode_text(prompts[::-1])
    assert torch.equal(together, singly.flip(0))


@ANY_CLAP
def test_prompts_have_unit_norm(clap: FrozenClap) -> None:
    """Embeddings [N, D] of norm 1, without a gradient."""
    embeddings = clap.encode_text(["rain", "I can hear heavy rain on a roof."])
    assert embeddings.shape == (2, clap.embedding_dim)
    assert torch.allclose(embeddings.norm(dim=-1), torch.ones(2))
    assert not embeddings.requires_grad


@given(
    prompts=st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join),
        min_size=1,
        max_size=9,
        unique=True,
    ),
    data=st.data(),
)
def test_an_embedding_depends_on_its_prompt_alone(
    tiny_clap: FrozenClap, prompts: list[str], data: st.DataObject
) -> None:
    """Equal to the bit whatever prompts it is encoded with, in whatever order."""
    parts = tiny_clap.model, tiny_clap.feature_extractor, tiny_clap.tokenizer
    order = data.draw(st.permutations(range(len(prompts))))
    together = FrozenClap(*parts).encode_text([prompts[i] for i in order])
    other = FrozenClap(*parts)
    for row, number in enumerate(order):
        assert torch.equal(other.encode_text([prompts[number]])[0], together[row])


def test_an_embedding_does_not_depend_on_autocast(tiny_clap: FrozenClap) -> None:
    """What a mixed-precision training caches is what any other caller gets."""
    parts = tiny_clap.model, tiny_clap.feature_extractor, tiny_clap.tokenizer
    with torch.autocast("cpu", torch.bfloat16):
        embedding = FrozenClap(*parts).encode_text(["rain on a roof"])
    assert torch.equal(embedding, FrozenClap(*parts).encode_text(["rain on a roof"]))


def test_long_prompts_are_cut(own_clap: FrozenClap) -> None:
    """A prompt beyond the text tower's positions is read up to there."""
    longest = own_clap.max_tokens
    long = "a dog barking " * 50
    tokens = own_clap.tokenizer(long, truncation=True, max_length=longest)
    assert len(tokens["input_ids"]) == longest <= 24
    assert own_clap.encode_text([long]).isfinite().all()


def test_a_dead_text_tower_is_reported(
    own_clap: FrozenClap, caplog: pytest.LogCaptureFixture
) -> None:
    """Prompts that are all alike make a warning at load, others do not."""
    parts = own_clap.model, own_clap.feature_extractor, own_clap.tokenizer
    with caplog.at_level(logging.WARNING, "lmaczs"):
        assert FrozenClap(*parts).text_spread < 0.9
        assert not caplog.records
        own_clap.model.text_model.embeddings.word_embeddings.weight.zero_()
        own_clap.model.text_model.embeddings.position_embeddings.weight.zero_()
        assert FrozenClap(*parts).text_spread > 0.999
    assert "text embeddings are all alike" in caplog.text


# --- loading ------------------------------------------------------------------------


def test_a_folder_is_loaded_as_hf_loads_it(
    tiny_clap: FrozenClap, tiny_clap_folder: Path
) -> None:
    """Weights, extractor and tokenizer are the folder's; the network is not used."""
    model = ClapModel.from_pretrained(tiny_clap_folder)
    loaded = tiny_clap.model.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in model.state_dict().items())
    fe = AutoFeatureExtractor.from_pretrained(tiny_clap_folder)
    assert tiny_clap.feature_extractor.to_dict() == fe.to_dict()
    assert tiny_clap.front_end.sample_rate == fe.sampling_rate == 32000
    tokenizer = AutoTokenizer.from_pretrained(tiny_clap_folder)
    assert tiny_clap.tokenizer("rain").input_ids == tokenizer("rain").input_ids
    assert tiny_clap.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_half_precision_files_are_loaded_in_single(
    tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """Weights that were saved in fp16 compute in float32."""
    own = FrozenClap.from_pretrained(tiny_clap_folder)
    own.model.half().save_pretrained(tmp_path)
    own.feature_extractor.save_pretrained(tmp_path)
    own.tokenizer.save_pretrained(tmp_path)
    loaded = FrozenClap.from_pretrained(tmp_path)
    assert {w.dtype for w in loaded.parameters()} == {torch.float32}
    assert loaded.audio_embedding(sounds(loaded)).dtype == torch.float32


def test_folders_are_looked_up_beside_the_file_that_names_them(
    tiny_clap_folder: Path,
) -> None:
    """A name is looked up in the folder `relative_to` first."""
    found = FrozenClap.from_pretrained(tiny_clap_folder.name, tiny_clap_folder.parent)
    assert found.embedding_dim == 32


@pytest.mark.parametrize(
    "source", [Path("gone/away"), "./gone", "/gone/away", "gone", "a/b/c", "~/clap"]
)
def test_missing_folders_are_never_asked_of_the_hub(source: str | Path) -> None:
    """What cannot be a Hub id is a folder that is not there."""
    with pytest.raises(FileNotFoundError, match=f"there is no folder {source}"):
        FrozenClap.from_pretrained(source)


def test_folders_without_a_checkpoint_say_so(tmp_path: Path) -> None:
    """The sentence names the folder and the file that is missing."""
    with pytest.raises(FileNotFoundError, match=r"holds no CLAP .*config\.json"):
        FrozenClap.from_pretrained(tmp_path)


# --- full size ----------------------------------------------------------------------


def test_full_size_audio_tower_runs_both_ways(tiny_clap: FrozenClap) -> None:
    """LAION's audio tower, random: shapes, and a gradient in every band and frame."""
    text_config = tiny_clap.model.config.text_config.to_dict()
    config = ClapConfig(text_config=text_config, audio_config=ClapAudioConfig())
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    clap = FrozenClap(ClapModel(config), extractor, tiny_clap.tokenizer)
    shapes = [(96, 16, 256), (96, 16, 256), (192, 8, 128), (384, 4, 64), (768, 2, 32)]
    shapes.append((512, 2, 32))
    assert clap.feature_shapes == shapes
    log_mel = sounds(clap, 1).clone().requires_grad_()
    encoding = clap.audio_features(log_mel)
    assert [tuple(f.shape[1:]) for f in encoding.features] == shapes
    assert encoding.embedding.shape == (1, 512)
    encoding.embedding[:, 0].sum().backward()
    assert (log_mel.grad.abs().sum((0, 1, 2)) > 0).all()
    assert (log_mel.grad.abs().sum((0, 1, 3)) > 0).all()


def test_gradient_through_front_end_and_encoder_is_that_of_finite_differences(
    tiny_clap: FrozenClap,
) -> None:
    """A small step along the gradient changes the similarity as the gradient says.

    On a transposed log-mel the backward pass of torch 2.11 is wrong on the CPU.
    """
    front_end = tiny_clap.front_end
    rng = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(2, front_end.max_samples, generator=rng)
    stft = front_end.stft(wavs)
    text = tiny_clap.encode_text(["a dog", "rain"])
    logits = torch.randn(2, front_end.n_mels, front_end.n_frames, generator=rng)

    def similarity(z: torch.Tensor) -> torch.Tensor:
        log_mel = front_end.input_tf(stft, front_end.expand_mask(z.sigmoid()))
        return (tiny_clap.audio_embedding(log_mel) * text).sum()

    logits.requires_grad_(True)
    (gradient,) = torch.autograd.grad(similarity(logits), logits)
    step = 0.5 * gradient / gradient.norm()
    with torch.no_grad():
        change = similarity(logits + step) - similarity(logits - step)
    assert float(change) == pytest.approx(float(gradient.norm()), rel=0.05)


def test_many_texts_are_embedded_at_once(tiny_clap: FrozenClap) -> None:
    """In batches of any size, as one by one but for rounding."""
    prompts = ["a dog", "rain on a roof while a person speaks", "bells", "a siren"]
    for batch_size in (1, 3, 64):
        found = tiny_clap.embed_texts(prompts, batch_size)
        one_by_one = tiny_clap.encode_text(prompts).cpu()
        assert torch.allclose(found, one_by_one, atol=1e-5)
