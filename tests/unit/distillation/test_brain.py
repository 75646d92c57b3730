"""Training of a small CLAP: what is drawn, one step, epochs, figures, saving."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor
from transformers import ClapFeatureExtractor, ClapModel

from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC10
from lmaczs.distillation.batches import STEPS, patch_centres
from lmaczs.distillation.brain import ClapBrain
from lmaczs.distillation.clip_cache import ClipBank
from lmaczs.distillation.composite_cache import CompositeBank, TeacherMap
from lmaczs.distillation.losses import clip_level, fit_logit_scale, tagger_loss
from lmaczs.distillation.model import build_clap, save_clap
from lmaczs.distillation.text_tower import load_text_tower
from lmaczs.distillation.yamnet import log_mel_patches
from lmaczs.metrics.classification import hit_rates

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

MakeBrain = Callable[..., ClapBrain]


@pytest.fixture(scope="module")
def extractor() -> ClapFeatureExtractor:
    """Front end of the embedded default."""
    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=32000,
        hop_length=640,
        fft_window_size=2048,
        max_length_s=5,
        frequency_min=50,
        truncation="rand_trunc",
    )


@pytest.fixture(scope="module")
def clips() -> ClipBank:
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
    return ClipBank(table, mel, target, LABELS, captions, scores, CLASSES)


def without_label(clips: ClipBank, rows: list[int]) -> ClipBank:
    """The clips, some of them unlabelled."""
    target = clips.target.clone()
    target[rows] = -1
    return replace(clips, target=target)


@pytest.fixture
def make_brain(
    tiny_text_tower_folder: Path,
    extractor: ClapFeatureExtractor,
    clips: ClipBank,
    tmp_path: Path,
) -> MakeBrain:
    """Function that makes a ClapBrain; it takes hparams and other clips."""

    def make(bank: ClipBank = clips, folder: str = "save", **changes: Any) -> ClapBrain:
        torch.manual_seed(0)
        model, tokenizer = build_clap(AUDIO, extractor, str(tiny_text_tower_folder))
        hparams = {
            "seed": 1,
            "save_folder": str(tmp_path / folder),
            "feature_extractor": extractor,
            "templates": TEMPLATES,
            "peak_lr": 0.001,
            "weight_decay": 0.05,
            "average_decay": 0.9,
            "class_balance": 0.5,
            "mixture_share": 0.5,
            "filter_db": 8.0,
            "hardest": 1.0,
            "composites_in_batch": 3,
            "silent_share": 0.2,
            "scale_limit": 50,
            "weights": {
                "contrastive": 1.0,
                "tagger": 2.0,
                "tagger_steps": 1.5,
                "silence": 3.0,
                "pull": 0.5,
                "goal": 7.0,
            },
            "valid_every": 2,
            "number_of_epochs": 5,
            "warmup_epochs": 1,
            "batch_size": 4,
            "epoch_counter": EpochCounter(changes.get("number_of_epochs", 5)),
            "train_logger": FileTrainLogger(str(tmp_path / "train_log.txt")),
            **changes,
        }
        run_opts = {"device": "cpu", "noprogressbar": True}
        brain = ClapBrain(model, tokenizer, bank, hparams, run_opts)
        brain.hparams.epoch_counter.current = 3
        brain.step = 1
        brain.on_stage_start(TRAIN, 3)
        return brain

    return make


@pytest.fixture
def composites() -> tuple[CompositeBank, Tensor]:
    """Six composites as a tagger hears them, and what it hears in the clips."""
    rng = torch.Generator().manual_seed(5)
    present = torch.zeros(6, len(LABELS), dtype=torch.bool)
    present[torch.arange(4), torch.arange(4)] = True  # two tell nothing
    present[0, 5] = True
    bank = CompositeBank(
        (-40 * torch.rand(6, 64, 251, generator=rng)).half(),
        torch.rand(6, PATCHES, len(CLASSES), generator=rng).half(),
        torch.rand(6, 8, generator=rng).half(),
        present,
    )
    return bank, torch.rand(20, 8, generator=rng)


# --- prompts ------------------------------------------------------------------------


def encoder(brain: ClapBrain, folder: Path) -> Callable[[list[str]], Tensor]:
    """Function that embeds texts by the text tower of a folder."""
    *_, tokenizer = load_text_tower(folder)
    return FrozenClap(
        brain.clap, brain.hparams.feature_extractor, tokenizer
    ).encode_text


def test_labels_are_put_into_every_template(
    make_brain: MakeBrain, tiny_text_tower_folder: Path
) -> None:
    """Labels, the tagger's classes and silence, in lower case, in each template."""
    brain = make_brain()
    encode = encoder(brain, tiny_text_tower_folder)
    banks = (brain.label_bank, LABELS), (brain.class_bank, CLASSES)
    for bank, names in (*banks, (brain.silence, ["silence"])):
        assert len(bank) == len(TEMPLATES)
        for template, row in zip(TEMPLATES, bank, strict=True):
            texts = [template.format(name.lower()) for name in names]
            torch.testing.assert_close(row, encode(texts))


