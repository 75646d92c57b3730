"""Training of a small CLAP: one step, epochs, metrics, checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import speechbrain as sb
import torch
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor
from transformers import ClapFeatureExtractor, ClapModel

from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC10
from lmaczs.distillation.batches import BatchBuilder, SoundBatch
from lmaczs.distillation.brain import (
    ClapDistillationBrain,
    DistillationOptions,
    Embedded,
    zero_shot_metrics,
)
from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.distillation.composite_cache import CompositeFeatures
from lmaczs.distillation.losses import clip_level, fit_logit_scale, tagger_loss
from lmaczs.distillation.model import build_clap, save_clap
from lmaczs.distillation.prompt_bank import PromptBank, embed_prompts
from lmaczs.training.checkpoints import AtomicCheckpointer
from lmaczs.utils.errors import InputError

LABELS = sorted([*ESC10, "siren"])
CLASSES = ["Animal", "Rain", "Silence", "Vehicle"]
PATCHES = 10
TEMPLATES = ["This is a sound of {}.", "{}", "I can hear {}"]
AUDIO = {
    "spec_size": 128,
    "num_mel_bins": 64,
    "patch_size": 8,
    "patch_stride": [8, 8],
    "window_size": 4,
    "patch_embeds_hidden_size": 16,
    "hidden_size": 64,
    "depths": [1, 1, 1],
    "num_attention_heads": [2, 4, 8],
}
TRAIN, VALID = sb.Stage.TRAIN, sb.Stage.VALID

MakeBrain = Callable[..., ClapDistillationBrain]


def log_mel(mel: Tensor) -> Tensor:
    """Encoder input of mel power [B, n_mels, T]."""
    return 10 * mel.clamp_min(1e-10).log10().transpose(1, 2)[:, None].contiguous()


@pytest.fixture(scope="module")
def clips() -> ClipFeatures:
    """Random mel power: 20 clips to train on, more of one label, and 11 to test.

    Each at two speeds.
    """
    labels = [*LABELS, *["dog"] * 9, *LABELS]
    splits = ["train"] * 20 + ["test"] * 11
    rng = torch.Generator().manual_seed(0)
    mel = 10 ** (3 * torch.rand(31, 2, 64, 251, generator=rng) - 3)
    scores = torch.rand(31, 2, PATCHES, len(CLASSES), generator=rng) ** 2
    table = pd.DataFrame({"id": range(31), "label": labels, "split": splits})
    target = torch.tensor([LABELS.index(label) for label in labels])
    captions = [False] * len(LABELS)
    return ClipFeatures(table, mel, target, LABELS, captions, scores, CLASSES, 5.0)


def without_label(clips: ClipFeatures, rows: list[int]) -> ClipFeatures:
    """The clips, some of them unlabelled."""
    target = clips.target.clone()
    target[rows] = -1
    return replace(clips, target=target)


@pytest.fixture(scope="module")
def parts(tiny_text_tower_folder: Path) -> tuple[ClapModel, FrozenClap]:
    """A small CLAP with a new audio tower, and the same frozen; not to be changed."""
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=32000,
        hop_length=640,
        fft_window_size=2048,
        max_length_s=5,
        frequency_min=50,
        truncation="rand_trunc",
    )
    torch.manual_seed(0)
    model, tokenizer = build_clap(AUDIO, extractor, str(tiny_text_tower_folder))
    return model, FrozenClap(copy.deepcopy(model), extractor, tokenizer)


@pytest.fixture(scope="module")
def prompts(parts: tuple[ClapModel, FrozenClap], clips: ClipFeatures) -> PromptBank:
    """Embeddings of the labels, in every template."""
    return embed_prompts(parts[1], clips, TEMPLATES)


OPTIONS = DistillationOptions(
    seed=1,
    number_of_epochs=5,
    batch_size=4,
    lr=0.001,
    warmup_epochs=1,
    weight_decay=0.05,
    ema_decay=0.9,
    class_balance=0.5,
    augment_strength=1.0,
    max_logit_scale=50,
    loss_weights={
        "contrastive": 1.0,
        "tagger": 2.0,
        "tagger_steps": 1.5,
        "silence": 3.0,
        "alignment": 0.5,
        "teacher_embedding": 7.0,
    },
    valid_every=2,
)


@pytest.fixture
def make_brain(
    parts: tuple[ClapModel, FrozenClap],
    prompts: PromptBank,
    clips: ClipFeatures,
    tmp_path: Path,
) -> MakeBrain:
    """Function that makes a Brain in its third epoch; it takes changes."""

    def make(
        clips: ClipFeatures = clips,
        composites: CompositeFeatures | None = None,
        prompts: PromptBank = prompts,
        batches: dict[str, Any] | None = None,
        **changes: Any,
    ) -> ClapDistillationBrain:
        model, clap = parts
        options = {"mix_prob": 0.5, "silent_prob": 0.2, "composites_in_batch": 3}
        brain = ClapDistillationBrain(
            copy.deepcopy(model),
            clap.front_end,
            prompts,
            BatchBuilder(clips, composites, **{**options, **(batches or {})}),
            replace(OPTIONS, **changes),
            {"device": "cpu", "noprogressbar": True},
            AtomicCheckpointer(tmp_path / "save"),
            FileTrainLogger(tmp_path / "log.txt"),
        )
        brain.epoch_counter.current = 3
        brain.step = 1
        brain.on_stage_start(TRAIN, 3)
        return brain

    return make


@pytest.fixture
def composites() -> CompositeFeatures:
    """Six composites, two of them without a label."""
    rng = torch.Generator().manual_seed(5)
    present = torch.zeros(6, len(LABELS), dtype=torch.bool)
    present[torch.arange(4), torch.arange(4)] = True
    present[0, 5] = True
    embedding = torch.randn(6, 32, generator=rng)
    return CompositeFeatures(
        (-40 * torch.rand(6, 64, 251, generator=rng)).half(),
        torch.rand(6, PATCHES, len(CLASSES), generator=rng).half(),
        torch.nn.functional.normalize(embedding, dim=1),
        present,
    )


def calm(**changes: Any) -> dict[str, Any]:
    """Options of batches without mixtures and silence."""
    return {"mix_prob": 0.0, "silent_prob": 0.0, **changes}


# --- what is drawn ------------------------------------------------------------------


def test_each_epoch_draws_other_clips(make_brain: MakeBrain) -> None:
    """The loader gives other batches in each epoch, the same ones in another run."""

    def drawn() -> list[list[int]]:
        brain = make_brain()
        loader, epochs = brain.train_loader(), []
        for epoch in range(3):
            brain.train_sampler.set_epoch(epoch)  # as Brain.fit does
            epochs.append([int(row) for batch in loader for row in batch])
        return epochs

    epochs = drawn()
    assert [len(epoch) for epoch in epochs] == [20] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert {row for epoch in epochs for row in epoch} <= set(range(20))
    assert drawn() == epochs


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.5), (1.0, 1 / 11)])
def test_rare_labels_are_drawn_more_often(
    make_brain: MakeBrain, clips: ClipFeatures, balance: float, share: float
) -> None:
    """With class_balance 0 each clip counts alike, with 1 each label does."""
    brain = make_brain(class_balance=balance, batch_size=1)
    loader = brain.train_loader()
    drawn = []
    for epoch in range(60):
        brain.train_sampler.set_epoch(epoch)
        drawn += [int(row) for row in loader]
    dogs = clips.target[drawn] == LABELS.index("dog")  # 10 of the 20 clips
    assert float(dogs.float().mean()) == pytest.approx(share, abs=0.05)


def test_step_can_be_repeated(make_brain: MakeBrain) -> None:
    """Augmentations depend on seed, epoch and step alone."""

    def embed(**changes: Any) -> Tensor:
        brain = make_brain(seed=changes.pop("seed", 1))
        brain.epoch_counter.current = changes.pop("epoch", 3)
        brain.step = changes.pop("step", 1)
        torch.manual_seed(len(changes))
        with torch.no_grad():
            return brain.compute_forward(torch.arange(4), TRAIN)[1].pooled

    first = embed()
    assert torch.equal(embed(), first)
    for changes in ({"seed": 2}, {"epoch": 4}, {"step": 2}):
        assert not torch.allclose(embed(**changes), first)


def test_validation_is_not_augmented(
    make_brain: MakeBrain, clips: ClipFeatures
) -> None:
    """Outside training clips are embedded as they are, at their own speed."""
    brain = make_brain(batches={"silent_prob": 1.0})
    brain.modules.eval()
    with torch.no_grad():
        sounds, embedded = brain.compute_forward(torch.arange(3), VALID)
        expected = brain.clap.get_audio_features(log_mel(clips.mel[:3, 0]))
    torch.testing.assert_close(
        embedded.pooled, expected.pooler_output, atol=1e-5, rtol=0
    )
    assert torch.equal(sounds.mel, clips.mel[:3, 0])


# --- one step -----------------------------------------------------------------------


def step(brain: ClapDistillationBrain, clips: int) -> tuple[SoundBatch, Embedded]:
    """Sounds and embeddings of a training step on the first clips."""
    return brain.compute_forward(torch.arange(clips), TRAIN)


def select(
    step: tuple[SoundBatch, Embedded], rows: list[int]
) -> tuple[SoundBatch, Embedded]:
    """Some sounds of a step."""
    sounds, embedded = step
    chosen = [
        type(part)(*(value[rows] for value in vars(part).values()))
        for part in (sounds, embedded)
    ]
    return chosen[0], chosen[1]


def test_loss_is_the_weighted_sum_of_its_terms(
    make_brain: MakeBrain, composites: CompositeFeatures
) -> None:
    """Every term is logged under its name, and weighted by the option of that name."""
    brain = make_brain(composites=composites, batches={"silent_prob": 0.3})
    found = step(brain, 8)
    assert 0 < found[0].silent.sum() < 11
    loss = brain.compute_objectives(found, torch.arange(8), TRAIN)
    assert set(brain.sums) == set(OPTIONS.loss_weights)
    weights = OPTIONS.loss_weights
    expected = sum(weights[name] * value for name, value in brain.sums.items())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_without_tagger(make_brain: MakeBrain, clips: ClipFeatures) -> None:
    """Without a tagger its terms are left out."""
    clips = replace(clips, scores=torch.zeros(31, 2, 1, 0), class_names=[])
    brain = make_brain(clips, batches={"silent_prob": 0.0})
    assert set(brain.loss_terms(*step(brain, 4))) == {"contrastive", "alignment"}


def test_tagger_terms_are_of_clips_and_of_stretches(make_brain: MakeBrain) -> None:
    """Every stretch has its own scores; for a whole clip, silence is no content."""
    brain = make_brain(batches={"silent_prob": 0.3})
    sounds, embedded = step(brain, 8)
    loud = (~sounds.silent).nonzero()[:, 0].tolist()
    assert 0 < len(loud) < 8
    classes, scale = brain.prompts.classes[brain.template], torch.tensor(2.66).exp()
    whole, stretches = [], []
    for row in loud:
        scores = sounds.scores[row]
        content = clip_level(scores)
        content[CLASSES.index("Silence")] = 0
        whole.append(tagger_loss(classes @ embedded.pooled[row], content, scale))
        for similar, part in zip(embedded.stretches[row], scores, strict=True):
            stretches.append(tagger_loss(classes @ similar, part, scale))
    assert len(stretches) == 8 * len(loud)
    found = brain.loss_terms(sounds, embedded)
    expected = torch.stack(whole).mean()
    torch.testing.assert_close(found["tagger"], expected)
    torch.testing.assert_close(found["tagger_steps"], torch.stack(stretches).mean())


def test_stretches_are_in_time(make_brain: MakeBrain) -> None:
    """A sound in an eighth of a clip changes that stretch most, in their order."""
    brain = make_brain()
    brain.modules.eval()
    event = torch.zeros(8, 64, 251)
    for index in range(8):
        first, last = round(251 * index / 8) + 4, round(251 * (index + 1) / 8) - 4
        event[index, :, first:last] = 1
    with torch.no_grad():
        found = brain.embed(brain.modules, event).stretches
        nothing = brain.embed(brain.modules, torch.zeros(1, 64, 251)).stretches
    assert (found - nothing).norm(dim=-1).argmax(1).tolist() == list(range(8))


def test_unlabelled_clips_are_learnt_from_by_their_scores(
    make_brain: MakeBrain, clips: ClipFeatures
) -> None:
    """They take part in the tagger's terms and in no other."""
    brain = make_brain(without_label(clips, [1, 3]), batches=calm())
    found = step(brain, 6)
    assert found[0].present.sum(1).tolist() == [1, 0, 1, 0, 1, 1]
    whole = brain.loss_terms(*found)
    named = brain.loss_terms(*select(found, [0, 2, 4, 5]))
    others = brain.loss_terms(*select(found, [1, 3]))
    for name in ("contrastive", "alignment"):
        torch.testing.assert_close(whole[name], named[name])
        assert others[name] == 0
    for name in ("tagger", "tagger_steps"):
        torch.testing.assert_close(
            whole[name], (4 * named[name] + 2 * others[name]) / 6
        )
        assert others[name] > 0


