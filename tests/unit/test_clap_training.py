"""Training of a small CLAP: set up, one step, epochs, saving."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor
from transformers import ClapFeatureExtractor, ClapModel

from lmaczs.clap import FrozenClap
from lmaczs.clap_training import (
    ClapBrain,
    ClipBank,
    build_clap,
    clip_mel,
    save_clap,
    tagger_scores,
)
from lmaczs.datasets import ESC10
from lmaczs.frontend import FrontEnd
from lmaczs.text_tower import load_text_tower

LABELS = sorted([*ESC10, "siren"])
CLASSES = ["Animal", "Rain", "Vehicle"]
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
    """Random mel power: 20 clips to train on, more of one label, and 11 to test."""
    labels = [*LABELS, *["dog"] * 9, *LABELS]
    splits = ["train"] * 20 + ["test"] * 11
    rng = torch.Generator().manual_seed(0)
    mel = 10 ** (3 * torch.rand(31, 64, 251, generator=rng) - 3)
    scores = torch.rand(31, len(CLASSES), generator=rng) ** 2
    table = pd.DataFrame({"id": range(31), "label": labels, "split": splits})
    target = torch.tensor([LABELS.index(label) for label in labels])
    return ClipBank(table, mel, target, LABELS, scores, CLASSES)


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
            "silent_share": 0.2,
            "weights": {"contrastive": 1.0, "tagger": 2.0, "silence": 3.0, "pull": 0.5},
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


# --- set up -------------------------------------------------------------------------


def test_build_clap(
    tiny_text_tower_folder: Path, extractor: ClapFeatureExtractor
) -> None:
    """The text tower is the one in the folder, the audio tower as configured."""
    model, tokenizer = build_clap(AUDIO, extractor, str(tiny_text_tower_folder))
    *_, state, _ = load_text_tower(tiny_text_tower_folder)
    built = model.state_dict()
    assert len(state) > 10
    assert all(torch.equal(built[name], value) for name, value in state.items())
    assert model.config.audio_config.depths == [1, 1, 1]
    assert model.config.projection_dim == 32
    assert tokenizer("dog").input_ids[0] == 0


def test_front_end_that_does_not_fit(
    tiny_text_tower_folder: Path, extractor: ClapFeatureExtractor
) -> None:
    """Extractor and audio tower must speak of the same mel bands."""
    with pytest.raises(ValueError, match="has 64 mel bands, audio_config 32"):
        audio = {**AUDIO, "num_mel_bins": 32}
        build_clap(audio, extractor, str(tiny_text_tower_folder))


def test_folder_without_text_tower(
    extractor: ClapFeatureExtractor, tmp_path: Path
) -> None:
    """A folder that holds no text tower is named."""
    with pytest.raises(ValueError, match=f"{tmp_path} is no text tower"):
        build_clap(AUDIO, extractor, str(tmp_path))


def test_rows_of_a_split(clips: ClipBank) -> None:
    """Rows are those of the table, in its order."""
    assert clips.rows("train").tolist() == list(range(20))
    assert clips.rows("test").tolist() == list(range(20, 31))
    assert clips.rows("valid").tolist() == []


def test_clip_mel(extractor: ClapFeatureExtractor, tmp_path: Path) -> None:
    """Mel power of a file, in dB, is what the extractor of the checkpoint gives."""
    wav = 0.1 * torch.randn(50000, generator=torch.Generator().manual_seed(0))
    soundfile.write(tmp_path / "a.wav", wav.numpy(), 32000, subtype="FLOAT")
    front_end = FrontEnd(extractor)
    mel = clip_mel(front_end, str(tmp_path / "a.wav"))
    features = extractor(wav.numpy(), sampling_rate=32000, return_tensors="pt")
    expected = features.input_features[0, 0].T
    decibels = 10 * mel.clamp_min(1e-10).log10()
    torch.testing.assert_close(decibels, expected, atol=1e-3, rtol=0)


def test_without_a_tagger() -> None:
    """Without a tagger there are no scores and no class names."""
    scores, names = tagger_scores({"tagger_model": None}, ["a", "b"])
    assert scores.shape == (2, 0)
    assert names == []


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
    """Outside training clips are embedded as they are."""
    brain = make_brain(silent_share=1.0)
    brain.modules.eval()
    with torch.no_grad():
        out = brain.compute_forward(torch.arange(3), VALID)
        log_mel = 10 * clips.mel[:3].log10().transpose(1, 2)[:, None]
        expected = brain.clap.get_audio_features(log_mel).pooler_output
    torch.testing.assert_close(out["embedding"], expected, atol=1e-5, rtol=0)
    assert not out["silent"].any()
    assert torch.equal(out["present"].argmax(1), clips.target[:3])
    assert out["present"].sum() == 3
    assert torch.equal(out["scores"], clips.scores[:3])


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


def test_loss_is_the_weighted_sum_of_its_terms(make_brain: MakeBrain) -> None:
    """Every term is noted under its name; the weights are the YAML's."""
    brain = make_brain(silent_share=0.3)
    batch = torch.arange(8)
    out = brain.compute_forward(batch, TRAIN)
    assert 0 < out["silent"].sum() < 8
    loss = brain.compute_objectives(out, batch, TRAIN)
    weights = brain.hparams.weights
    assert set(brain.sums) == set(weights)
    expected = sum(weights[name] * value for name, value in brain.sums.items())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_without_tagger(make_brain: MakeBrain, clips: ClipBank) -> None:
    """Without a tagger its term is left out."""
    bank = ClipBank(
        clips.table, clips.mel, clips.target, LABELS, torch.zeros(31, 0), []
    )
    brain = make_brain(bank, silent_share=0.0)
    out = brain.compute_forward(torch.arange(4), TRAIN)
    brain.compute_objectives(out, torch.arange(4), TRAIN)
    assert set(brain.sums) == {"contrastive", "pull"}


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

    def embed(modules: Any, mel: Tensor) -> Tensor:
        if len(mel) == 1:
            return -labels[:1]
        right = labels[answers]
        right[dog] = labels[dog] + 1.01 * labels[siren]  # the siren is not in ESC-10
        return torch.nn.functional.normalize(right, dim=-1)

    brain._embed = embed  # type: ignore[method-assign]
    figures = brain.figures("test")
    assert figures["accuracy_esc10"] == pytest.approx(0.9)
    assert figures["accuracy_other"] == figures["top5_other"] == 1
    assert figures["silence"] == pytest.approx(float((-labels @ labels[0]).max()))
    expected = (embed(None, clips.mel[20:]) * labels).sum(1).mean()
    assert figures["true_pair"] == pytest.approx(float(expected))


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
        expected = brain._embed(averaged, clips.mel[:3])
        current = brain._embed(brain.modules.eval(), clips.mel[:3])
    *_, tokenizer = load_text_tower(tiny_text_tower_folder)
    model = brain.averaged_model()
    assert isinstance(model, ClapModel)
    save_clap(tmp_path / "new" / "clap", model, extractor, tokenizer)

    clap = FrozenClap.from_pretrained(tmp_path / "new" / "clap")
    log_mel = 10 * clips.mel[:3].log10().transpose(1, 2)[:, None]
    embedding = clap.embed_audio(log_mel)
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