def test_captions_are_not_put_into_templates(
    make_brain: MakeBrain, clips: ClipBank, tiny_text_tower_folder: Path
) -> None:
    """A caption is taken as it is, capitals and braces too; labels beside it not."""
    texts = ["A {dog} barks.", "Rain", *LABELS[2:]]
    captions = [True, False] + [False] * 9
    brain = make_brain(replace(clips, labels=texts, captions=captions))
    encode = encoder(brain, tiny_text_tower_folder)
    for template, row in zip(TEMPLATES, brain.label_bank, strict=True):
        expected = encode([texts[0], template.format("rain")])
        torch.testing.assert_close(row[:2], expected)


# --- what is drawn ------------------------------------------------------------------


def test_each_epoch_draws_other_clips(make_brain: MakeBrain) -> None:
    """Fitting shows other batches in each epoch, the same ones in another run."""

    def seen(folder: str) -> list[list[int]]:
        brain = make_brain(folder=folder, number_of_epochs=3)
        brain.hparams.epoch_counter.current = 0
        brain.step = 0
        batches: list[list[int]] = []
        forward = brain.compute_forward

        def spy(batch: Tensor, stage: sb.Stage) -> dict[str, Tensor]:
            batches.append(batch.tolist())
            return forward(batch, stage)

        brain.compute_forward = spy  # type: ignore[method-assign]
        brain.hparams.valid_every = 100
        brain.figures = lambda split: {}  # type: ignore[method-assign]
        brain.fit(brain.hparams.epoch_counter, brain.train_loader())
        return batches

    batches = seen("one")
    epochs = [sum(batches[i : i + 5], []) for i in (0, 5, 10)]
    assert len(batches) == 15
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert {row for epoch in epochs for row in epoch} <= set(range(20))
    assert seen("two") == batches


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.5), (1.0, 1 / 11)])
def test_rare_labels_are_drawn_more_often(
    make_brain: MakeBrain, clips: ClipBank, balance: float, share: float
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
        brain.hparams.epoch_counter.current = changes.pop("epoch", 3)
        brain.step = changes.pop("step", 1)
        torch.manual_seed(len(changes))
        with torch.no_grad():
            return brain.compute_forward(torch.arange(4), TRAIN)["embedding"]

    first = embed()
    assert torch.equal(embed(), first)
    for changes in ({"seed": 2}, {"epoch": 4}, {"step": 2}):
        assert not torch.allclose(embed(**changes), first)


def test_validation_is_not_augmented(make_brain: MakeBrain, clips: ClipBank) -> None:
    """Outside training clips are embedded as they are, at their own speed."""
    brain = make_brain(silent_share=1.0)
    brain.modules.eval()
    with torch.no_grad():
        out = brain.compute_forward(torch.arange(3), VALID)
        log_mel = 10 * clips.mel[:3, 0].log10().transpose(1, 2)[:, None]
        expected = brain.clap.get_audio_features(log_mel).pooler_output
    torch.testing.assert_close(out["embedding"], expected, atol=1e-5, rtol=0)
    assert not out["silent"].any()
    assert torch.equal(out["present"].argmax(1), clips.target[:3])
    assert out["present"].sum() == 3
    time, centres = (np.arange(STEPS) + 0.5) / STEPS, patch_centres(PATCHES, 5.0)
    for own, row in zip(clips.scores[:3, 0], out["scores"], strict=True):
        for k in range(len(CLASSES)):
            heard = torch.tensor(np.interp(time, centres, own[:, k])).float()
            torch.testing.assert_close(row[:, k], heard, atol=1e-5, rtol=0)


def test_speeds_are_drawn_in_training_only(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """Sound and scores of one speed, clip by clip; its own speed in validation."""
    mel = clips.mel.clone()
    mel[:, 1] = 0
    scores = torch.tensor([0.25, 0.75])[:, None, None].expand_as(clips.scores)
    brain = make_brain(
        replace(clips, mel=mel, scores=scores), silent_share=0.0, mixture_share=0.0
    )
    brain.modules.eval()
    with torch.no_grad():
        out = brain.compute_forward(torch.arange(20), TRAIN)
        floor = torch.full((1, 1, 251, 64), -100.0)
        silence = brain.clap.get_audio_features(floor).pooler_output
        validated = brain.compute_forward(torch.arange(20), VALID)
    second = out["scores"][:, 0, 0] > 0.5
    assert 4 < second.sum() < 16
    assert torch.equal((out["embedding"] @ silence[0]) > 1 - 1e-5, second)
    assert (validated["scores"] == 0.25).all()


def test_clips_begin_anywhere_in_training(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """An event moves, and its scores move with it."""
    patch = 4  # its middle is at 0.48 of the clip
    mel, scores = torch.zeros_like(clips.mel), torch.zeros_like(clips.scores)
    mel[..., 113:129] = 1
    scores[:, :, patch] = 1
    brain = make_brain(
        replace(clips, mel=mel, scores=scores),
        silent_share=0.0,
        mixture_share=0.0,
        hardest=0.0,
    )
    seen = []
    encode = brain._encode

    def spy(modules: Any, mel: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(mel)
        return encode(modules, mel)

    brain._encode = spy  # type: ignore[method-assign]
    heard = brain.compute_forward(torch.arange(20), TRAIN)["scores"][..., 0].argmax(1)
    turn = torch.exp(2j * torch.pi * torch.arange(251) / 251)
    sound = (seen[0].mean(1) * turn).sum(1)
    apart = sound * torch.exp(-2j * torch.pi * (heard + 0.5) / STEPS)
    assert len(set(heard.tolist())) == STEPS
    assert (apart.angle().abs() / (2 * torch.pi) < 0.5 / STEPS + 0.01).all()


def test_silent_clips_hold_nothing(make_brain: MakeBrain) -> None:
    """A clip that is made silent has no label, no scores and sounds like the others."""
    brain = make_brain(silent_share=1.0)
    brain.modules.eval()
    with torch.no_grad():
        out = brain.compute_forward(torch.arange(4), TRAIN)
        floor = torch.full((1, 1, 251, 64), -100.0)
        silence = brain.clap.get_audio_features(floor).pooler_output
    assert out["silent"].all()
    assert out["present"].abs().sum() == out["scores"].abs().sum() == 0
    torch.testing.assert_close(out["embedding"], silence.expand(4, -1))


def test_mixtures_hold_both_labels(make_brain: MakeBrain, clips: ClipBank) -> None:
    """A mixture has the labels of both clips, and scores that no part exceeds."""
    brain = make_brain(silent_share=0.0, mixture_share=4.0)  # more than any share
    batch = torch.arange(4)
    present = brain.compute_forward(batch, TRAIN)["present"]
    assert torch.equal(present.sum(1), torch.full((4,), 2.0))
    own = present.gather(1, clips.target[batch, None])
    assert (own >= 1).all()
    alone = make_brain(silent_share=0.0, mixture_share=0.0)
    assert (alone.compute_forward(batch, TRAIN)["present"].sum(1) == 1).all()


# --- one step -----------------------------------------------------------------------


def test_loss_is_the_weighted_sum_of_its_terms(
    make_brain: MakeBrain, composites: tuple[CompositeBank, Tensor]
) -> None:
    """Every term is noted under its name; the weights are the YAML's."""
    brain = make_brain(silent_share=0.3)
    brain.hear_composites(*composites)
    batch = torch.arange(8)
    out = brain.compute_forward(batch, TRAIN)
    assert 0 < out["silent"].sum() < 11
    loss = brain.compute_objectives(out, batch, TRAIN)
    weights = brain.hparams.weights
    assert set(brain.sums) == set(weights)
    expected = sum(weights[name] * value for name, value in brain.sums.items())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_without_tagger(make_brain: MakeBrain, clips: ClipBank) -> None:
    """Without a tagger its terms are left out."""
    bank = replace(clips, scores=torch.zeros(31, 2, 1, 0), class_names=[])
    brain = make_brain(bank, silent_share=0.0)
    out = brain.compute_forward(torch.arange(4), TRAIN)
    brain.compute_objectives(out, torch.arange(4), TRAIN)
    assert set(brain.sums) == {"contrastive", "pull"}


def terms(brain: ClapBrain, out: dict[str, Tensor]) -> dict[str, float]:
    """Terms of the loss of one batch."""
    brain.sums = {}
    brain.compute_objectives(out, torch.arange(len(out["silent"])), TRAIN)
    return brain.sums


def test_tagger_terms_are_of_clips_and_of_stretches(make_brain: MakeBrain) -> None:
    """Every stretch has its own scores; of a whole clip, silence is no content."""
    brain = make_brain(silent_share=0.3)
    out = brain.compute_forward(torch.arange(8), TRAIN)
    loud = (~out["silent"]).nonzero()[:, 0].tolist()
    assert 0 < len(loud) < 8
    classes, scale = brain.class_bank[brain.template][0], torch.tensor(2.66).exp()
    whole, steps = [], []
    for row in loud:
        scores = out["scores"][row]
        content = clip_level(scores)
        content[CLASSES.index("Silence")] = 0
        whole.append(tagger_loss(classes @ out["embedding"][row], content, scale))
        for step in range(STEPS):
            similar = classes @ out["steps"][row, step]
            steps.append(tagger_loss(similar, scores[step], scale))
    assert len(steps) == STEPS * len(loud)
    found = terms(brain, out)
    assert found["tagger"] == pytest.approx(sum(whole).item() / len(whole), rel=1e-5)
    expected = sum(steps).item() / len(steps)
    assert found["tagger_steps"] == pytest.approx(expected, rel=1e-5)


def test_steps_are_stretches_of_time(make_brain: MakeBrain, clips: ClipBank) -> None:
    """A sound in an eighth of a clip changes that step most, in their order."""
    brain = make_brain()
    brain.modules.eval()
    event = torch.zeros(STEPS, 64, 251)
    for step in range(STEPS):
        event[
            step, :, round(251 * step / STEPS) + 4 : round(251 * (step + 1) / 8) - 4
        ] = 1
    with torch.no_grad():
        _, steps = brain._encode(brain.modules, event)
        _, nothing = brain._encode(brain.modules, torch.zeros(1, 64, 251))
    change = (steps - nothing).norm(dim=-1)
    assert change.argmax(1).tolist() == list(range(STEPS))


def test_unlabelled_clips_are_learnt_from_by_their_scores(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """They take part in the tagger's terms and in no other."""
    brain = make_brain(
        without_label(clips, [1, 3]), silent_share=0.0, mixture_share=0.0
    )
    out = brain.compute_forward(torch.arange(6), TRAIN)
    assert out["present"].sum(1).tolist() == [1, 0, 1, 0, 1, 1]
    named, others = [0, 2, 4, 5], [1, 3]
    whole = terms(brain, out)
    of_named = terms(brain, {name: value[named] for name, value in out.items()})
    of_others = terms(brain, {name: value[others] for name, value in out.items()})
    for name in ("contrastive", "pull"):
        assert whole[name] == pytest.approx(of_named[name], rel=1e-5)
        assert of_others[name] == 0
    for name in ("tagger", "tagger_steps"):
        expected = (4 * of_named[name] + 2 * of_others[name]) / 6
        assert whole[name] == pytest.approx(expected, rel=1e-5)
        assert of_others[name] > 0


def test_an_unlabelled_clip_in_a_mixture(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """It adds no label to its partner's."""
    bank = without_label(clips, [0, 1])
    brain = make_brain(bank, silent_share=0.0, mixture_share=4.0)
    present = brain.compute_forward(torch.arange(4), TRAIN)["present"]
    assert present.shape == (4, len(LABELS))
    assert present.sum() == 4  # each of two labels, alone and as a partner
    assert set(present.nonzero()[:, 1].tolist()) == set(clips.target[2:4].tolist())


@pytest.mark.parametrize(
    ("unlabelled", "silent_share"), [(True, 0.0), (False, 1.0), (True, 1.0)]
)
def test_a_batch_without_a_named_clip(
    make_brain: MakeBrain, clips: ClipBank, unlabelled: bool, silent_share: float
) -> None:
    """Nothing to name, or nothing to hear: loss and gradients are finite."""
    bank = without_label(clips, list(range(20))) if unlabelled else clips
    brain = make_brain(bank, silent_share=silent_share)
    out = brain.compute_forward(torch.arange(4), TRAIN)
    loss = brain.compute_objectives(out, torch.arange(4), TRAIN)
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss.item() > 0
    gradients = [p.grad for p in brain.modules.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert brain.sums["contrastive"] == brain.sums["pull"] == 0
    heard = {"silence"} if silent_share else {"tagger", "tagger_steps"}
    assert set(brain.sums) == {"contrastive", "pull"} | heard


# --- composites ---------------------------------------------------------------------


def test_composites_come_after_the_clips(
    make_brain: MakeBrain, composites: tuple[CompositeBank, Tensor]
) -> None:
    """As many as are asked for, from anywhere, with their own labels and goals."""
    bank, heard = composites
    brain = make_brain(silent_share=0.0, mixture_share=0.0, hardest=0.0)
    batch = torch.arange(4)
    alone = brain.compute_forward(batch, TRAIN)
    assert not alone["goal"].any()
    brain.hear_composites(bank, heard)
    out = brain.compute_forward(batch, TRAIN)
    assert len(out["embedding"]) == 4 + 3
    assert torch.equal(out["present"][:4], alone["present"])
    assert not out["goal"][:4].any()
    target = brain.clips.target[:20]
    goals = TeacherMap(heard, brain.label_bank[0][target])(bank.heard)
    for goal, present in zip(out["goal"][4:], out["present"][4:], strict=True):
        (row,) = (goals - goal).abs().sum(1).lt(1e-5).nonzero()[:, 0].tolist()
        assert torch.equal(present, bank.present[row].float())
    validated = brain.compute_forward(batch, VALID)
    assert len(validated["embedding"]) == 4


def test_a_composite_is_turned_with_its_scores(
    make_brain: MakeBrain, composites: tuple[CompositeBank, Tensor]
) -> None:
    """An event and the score that it has come at the same time."""
    bank, heard = composites
    decibels = torch.full((6, 64, 251), -100.0)
    decibels[..., 113:129] = 0
    scores = torch.zeros(6, PATCHES, len(CLASSES))
    scores[:, 4] = 1
    bank = replace(bank, decibels=decibels.half(), scores=scores.half())
    brain = make_brain(silent_share=0.0, hardest=0.0, composites_in_batch=20)
    brain.hear_composites(bank, heard)
    sounds, _ = brain.drawer.for_training(torch.arange(4), brain._rng(), 0.0)
    turn = torch.exp(2j * torch.pi * torch.arange(251) / 251)
    sound = (sounds.mel[4:].mean(1) * turn).sum(1)
    stretch = sounds.scores[4:, :, 0].argmax(1)
    apart = sound * torch.exp(-2j * torch.pi * (stretch + 0.5) / STEPS)
    assert len(set(stretch.tolist())) > STEPS // 2
    assert (apart.angle().abs() / (2 * torch.pi) < 0.5 / STEPS + 0.01).all()


def test_goal_is_where_the_tagger_hears_a_composite(
    make_brain: MakeBrain, composites: tuple[CompositeBank, Tensor]
) -> None:
    """One minus the cosine; composites are not pulled to single labels as clips are."""
    brain = make_brain(silent_share=0.0, mixture_share=0.0)
    brain.hear_composites(*composites)
    out = brain.compute_forward(torch.arange(4), TRAIN)
    found = terms(brain, out)
    cosines = (out["embedding"][4:] * out["goal"][4:]).sum(1).detach()
    assert found["goal"] == pytest.approx(float(1 - cosines.mean()), abs=1e-5)
    clips = terms(brain, {name: value[:4] for name, value in out.items()})
    assert found["pull"] == pytest.approx(clips["pull"], abs=1e-5)
    assert found["contrastive"] != pytest.approx(clips["contrastive"], abs=1e-3)
    assert "goal" not in clips


def test_a_silent_composite_has_no_goal(
    make_brain: MakeBrain, composites: tuple[CompositeBank, Tensor]
) -> None:
    """It is as silent as any other sound."""
    brain = make_brain(silent_share=1.0)
    brain.hear_composites(*composites)
    out = brain.compute_forward(torch.arange(4), TRAIN)
    assert out["silent"].all()
    assert not out["goal"].any()
    assert not out["present"].any()
    assert "goal" not in terms(brain, out)


def test_text_tower_does_not_change(make_brain: MakeBrain) -> None:
    """Steps change the audio tower, and nothing of the text tower."""
    brain = make_brain(silent_share=0.0)
    before = copy.deepcopy(brain.clap.state_dict())
    brain.init_optimizers()
    brain.modules.train()
    for _ in range(2):
        brain.fit_batch(torch.arange(4))
    after = brain.clap.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("audio_") for name in changed)


def test_augmentations_are_eased_in(make_brain: MakeBrain) -> None:
    """They are off in the first quarter of the epochs and full after three."""
    brain = make_brain(number_of_epochs=8)
    hardness = []
    for brain.hparams.epoch_counter.current in range(1, 9):
        hardness.append(brain.hardness())
    assert hardness == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    brain.hparams.hardest = 0.5
    assert brain.hardness() == 0.5


@pytest.mark.parametrize("warmup", [0, 1])
def test_learning_rate(make_brain: MakeBrain, warmup: int) -> None:
    """It rises over the warm-up, then falls to nothing as a cosine."""
    brain = make_brain(warmup_epochs=warmup, number_of_epochs=5)
    brain.init_optimizers()
    rates = []
    for epoch in range(1, 6):
        for step in range(1, 6):
            brain.hparams.epoch_counter.current, brain.step = epoch, step
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
    brain = make_brain(average_decay=0.9)
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


# --- figures and saving -------------------------------------------------------------


def test_figures(make_brain: MakeBrain, clips: ClipBank) -> None:
    """Accuracy of ESC-10 clips among ten, of the others among all labels."""
    brain = make_brain()
    labels = torch.linalg.qr(torch.randn(16, 11)).Q.T
    brain.label_bank = labels[None]
    siren, dog, rain = (LABELS.index(x) for x in ("siren", "dog", "rain"))
    answers = list(range(11))
    answers[rain] = dog

    right = labels[answers]
    right[dog] = labels[dog] + 1.01 * labels[siren]  # the siren is not in ESC-10
    right = torch.nn.functional.normalize(right, dim=-1)

    def encode(modules: Any, mel: Tensor) -> tuple[Tensor, Tensor]:
        if len(mel) == 1:
            assert not mel.any()
            return -labels[:1], -labels[:1, None]
        assert torch.equal(mel, clips.mel[20:, 0])
        return right, right[:, None]

    brain._encode = encode  # type: ignore[method-assign]
    figures = brain.figures("test")
    assert figures["accuracy_esc10"] == pytest.approx(0.9)
    assert figures["accuracy_other"] == figures["top5_other"] == 1
    assert figures["silence"] == pytest.approx(float((-labels @ labels[0]).max()))
    expected = (right * labels).sum(1).mean()
    assert figures["true_pair"] == pytest.approx(float(expected))


def test_figures_of_other_labels(make_brain: MakeBrain, clips: ClipBank) -> None:
    """Where the labels are not ESC-50's, all clips are asked among all of them."""
    names = [f"sound {i}" for i in range(11)]
    brain = make_brain(replace(clips, labels=names))
    figures = brain.figures("test")
    assert set(figures) == {"accuracy_all", "top5_all", "true_pair", "silence"}


def test_figures_leave_unlabelled_clips_out(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """Figures are those of the clips whose label is known."""
    table = clips.table.assign(split=["train"] * 20 + ["test"] * 8 + ["train"] * 3)
    bank = without_label(clips, [28, 29, 30])
    fewer = make_brain(replace(clips, table=table)).figures("test")
    assert make_brain(bank, folder="two").figures("test") == pytest.approx(fewer)


def test_figures_without_clips(make_brain: MakeBrain) -> None:
    """Of a split that has no clip only what silence is like can be said."""
    figures = make_brain().figures("valid")
    assert set(figures) == {"silence"}
    assert math.isfinite(figures["silence"])


def test_figures_without_clips_of_esc10(make_brain: MakeBrain, clips: ClipBank) -> None:
    """A split of other labels has no accuracy among the ten."""
    table = clips.table.assign(split=(clips.table.label == "siren").map(str))
    brain = make_brain(replace(clips, table=table))
    figures = brain.figures("True")
    assert set(figures) == {"accuracy_other", "top5_other", "true_pair", "silence"}


def test_hit_rates_are_a_loop() -> None:
    """How often the right label is the best, and among the best five."""
    similar = torch.randn(40, 9, generator=torch.Generator().manual_seed(0))
    target = torch.arange(40) % 9
    first = fifth = 0
    for row, right in zip(similar.tolist(), target.tolist(), strict=True):
        better = sum(value > row[right] for value in row)
        first, fifth = first + (better < 1), fifth + (better < 5)
    expected = {"accuracy_x": first / 40, "top5_x": fifth / 40}
    assert hit_rates(similar, target, "x") == pytest.approx(expected)
    assert hit_rates(similar[:, :3], target % 3, "x")["top5_x"] == 1
    assert hit_rates(similar[:0], target[:0], "x") == {}


def test_patch_centres_are_where_the_tagger_hears() -> None:
    """A click in the middle of a patch is in that patch's middle frames."""
    for patch, centre in enumerate(patch_centres(PATCHES, 5.0).tolist()):
        wav = torch.zeros(80_000)
        if centre < 1:
            wav[round(centre * 80_000)] = 1
            patches = log_mel_patches(wav)
            assert len(patches) == PATCHES
            middle = patches[patch].mean(1).topk(2).indices
            assert set(middle.tolist()) <= {46, 47, 48, 49}


def test_saved_checkpoint_is_the_average(
    make_brain: MakeBrain,
    clips: ClipBank,
    extractor: ClapFeatureExtractor,
    tiny_text_tower_folder: Path,
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
        expected = brain._encode(averaged, clips.mel[:3, 0])[0]
        current = brain._encode(brain.modules.eval(), clips.mel[:3, 0])[0]
    *_, tokenizer = load_text_tower(tiny_text_tower_folder)
    model = brain.averaged_model()
    assert isinstance(model, ClapModel)
    save_clap(tmp_path / "new" / "clap", model, extractor, tokenizer)

    clap = FrozenClap.from_pretrained(tmp_path / "new" / "clap")
    log_mel = 10 * clips.mel[:3, 0].log10().transpose(1, 2)[:, None]
    embedding = clap.audio_embedding(log_mel)
    torch.testing.assert_close(embedding, expected, atol=5e-3, rtol=0)
    assert (embedding - expected).norm() < 0.2 * (embedding - current).norm()
    prompts = [TEMPLATES[0].format(label) for label in LABELS]
    text = clap.encode_text(prompts)
    torch.testing.assert_close(text, brain.label_bank[0], atol=5e-3, rtol=0)
    scale = averaged["scales"]["contrastive"].exp().item()
    assert clap.logit_scale == pytest.approx(scale, rel=1e-3)
    assert math.isclose(clap.front_end.sample_rate, 32000)
    size = (tmp_path / "new" / "clap" / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(p.numel() for p in model.parameters())


def test_checkpoints_come_every_few_epochs(make_brain: MakeBrain) -> None:
    """Every `valid_every` epochs, and at the end; only the newest is kept."""
    brain = make_brain(valid_every=2, number_of_epochs=5)
    brain.figures = lambda split: {"accuracy": 0.5}  # type: ignore[method-assign]
    kept = []
    for epoch in range(1, 6):
        brain.hparams.epoch_counter.current = epoch
        brain.on_stage_end(TRAIN, 0.1, epoch)
        found = brain.checkpointer.list_checkpoints()
        kept.append([one.meta["epoch"] for one in found])
    assert kept == [[], [2], [2], [4], [5]]


def test_saved_scale_is_fitted_on_validation_clips(
    make_brain: MakeBrain, clips: ClipBank
) -> None:
    """Among the labels that the split holds; unlabelled clips say nothing."""
    splits = ["train"] * 20 + ["valid"] * 11
    bank = without_label(clips, [30])
    bank = replace(bank, table=clips.table.assign(split=splits))
    brain = make_brain(bank)
    averaged = brain.average.module.eval()
    with torch.no_grad():
        log_mel = 10 * clips.mel[20:30, 0].log10().transpose(1, 2)[:, None]
        own = averaged["audio_model"](log_mel).pooler_output
        own = averaged["audio_projection"](own)
    own = torch.nn.functional.normalize(own, dim=-1)
    apart = own - own.mean(0)
    noise = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    names = torch.nn.functional.normalize(apart + apart.std() * noise, dim=-1)
    asked = clips.target[20:30]
    brain.label_bank[0] = torch.nn.functional.normalize(own.mean(0), dim=-1)
    brain.label_bank[0, asked] = names
    expected = fit_logit_scale(own @ names.T, torch.arange(10))
    assert 1 < expected < 100
    model = brain.averaged_model()
    learnt = averaged["scales"]["contrastive"].exp().item()
    assert expected != pytest.approx(learnt, rel=0.05)
    for scale in (model.logit_scale_a, model.logit_scale_t):
        assert scale.exp().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rows", [[], [20]])
def test_saved_scale_without_validation_clips(
    make_brain: MakeBrain, clips: ClipBank, rows: list[int]
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
    with pytest.raises(ValueError, match="batch_size is 21, .* 20 clips"):
        brain.train_loader()