@pytest.mark.parametrize(
    ("unlabelled", "silent_prob"), [(True, 0.0), (False, 1.0), (True, 1.0)]
)
def test_a_batch_without_a_labelled_sound(
    make_brain: MakeBrain, clips: ClipFeatures, unlabelled: bool, silent_prob: float
) -> None:
    """Without labels or without sound, loss and gradients are finite."""
    clips = without_label(clips, list(range(20))) if unlabelled else clips
    brain = make_brain(clips, batches={"silent_prob": silent_prob})
    loss = brain.compute_objectives(step(brain, 4), torch.arange(4), TRAIN)
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss.item() > 0
    gradients = [p.grad for p in brain.modules.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert brain.sums["contrastive"] == brain.sums["alignment"] == 0
    others = {"silence"} if silent_prob else {"tagger", "tagger_steps"}
    assert set(brain.sums) == {"contrastive", "alignment"} | others


def test_teacher_embedding_is_a_target_of_composites(
    make_brain: MakeBrain, composites: CompositeFeatures
) -> None:
    """One minus the cosine; composites, unlike clips, are not aligned with labels."""
    brain = make_brain(composites=composites, batches=calm())
    sounds, embedded = found = step(brain, 4)
    terms = brain.loss_terms(*found)
    cosines = (embedded.pooled[4:] * sounds.teacher_embedding[4:]).sum(1)
    torch.testing.assert_close(terms["teacher_embedding"], 1 - cosines.mean())
    clips = brain.loss_terms(*select(found, [0, 1, 2, 3]))
    torch.testing.assert_close(terms["alignment"], clips["alignment"])
    assert abs(terms["contrastive"] - clips["contrastive"]) > 1e-3
    assert "teacher_embedding" not in clips


def test_only_the_audio_tower_changes(make_brain: MakeBrain) -> None:
    """Steps change the audio tower, and nothing of the text tower."""
    brain = make_brain(batches={"silent_prob": 0.0})
    before = copy.deepcopy(brain.clap.state_dict())
    brain.init_optimizers()
    brain.modules.train()
    brain.fit_batch(torch.arange(4))
    after = brain.clap.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("audio_") for name in changed)


def test_augmentations_are_eased_in(make_brain: MakeBrain) -> None:
    """They are off in the first quarter of the epochs and full after three."""
    brain = make_brain(number_of_epochs=8, augment_strength=0.5)
    strengths = []
    for brain.epoch_counter.current in range(1, 9):
        strengths.append(brain.augment_strength())
    assert strengths == [0, 0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("warmup", [0, 1])
def test_learning_rate(make_brain: MakeBrain, warmup: int) -> None:
    """It rises over the warm-up, then falls to nothing as a cosine."""
    brain = make_brain(warmup_epochs=warmup, number_of_epochs=5)
    brain.init_optimizers()
    rates = []
    for epoch in range(1, 6):
        for step in range(1, 6):
            brain.epoch_counter.current, brain.step = epoch, step
            brain.on_fit_batch_start(None, True)
            rates += [group["lr"] for group in brain.optimizer.param_groups]
    peak = max(rates)
    assert peak == pytest.approx(0.001, rel=0.02)
    top = rates.index(peak)
    assert top <= 5 * warmup
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-8


def test_average_follows(make_brain: MakeBrain) -> None:
    """The moving average is a tenth of the new weights and the rest of the old."""
    brain = make_brain()
    name = "audio_projection.linear1.weight"
    weight = dict(brain.modules.named_parameters())[name]
    follower = dict(brain.average.module.named_parameters())[name]
    brain.on_fit_batch_end(None, None, torch.tensor(0.0), True)
    assert torch.equal(follower, weight)
    old = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    brain.on_fit_batch_end(None, None, torch.tensor(0.0), True)
    torch.testing.assert_close(follower, old + 0.1)


# --- metrics and saving -------------------------------------------------------------


def test_zero_shot_metrics() -> None:
    """Accuracy of ESC-10 clips among ten labels, of the others among all."""
    labels = torch.linalg.qr(torch.randn(16, 11)).Q.T
    siren, dog, rain = (LABELS.index(x) for x in ("siren", "dog", "rain"))
    answers = list(range(11))
    answers[rain] = dog
    audio = labels[answers]
    audio[dog] = labels[dog] + 1.01 * labels[siren]  # the siren is not in ESC-10
    similar = torch.nn.functional.normalize(audio, dim=-1) @ labels.T
    silence = -labels[:1] @ labels.T
    found = zero_shot_metrics(similar, torch.arange(11), silence, LABELS)
    assert found["accuracy_esc10"] == pytest.approx(0.9)
    assert found["accuracy_other"] == found["top5_other"] == 1
    assert found["silence"] == pytest.approx(float(silence.max()))
    assert found["true_pair"] == pytest.approx(float(similar.diagonal().mean()))
    names = [f"sound {i}" for i in range(11)]
    others = zero_shot_metrics(similar, torch.arange(11), silence, names)
    assert set(others) == {"accuracy_all", "top5_all", "true_pair", "silence"}
    few = zero_shot_metrics(similar[siren:][:1], torch.tensor([siren]), silence, LABELS)
    assert set(few) == {"accuracy_other", "top5_other", "true_pair", "silence"}
    nothing = zero_shot_metrics(similar[:0], torch.arange(0), silence, LABELS)
    assert nothing == {"silence": found["silence"]}


def test_metrics_of_a_split(make_brain: MakeBrain, clips: ClipFeatures) -> None:
    """They are those of its labelled clips, in the first template, and of silence."""
    brain = make_brain(without_label(clips, [28, 29, 30]))
    averaged = brain.average.module.eval()
    with torch.no_grad():
        audio = brain.embed(averaged, clips.mel[20:28, 0]).pooled
        nothing = brain.embed(averaged, torch.zeros(1, 64, 251)).pooled
    labels = brain.prompts.labels[0].T
    expected = zero_shot_metrics(
        audio @ labels, clips.target[20:28], nothing @ labels, LABELS
    )
    assert brain.measure("test") == pytest.approx(expected)
    assert set(brain.measure("valid")) == {"silence"}


def test_saved_checkpoint_is_the_average(
    make_brain: MakeBrain,
    parts: tuple[ClapModel, FrozenClap],
    clips: ClipFeatures,
    tmp_path: Path,
) -> None:
    """The folder loads as a CLAP whose embeddings are those of the averaged model."""
    brain = make_brain()
    brain.init_optimizers()
    brain.modules.train()
    for _ in range(3):
        brain.fit_batch(torch.arange(4))
    averaged = brain.average.module.eval()
    with torch.no_grad():
        expected = brain.embed(averaged, clips.mel[:3, 0]).pooled
        current = brain.embed(brain.modules.eval(), clips.mel[:3, 0]).pooled
    model, frozen = brain.averaged_model(), parts[1]
    scale = averaged["scales"]["contrastive"].exp().item()
    save_clap(tmp_path / "clap", model, frozen.feature_extractor, frozen.tokenizer)

    clap = FrozenClap.from_pretrained(tmp_path / "clap")
    embedding = clap.audio_embedding(log_mel(clips.mel[:3, 0]))
    torch.testing.assert_close(embedding, expected, atol=5e-3, rtol=0)
    assert (embedding - expected).norm() < 0.2 * (embedding - current).norm()
    text = clap.encode_text([TEMPLATES[0].format(label) for label in LABELS])
    torch.testing.assert_close(text, brain.prompts.labels[0], atol=5e-3, rtol=0)
    assert clap.logit_scale == pytest.approx(scale, rel=1e-3)


def test_checkpoints_come_every_few_epochs(make_brain: MakeBrain) -> None:
    """Every `valid_every` epochs, and at the end; only the newest is kept."""
    brain, kept = make_brain(), []
    for epoch in range(1, 6):
        brain.epoch_counter.current = epoch
        brain.on_stage_end(TRAIN, 0.1, epoch)
        found = brain.checkpointer.list_checkpoints()
        kept.append([one.meta["epoch"] for one in found])
    assert kept == [[], [2], [2], [4], [5]]


def test_saved_scale_is_fitted_on_validation_clips(
    make_brain: MakeBrain, prompts: PromptBank, clips: ClipFeatures
) -> None:
    """Among the labels that the split holds; unlabelled clips do not count."""
    splits = ["train"] * 20 + ["valid"] * 11
    clips = without_label(clips, [30])
    clips = replace(clips, table=clips.table.assign(split=splits))
    averaged = make_brain(clips).average.module.eval()
    with torch.no_grad():
        own = averaged["audio_model"](log_mel(clips.mel[20:30, 0])).pooler_output
        own = averaged["audio_projection"](own)
    own = torch.nn.functional.normalize(own, dim=-1)
    apart = own - own.mean(0)
    noise = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    names = torch.nn.functional.normalize(apart + apart.std() * noise, dim=-1)
    labels = prompts.labels.clone()
    labels[0] = torch.nn.functional.normalize(own.mean(0), dim=-1)
    labels[0, clips.target[20:30]] = names
    expected = fit_logit_scale(own @ names.T, torch.arange(10))
    assert 1 < expected < 100
    brain = make_brain(clips, prompts=replace(prompts, labels=labels))
    model = brain.averaged_model()
    learnt = averaged["scales"]["contrastive"].exp().item()
    assert expected != pytest.approx(learnt, rel=0.05)
    for scale in (model.logit_scale_a, model.logit_scale_t):
        assert scale.exp().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rows", [[], [20]])
def test_saved_scale_without_validation_clips(
    make_brain: MakeBrain, clips: ClipFeatures, rows: list[int]
) -> None:
    """With none, or with one label only, it is the one that was learnt."""
    split = clips.table.split.copy()
    split[rows] = "valid"
    brain = make_brain(replace(clips, table=clips.table.assign(split=split)))
    with torch.no_grad():
        brain.average.module["scales"]["contrastive"].fill_(3.0)
    model = brain.averaged_model()
    assert model.logit_scale_a.item() == model.logit_scale_t.item() == 3.0


def test_fewer_clips_than_a_batch(make_brain: MakeBrain) -> None:
    """Such a set would not be trained on at all: it is refused."""
    brain = make_brain(batch_size=21)
    with pytest.raises(InputError, match="batch_size is 21, .* 20 clips"):
        brain.train_loader()
