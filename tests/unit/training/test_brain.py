"""InterpreterBrain: what a step computes, and what an epoch's end does."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import speechbrain as sb
import torch
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import Dataset, IterableDataset

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.prompted_dataset import PromptedDataset, collate
from lmaczs.decoder import MaskDecoder
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.objectives.objective import Objective
from lmaczs.objectives.terms import TermOptions
from lmaczs.presence import reference_text
from lmaczs.training.brain import (
    AveragedBrain,
    InterpreterBrain,
    TrainingOptions,
)
from lmaczs.training.checkpoints import AtomicCheckpointer
from lmaczs.training.distributed import DistributedBatchSampler, TrainingError

RATE, SIZE = 32000, 160000  # of the tiny CLAP
LABELS = ["bell", "cat", "dog", "rain"]
TEMPLATES = ["This is a sound of {}.", "{}"]
LMACZS = {
    "similarity": 1.0,
    "sparsity": 0.5,
    "mask_diversity": 0.1,
    "masked_out_similarity": 0.3,
    "absent": 0.3,
    "leakage": 0.3,
    "interference": 0.4,
    "omission": 0.4,
    "masked_out_contrast": 0.2,
    "masked_in_contrast": 0.3,
}
PAPER = {"all_pairs_similarity": 1.0, "sparsity": 0.3, "diversity": 0.1}
LMAC = {"masked_in": 4.0, "masked_out": 0.2, "sparsity": 6.4}
FINETUNING = {
    **{"masked_in": 4.0, "masked_out": 0.2, "guidance": 4.0},
    **{"unguided_sparsity": 6.4, "unguided_total_variation": 1.0},
}
COSINES = TermOptions(
    absent_presence=0.9,
    same_prompt_cosine=0.8,
    crosscor_threshold=0.6,
    binarise_level=0.35,
)
TRAIN, VALID, TEST = sb.Stage.TRAIN, sb.Stage.VALID, sb.Stage.TEST

MakeBrain = Callable[..., InterpreterBrain]


def batch_of(clips: int, prompts: int = 2, seconds: float = 5.0) -> dict[str, Any]:
    """Make a batch of noises, with the labels in turn."""
    rng = torch.Generator().manual_seed(clips)
    samples = round(seconds * RATE)
    wav = 0.3 * torch.randn(clips, samples, generator=rng)
    wav = wav * torch.linspace(0.1, 1, samples) ** torch.arange(clips)[:, None]
    wav = torch.nn.functional.pad(wav.repeat(1, SIZE // samples), (0, SIZE % samples))
    names = [[LABELS[(i + k) % 4] for k in range(prompts)] for i in range(clips)]
    present = [
        [k == 0 or (i + k) % 3 == 0 for k in range(prompts)] for i in range(clips)
    ]
    return {
        "id": [f"clip{i}" for i in range(clips)],
        "label": [row[0] for row in names],
        "prompts": [
            [TEMPLATES[k % 2].format(x) for k, x in enumerate(r)] for r in names
        ],
        "wav": wav,
        "sources": torch.stack([wav, torch.zeros_like(wav)], 1),
        "samples": torch.full((clips,), samples),
        "present": torch.tensor(present),
        "use_predicted": torch.zeros(clips, dtype=torch.bool),
    }


@pytest.fixture
def valid_data(tiny_clap: FrozenClap, tmp_path: Path) -> PromptedDataset:
    """Clips of two seconds, one for each label."""
    rows = []
    for number, label in enumerate(LABELS):
        path = tmp_path / "clips" / f"{label}.wav"
        path.parent.mkdir(exist_ok=True)
        rng = torch.Generator().manual_seed(number)
        wav = 0.2 * torch.randn(2 * RATE, generator=rng)
        soundfile.write(path, wav.numpy(), RATE)
        rows.append({"id": f"id-{label}", "path": str(path), "label": label})
    table = pd.DataFrame(rows)
    reader = FileReader(table, RATE)
    prompts = PromptSampler(texts_of(table), TEMPLATES)
    return PromptedDataset(table, tiny_clap.front_end, reader, prompts)


class Labelled(Dataset):
    """What a Brain needs of a split: its classes and a settable epoch."""

    def __init__(self, classes: dict[str, str]) -> None:
        self.classes, self.epoch = classes, None


@pytest.fixture
def make_brain(
    tiny_clap: FrozenClap, valid_data: PromptedDataset, tmp_path: Path
) -> MakeBrain:
    """Function that makes a Brain; it takes an objective, splits and options."""

    def make(
        objective: Objective | None = None,
        domain: Domain = "stft",
        data: dict[str, Any] | None = None,
        **changes: Any,
    ) -> InterpreterBrain:
        torch.manual_seed(0)
        decoder = MaskDecoder(tiny_clap, domain, width=8)
        with torch.no_grad():
            decoder.draw.weight.mul_(5)
        values = {
            "number_of_epochs": 4,
            "lr": 0.01,
            "lr_decay_epochs": 4,
            "ema_decay": 0.5,
            "checkpoint_metric": "loss",
            "checkpoint_mode": "min",
            "examples_every": 100,
            "example_clips": [0, 2],
            "output_folder": str(tmp_path),
            "model_name": "tiny",
            **changes,
        }
        brain = InterpreterBrain(
            tiny_clap,
            decoder,
            objective or Objective("lmaczs", LMACZS, COSINES),
            {"train": Labelled({}), **dict.fromkeys(("valid", "test"), valid_data)}
            | (data or {}),
            TrainingOptions(domain=domain, **values),
            partial(torch.optim.AdamW, lr=values["lr"]),
            run_opts={"device": "cpu"},
            checkpointer=AtomicCheckpointer(tmp_path / "save"),
            train_logger=FileTrainLogger(str(tmp_path / "train_log.txt")),
        )
        brain.on_stage_start(VALID)
        return brain

    return make


def assert_close(one: Tensor, other: Tensor) -> None:
    """Check equality but for rounding."""
    torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def saved(brain: InterpreterBrain) -> list[dict[str, Any]]:
    """Metadata of the checkpoints, oldest first."""
    found = brain.checkpointer.list_checkpoints()
    return sorted((one.meta for one in found), key=lambda meta: meta["unixtime"])


# --- one step -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "seconds"),
    [("mel", 5.0), ("mel", 1.3), ("stft", 5.0), ("stft", 1.3), ("waveform", 5.0)],
)
def test_pairs_against_a_loop(
    make_brain: MakeBrain,
    tiny_clap: FrozenClap,
    domain: Domain,
    seconds: float,
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """Each pair is what its clip, prompt and mask give when they come alone."""
    brain = make_brain(domain=domain)
    batch = batch_of(2, prompts=3, seconds=seconds)
    pairs = brain.compute_forward(batch, TRAIN)
    front_end, samples = tiny_clap.front_end, round(seconds * RATE)
    assert torch.equal(pairs.present, batch["present"])
    spectrum = front_end.stft(batch["wav"])[..., : front_end.n_frames].abs().square()
    if domain == "mel":
        spectrum = front_end.mel_filters.T @ spectrum
    for i, wav in enumerate(batch["wav"][:, :samples]):
        shares = spectrum[i] / spectrum[i].sum()
        torch.testing.assert_close(pairs.power[i], shares, atol=1e-9, rtol=1e-3)
        log_mel = front_end.log_mel(wav[None])
        encoding = tiny_clap.audio_features(log_mel)
        assert_close(pairs.embedding[i], encoding.embedding[0])
        for k, prompt in enumerate(batch["prompts"][i]):
            text = tiny_clap.encode_text([prompt])
            assert_close(pairs.text[i, k], text[0])
            mask = brain.modules.decoder(text[None], encoding.features, log_mel)[:, 0]
            mask = front_end.crop_mask(mask, samples)
            assert_close(pairs.masks[i, k, :, : mask.shape[-1]], mask[0])
            kept = masked_log_mel(front_end, wav[None], mask, domain)
            assert_close(pairs.masked_in[i, k], tiny_clap.audio_embedding(kept)[0])
            if k == 0:
                left = masked_log_mel(front_end, wav[None], 1 - mask, domain)
                assert_close(pairs.masked_out[i], tiny_clap.audio_embedding(left)[0])


def test_prompts_of_the_stages(make_brain: MakeBrain, tiny_clap: FrozenClap) -> None:
    """Training asks the batch's prompts, validation the predicted and an absent one."""
    brain, batch = make_brain(), batch_of(4, prompts=3)
    trained = brain.compute_forward(batch, TRAIN)
    assert trained.masks.shape[:2] == (4, 3)
    for stage in (VALID, TEST):
        pairs = brain.compute_forward(batch, stage)
        assert pairs.masks.shape[:2] == (4, 2)
        classes = tiny_clap.encode_text([TEMPLATES[0].format(x) for x in LABELS])
        for i in range(4):
            predicted = int((classes @ pairs.embedding[i]).argmax())
            assert_close(pairs.text[i, 0], classes[predicted])
            absent = tiny_clap.encode_text([batch["prompts"][i][-1]])[0]
            assert_close(pairs.text[i, 1], absent)
        assert pairs.present.tolist() == [[True, False]] * 4


def test_paper_pairs_clips_with_all_prompts_of_the_batch(
    make_brain: MakeBrain, tiny_clap: FrozenClap
) -> None:
    """Own prompt first; masks are those that clip and prompt give when they are alone.

    What else was drawn for a clip is not used. Validation is as for other objectives.
    """
    brain = make_brain(Objective("lmaczs_paper", PAPER, COSINES))
    batch = batch_of(3, prompts=2)
    pairs = brain.compute_forward(batch, TRAIN)
    assert pairs.masks.shape[:2] == (3, 3)
    own = [row[0] for row in batch["prompts"]]
    encoding = tiny_clap.audio_features(tiny_clap.front_end.log_mel(batch["wav"]))
    for clip in range(3):
        features = tuple(stage[clip : clip + 1] for stage in encoding.features)
        log_mel = tiny_clap.front_end.log_mel(batch["wav"][clip : clip + 1])
        for place in range(3):
            text = tiny_clap.encode_text([own[(clip + place) % 3]])
            assert_close(pairs.text[clip, place], text[0])
            mask = brain.modules.decoder(text[None], features, log_mel)
            assert_close(pairs.masks[clip, place], mask[0, 0])
    assert brain.compute_forward(batch, VALID).masks.shape[:2] == (3, 2)


def test_training_asks_for_what_is_predicted_where_it_should(
    make_brain: MakeBrain,
) -> None:
    """Only the first prompt of those clips is replaced, and only in training."""
    brain, batch = make_brain(), batch_of(3, prompts=2)
    plain = brain.compute_forward(batch, TRAIN)
    batch["use_predicted"][1] = True
    pairs = brain.compute_forward(batch, TRAIN)
    predicted = (plain.embedding @ brain.classes(TRAIN).text.T).argmax(-1)
    assert_close(pairs.text[1, 0], brain.classes(TRAIN).text[predicted[1]])
    assert_close(pairs.text[:, 1], plain.text[:, 1])
    for other in (0, 2):
        assert_close(pairs.text[other], plain.text[other])
        assert_close(pairs.masks[other], plain.masks[other])
    assert not torch.allclose(pairs.masks[1, 0], plain.masks[1, 0], atol=1e-3)


def test_some_batches_have_other_choices(
    make_brain: MakeBrain, tiny_clap: FrozenClap
) -> None:
    """Drawn from labels and reference prompts, by epoch and step; never in a test."""
    brain = make_brain(choices_prob=1.0, choices=7)
    brain.epoch_counter.current = 1
    batch = batch_of(2, prompts=2, seconds=5.0)
    pairs = brain.compute_forward(batch, TRAIN)
    labels = brain.classes(VALID).text
    every = torch.cat([labels, reference_text(tiny_clap)])
    assert pairs.classes.shape == (7, every.shape[1])
    assert (torch.cdist(pairs.classes, every).amin(1) < 1e-2).all()
    assert torch.equal(brain.compute_forward(batch, TRAIN).classes, pairs.classes)
    other = batch_of(1, prompts=2, seconds=5.0)  # of another process
    assert torch.equal(brain.compute_forward(other, TRAIN).classes, pairs.classes)
    brain.step += 1
    assert not torch.equal(brain.compute_forward(batch, TRAIN).classes, pairs.classes)
    assert torch.equal(brain.compute_forward(batch, VALID).classes, labels)
    never = make_brain(choices_prob=0.0, choices=7)
    assert torch.equal(never.compute_forward(batch, TRAIN).classes, labels)


def test_presence_of_each_pair(make_brain: MakeBrain, tiny_clap: FrozenClap) -> None:
    """Share of the reference prompts that are less similar to the clip."""
    pairs = make_brain().compute_forward(batch_of(3, prompts=2, seconds=5.0), TRAIN)
    reference = reference_text(tiny_clap)
    for row, embedding in enumerate(pairs.embedding):
        for prompt, found in zip(pairs.text[row], pairs.presence[row], strict=True):
            below = [bool(one @ embedding < prompt @ embedding) for one in reference]
            assert found.item() == pytest.approx(sum(below) / len(below), abs=0.01)


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_sounds_beside_a_prompt(
    make_brain: MakeBrain, tiny_clap: FrozenClap, domain: Domain
) -> None:
    """For the clip its partner and noise, for the partner the clip; else nothing."""
    brain, batch = make_brain(domain=domain), batch_of(4, prompts=3)
    rng = torch.Generator().manual_seed(1)
    partner, noise = 0.1 * torch.randn(2, SIZE, generator=rng)
    clip = batch["wav"][0].clone()
    batch["sources"][0, 1] = partner
    batch["wav"][0] += partner + noise
    pairs = brain.compute_forward(batch, TRAIN)
    assert (
        pairs.sources.target.shape
        == pairs.sources.interference.shape
        == pairs.masks.shape
    )
    front_end = tiny_clap.front_end

    def shares(own: Tensor, other: Tensor) -> list[Tensor]:
        powers = [front_end.stft(x[None])[0].abs().square() for x in (own, other)]
        if domain == "mel":
            powers = [front_end.mel_filters.T @ one for one in powers]
        powers = [one[:, : front_end.n_frames] for one in powers]
        return [one / sum(powers).sum() for one in powers]

    for prompt, own in enumerate((clip, partner)):
        both = shares(own, clip + partner + noise - own)
        for found, expected in zip(pairs.sources, both, strict=True):
            close = {"atol": 1e-3 * float(expected.max()), "rtol": 1e-3}
            torch.testing.assert_close(found[0, prompt], expected, **close)
    for known in pairs.sources:
        assert not known[:, 2].any()
        assert not known[1, 0].any()


@pytest.mark.parametrize("hears_the_label", [True, False])
def test_what_sounds_beside_what_the_model_hears(
    make_brain: MakeBrain, tiny_clap: FrozenClap, hears_the_label: bool
) -> None:
    """The sources are known only where the prediction is one of the clip's texts."""
    batch = batch_of(3)
    batch["wav"][1] += 0.1 * torch.randn(SIZE, generator=torch.Generator())
    batch["use_predicted"][1] = True
    prompt = batch["prompts"][1][0] if hears_the_label else "quite another thing"
    brain = make_brain(data={"valid": Labelled({"only": prompt})})
    pairs = brain.compute_forward(batch, TRAIN)
    assert bool(pairs.sources.interference[1, 0].any()) == hears_the_label
    assert bool(pairs.sources.target[1, 0].any()) == hears_the_label


def test_lmac_explains_the_predicted_class(make_brain: MakeBrain) -> None:
    """For L-MAC a mask a clip is decoded, for the class that is predicted for it."""
    brain, batch = make_brain(Objective("lmac", LMAC, COSINES)), batch_of(3)
    pairs = brain.compute_forward(batch, TRAIN)
    assert pairs.masks.shape[:2] == (3, 1)
    predicted = (pairs.embedding @ brain.classes(TRAIN).text.T).argmax(-1)
    assert_close(pairs.text[:, 0], brain.classes(TRAIN).text[predicted])
    loss = brain.compute_objectives(pairs, batch, TRAIN)
    parts = {name: float(torch.cat(v).mean()) for name, v in brain.kept.items()}
    assert set(parts) == {*LMAC, "loss"}
    assert sum(LMAC[name] * parts[name] for name in LMAC) == pytest.approx(loss.item())


@pytest.mark.parametrize("domain", DOMAINS)
def test_guidance_is_by_the_clip_without_what_was_added(
    make_brain: MakeBrain, domain: Domain
) -> None:
    """The first source's magnitude on the grid of the masks, and the mixture's."""
    brain = make_brain(Objective("lmac_finetuning", FINETUNING, COSINES), domain)
    batch = batch_of(2)
    batch["wav"][1] += 0.1 * torch.randn(SIZE, generator=torch.Generator())
    pairs = brain.compute_forward(batch, TRAIN)
    clip, clean = pairs.magnitude
    assert clip.shape == clean.shape == pairs.masks[:, 0].shape
    assert_close(clip[0], clean[0])
    assert (clip[1] - clean[1]).abs().max() > 0.01


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    "objective",
    [
        Objective("lmaczs", LMACZS, COSINES),
        Objective("lmaczs_paper", PAPER, COSINES),
        Objective("lmac", LMAC, COSINES),
        Objective("lmac_finetuning", FINETUNING, COSINES),
    ],
)
def test_gradient_reaches_the_decoder_alone(
    make_brain: MakeBrain, tiny_clap: FrozenClap, objective: Objective, domain: Domain
) -> None:
    """Every weight of the decoder gets a finite gradient, none of the CLAP does."""
    brain, batch = make_brain(objective, domain), batch_of(2)
    brain.modules.train()
    assert not any(module.training for module in tiny_clap.modules())
    pairs = brain.compute_forward(batch, TRAIN)
    brain.compute_objectives(pairs, batch, TRAIN).backward()
    for name, weight in brain.decoder.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in tiny_clap.parameters())


def test_loss_falls(make_brain: MakeBrain, tiny_clap: FrozenClap) -> None:
    """Steps on one batch lower its loss and leave the CLAP as it is, bit by bit."""
    objective = Objective(
        "lmaczs", {"sparsity": 1.0}, COSINES
    )  # the CLAP's is a rough landscape
    brain, batch = make_brain(objective), batch_of(2)
    before = copy.deepcopy(tiny_clap.state_dict())
    brain.init_optimizers()
    brain.modules.train()
    losses = [float(brain.fit_batch(batch)) for _ in range(6)]
    assert losses[-1] < 0.8 * losses[0]
    after = tiny_clap.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_a_step_pays_for(
    make_brain: MakeBrain, tiny_clap: FrozenClap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip is encoded once, all that is left of it once more, and no text again."""
    brain, batch = make_brain(), batch_of(2, prompts=3)
    seen: list[tuple[str, int]] = []

    def watch(owner: nn.Module, name: str) -> None:
        method = getattr(owner, name)

        def spy(given: Any, *others: Any) -> Any:
            seen.append((name, len(given)))
            return method(given, *others)

        monkeypatch.setattr(owner, name, spy)

    watch(tiny_clap, "audio_features")
    watch(tiny_clap, "audio_embedding")
    watch(tiny_clap.model, "get_text_features")
    brain.compute_forward(batch, TRAIN)
    assert seen == [("audio_features", 2), ("audio_embedding", 2 * (3 + 1))]


def test_bfloat16(
    make_brain: MakeBrain,
    tiny_clap: FrozenClap,
    masked_log_mel: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mixed precision trains; cosines and spectrograms stay in float32."""
    brain, batch = make_brain(), batch_of(2)
    # in what is alike everywhere, norms would make noise of rounding
    batch["wav"] *= torch.linspace(0, 40, SIZE).sin().relu()
    expected = brain.compute_forward(batch, TRAIN)
    monkeypatch.setattr(tiny_clap, "cached_prompts", 0)  # texts are encoded again
    brain.training_ctx = torch.autocast("cpu", torch.bfloat16)
    with brain.training_ctx:
        pairs = brain.compute_forward(batch, TRAIN)
    for name in ("text", "masks", "embedding", "masked_in", "masked_out", "classes"):
        assert getattr(pairs, name).dtype == torch.float32, name
    assert_close(pairs.text, expected.text)
    # rounding decides of some cells whether they count as 1, and so how much is removed
    assert ((pairs.masks - expected.masks).abs() < 0.05).float().mean() > 0.97
    front_end = tiny_clap.front_end
    left = masked_log_mel(front_end, batch["wav"], 1 - pairs.masks[:, 0], "stft")
    expected = dataclasses.replace(expected, masked_out=tiny_clap.audio_embedding(left))
    for name in ("embedding", "masked_in", "masked_out"):
        one, other = getattr(pairs, name), getattr(expected, name)
        assert_close(one.norm(dim=-1), torch.ones(one.shape[:-1]))
        assert ((one * other).sum(-1) > 0.98).all(), name
        assert not torch.equal(one, other), name  # it was bf16 inside
    brain.init_optimizers()
    brain.modules.train()
    before = copy.deepcopy(brain.decoder.state_dict())
    assert all(torch.isfinite(brain.fit_batch(batch)) for _ in range(3))
    after = brain.decoder.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not any(torch.equal(after[name], value) for name, value in before.items())


def test_what_is_validated_is_a_moving_average(make_brain: MakeBrain) -> None:
    """After each step decay times what it was, and the rest of what was learnt."""
    brain, batch = make_brain(), batch_of(2)
    brain.init_optimizers()
    brain.modules.train()

    def weight(of: nn.Module) -> Tensor:
        return of.draw.weight.detach().clone()

    expected, of_average = None, brain.averaged_decoder
    for step in range(3):
        loss = brain.fit_batch(batch)
        learnt = weight(brain.decoder)
        expected = learnt if step == 0 else 0.5 * expected + 0.5 * learnt
        assert_close(weight(of_average), expected)
    brain.on_fit_batch_end(batch, None, loss, should_step=False)
    assert_close(weight(of_average), expected)
    before = brain.compute_forward(batch, VALID).masks
    for decoder, changes in ((brain.decoder, False), (of_average, True)):
        with torch.no_grad():
            decoder.draw.weight.zero_()
        masks = brain.compute_forward(batch, VALID).masks
        assert torch.equal(masks, before) != changes


def test_a_checkpoint_holds_what_was_validated(make_brain: MakeBrain) -> None:
    """The average as ``decoder``; beside it the trained weights and their average."""
    brain, batch = make_brain(), batch_of(2)
    brain.init_optimizers()
    brain.modules.train()
    for _ in range(2):
        brain.fit_batch(batch)
    saved = brain.checkpointer.save_checkpoint().path
    other = make_brain()
    other.init_optimizers()
    other.checkpointer.recover_if_possible()
    kept = torch.load(saved / "decoder.ckpt", weights_only=True)
    for name, value in brain.averaged_decoder.state_dict().items():
        assert torch.equal(kept[name], value), name
        assert torch.equal(other.averaged_decoder.state_dict()[name], value), name
    learnt = brain.decoder.state_dict()
    for name, value in other.decoder.state_dict().items():
        assert torch.equal(learnt[name], value), name
    assert other.average.n_averaged == 2


def test_metrics(make_brain: MakeBrain) -> None:
    """Every metric is there, a value a clip; right answers count as accurate."""
    brain, batch = make_brain(), batch_of(4)
    pairs = brain.compute_forward(batch, VALID)
    predicted = (pairs.embedding @ brain.classes(TRAIN).text.T).argmax(-1)
    batch["label"] = [LABELS[int(k)] for k in predicted]
    batch["label"][0] = LABELS[(int(predicted[0]) + 1) % 4]
    brain.compute_objectives(pairs, batch, VALID)
    table = {name: torch.cat(values) for name, values in brain.kept.items()}
    names = {"accuracy", "AI", "AD", "AD_sb", "AG", "FF", "Fid-In", "SPS", "COMP", "MM"}
    assert set(table) == {*names, "MM_absent", *LMACZS, "loss"}
    assert all(values.shape == (4,) for values in table.values())
    assert table["accuracy"].tolist() == [0, 1, 1, 1]
    assert_close(table["MM"], pairs.masks[:, 0].mean((1, 2)))
    assert_close(table["MM_absent"], pairs.masks[:, 1].mean((1, 2)))


def test_clips_without_a_label_have_no_accuracy(make_brain: MakeBrain) -> None:
    """Of them the model's own ranks are all that is known; the rest is measured."""
    brain, batch = make_brain(), batch_of(3)
    pairs = brain.compute_forward(batch, VALID)
    brain.compute_objectives(pairs, batch, VALID)
    labelled = {k: torch.cat(v) for k, v in brain.kept.items() if k != "accuracy"}
    brain.kept = {}
    brain.compute_objectives(pairs, {**batch, "label": ["", "", ""]}, VALID)
    assert brain.kept.keys() == labelled.keys()
    for name, values in brain.kept.items():
        assert_close(torch.cat(values), labelled[name])


def test_training_measures_nothing_but_the_terms(make_brain: MakeBrain) -> None:
    """The metrics need not be paid for in training."""
    brain, batch = make_brain(), batch_of(2)
    brain.compute_objectives(brain.compute_forward(batch, TRAIN), batch, TRAIN)
    assert set(brain.kept) == {*LMACZS, "loss"}


def test_a_step_computes_what_its_objective_needs(
    make_brain: MakeBrain, tiny_clap: FrozenClap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is encoded or kept for terms without a weight; metrics have it all."""
    brain = make_brain(Objective("lmaczs", {"similarity": 1, "sparsity": 1}, COSINES))
    batch, encoded, embed = batch_of(2, prompts=3), [], tiny_clap.audio_embedding
    monkeypatch.setattr(
        tiny_clap, "audio_embedding", lambda x: encoded.append(len(x)) or embed(x)
    )
    pairs = brain.compute_forward(batch, TRAIN)
    assert encoded == [2 * 3]
    assert pairs.masked_out is pairs.power is pairs.sources is pairs.presence is None
    assert brain.compute_objectives(pairs, batch, TRAIN).isfinite()
    pairs = brain.compute_forward(batch, VALID)
    brain.compute_objectives(pairs, batch, VALID)
    assert {"FF", "similarity", "sparsity"} < set(brain.kept)


# --- epochs -------------------------------------------------------------------------


def test_epoch_statistics_are_means_over_clips(make_brain: MakeBrain) -> None:
    """A last, smaller batch counts by its clips."""
    brain = make_brain()
    stats = []
    for size in (3, 1):
        batch = batch_of(size)
        brain.compute_objectives(brain.compute_forward(batch, VALID), batch, VALID)
        stats.append([v[-1].mean().item() for v in brain.kept.values()])
    brain.on_stage_end(TEST, 0.0)
    expected = [(3 * a + b) / 4 for a, b in zip(*stats, strict=True)]
    assert list(brain.test_stats.values()) == pytest.approx(expected, rel=1e-5)


def test_training_data_learn_the_epoch(make_brain: MakeBrain) -> None:
    """The training data get the epoch, on which their draws depend."""
    brain = make_brain()
    brain.init_optimizers()
    brain.on_stage_start(TRAIN, 3)
    assert brain.data["train"].epoch == 3


@pytest.mark.parametrize("epochs", [4, 6])
def test_learning_rate(make_brain: MakeBrain, epochs: int) -> None:
    """Half a cosine over epochs that need not all be trained: the whole rate first."""
    brain = make_brain(number_of_epochs=4, lr_decay_epochs=epochs, lr=0.01)
    brain.init_optimizers()
    rates = []
    for epoch in (1, 2, 3, 4):
        brain.on_stage_start(TRAIN, epoch)
        rates += [group["lr"] for group in brain.optimizer.param_groups]
    expected = [0.01 * 0.5 * (1 + math.cos(math.pi * k / epochs)) for k in range(4)]
    assert rates == pytest.approx(expected)
    assert rates[0] == 0.01


def end_epochs(
    brain: InterpreterBrain, losses: Iterator[float], name: str = "loss"
) -> None:
    """End some validations with given values."""
    for epoch, value in enumerate(losses, 1):
        brain.epoch_counter.current = epoch
        brain.train_stats = {"loss": 0.0}
        brain.kept = {name: [torch.tensor([value])], "other": [torch.tensor([0.0])]}
        brain.on_stage_end(VALID, 0.0, epoch)


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 1)])
def test_best_and_last_are_kept(make_brain: MakeBrain, mode: str, best: int) -> None:
    """The best epoch's checkpoint is kept, and the last one's, to resume from."""
    brain = make_brain(checkpoint_mode=mode)
    end_epochs(brain, iter([0.9, 0.1, 0.5, 0.4]))
    assert [meta["epoch"] for meta in saved(brain)] == [best, 4]
    keys = {f"{mode}_key": "loss"}
    assert brain.checkpointer.find_checkpoint(**keys).meta["epoch"] == best


def test_the_last_epoch_can_be_the_best(make_brain: MakeBrain) -> None:
    """Its number is a metric like any other; nothing else is kept, then."""
    brain = make_brain(checkpoint_metric="epoch", checkpoint_mode="max")
    end_epochs(brain, iter([0.9, 0.1, 0.5]))
    assert [meta["epoch"] for meta in saved(brain)] == [3]
    assert brain.checkpointer.find_checkpoint(max_key="epoch").meta["epoch"] == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_validation_that_is_not_finite(make_brain: MakeBrain, value: float) -> None:
    """It stops the run with the name of the value; it does not become the best."""
    brain = make_brain(checkpoint_mode="max")
    with pytest.raises(
        TrainingError, match="valid: loss is not finite; the checkpoints"
    ):
        end_epochs(brain, iter([0.5, value]))
    assert [meta["epoch"] for meta in saved(brain)] == [1]


def test_test_that_is_not_finite(make_brain: MakeBrain) -> None:
    """Nor is a test that failed reported."""
    brain = make_brain()
    brain.kept = {"AI": [torch.tensor([1.0, math.nan])]}
    with pytest.raises(TrainingError, match="test: AI is not finite"):
        brain.on_stage_end(TEST, 0.0)


def test_checkpoint_metric_that_is_not_there(make_brain: MakeBrain) -> None:
    """It is an error that names what there is, not a run that keeps the last epoch."""
    brain = make_brain(checkpoint_metric="lost")
    with pytest.raises(
        TrainingError, match=r"checkpoint_metric is 'lost', .*'loss', 'other'"
    ):
        end_epochs(brain, iter([0.5]))


# --- examples -----------------------------------------------------------------------


def test_examples(make_brain: MakeBrain, tmp_path: Path) -> None:
    """Every so many epochs the fixed clips are explained, with their own lengths."""
    brain = make_brain(examples_every=2)
    end_epochs(brain, iter([0.5, 0.4, 0.3]))
    folder = tmp_path / "examples"
    assert {path.name for path in folder.iterdir()} == {"id-bell", "id-dog"}
    bell = {path.name for path in (folder / "id-bell").iterdir()}
    assert len(bell) == 2
    assert any("bell" in name for name in bell)
    for prompt in bell:
        epochs = folder / "id-bell" / prompt
        (one,) = epochs.iterdir()
        assert one.name == "epoch-002"
        assert len(list(one.iterdir())) == 4
        values = json.loads((one / "explanation.json").read_text("utf-8"))
        assert values["seconds"] == 2
        assert values["model"] == "tiny"
        sounds = [
            torch.from_numpy(soundfile.read(one / name, dtype="float32")[0])
            for name in ("explanation.wav", "residual.wav")
        ]
        clip = brain.data["valid"][0]["wav"][: 2 * RATE]
        torch.testing.assert_close(sum(sounds), clip, atol=1e-5, rtol=0)


def test_examples_are_there_before_their_checkpoint(
    make_brain: MakeBrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in between draws them again; the other way they are lost."""
    brain = make_brain(examples_every=1)
    there = []

    class Noting:
        def save_and_keep_only(self, **options: Any) -> None:
            there.append(sorted((tmp_path / "examples").iterdir()))

    monkeypatch.setattr(brain, "checkpointer", Noting())
    end_epochs(brain, iter([0.5]))
    assert [len(folders) for folders in there] == [2]


def test_more_examples_than_clips(make_brain: MakeBrain, tmp_path: Path) -> None:
    """A validation set that is smaller than the list of examples is no error."""
    brain = make_brain(example_clips=[9])
    brain.write_examples(1)
    (folder,) = (tmp_path / "examples").iterdir()
    assert folder.name == "id-cat"  # 9 modulo 4 clips


# --- set up -------------------------------------------------------------------------


def test_batches_of_real_items(
    make_brain: MakeBrain, valid_data: PromptedDataset
) -> None:
    """What the data set and `collate` give is what a step takes."""
    brain = make_brain()
    batch = collate([valid_data[index] for index in range(4)])
    loss = brain.compute_objectives(brain.compute_forward(batch, VALID), batch, VALID)
    assert torch.isfinite(loss)


def test_classes_use_the_first_template(
    make_brain: MakeBrain, tiny_clap: FrozenClap
) -> None:
    """The zero-shot classifier has the template of validation."""
    classes = make_brain().classes(TRAIN)
    assert classes.labels == LABELS
    expected = tiny_clap.encode_text([f"This is a sound of {x}." for x in LABELS])
    assert torch.equal(classes.text, expected)


def test_classes_of_a_split(make_brain: MakeBrain, tiny_clap: FrozenClap) -> None:
    """Captions: the test has classes of its own, training those of validation."""
    valid, test = {"a": "A bell."}, {"b": "A cat.", "c": "I can hear a dog."}
    brain = make_brain(data={"valid": Labelled(valid), "test": Labelled(test)})
    for stage, expected in ((TRAIN, valid), (VALID, valid), (TEST, test)):
        found = brain.classes(stage)
        assert found.labels == list(expected)
        text = tiny_clap.encode_text(list(expected.values()))
        assert torch.equal(found.text, text)


def test_a_mode_that_chooses_nothing_is_refused(make_brain: MakeBrain) -> None:
    """The sentence names the option."""
    with pytest.raises(ValueError, match="checkpoint_mode is 'best': give min or max"):
        make_brain(checkpoint_mode="best")


def test_choices_of_nothing_are_refused(make_brain: MakeBrain) -> None:
    """A part of the batches has to choose from something."""
    with pytest.raises(
        ValueError, match="choices is 0: give 1 or more, or choices_pro"
    ):
        make_brain(choices_prob=0.5, choices=0)


# --- the part of a process ----------------------------------------------------------


class Numbers(Dataset):
    """Numbers from 0; it remembers those that it has made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()
        self.memory: set[int] = set()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, bool, int]:
        known = index in self.memory
        self.memory.add(index)
        return index, known, int(self.epoch)


class Stream(IterableDataset):
    """A set that deals itself out."""

    def __iter__(self) -> Any:
        return iter(range(3))


def averaged(**options: Any) -> AveragedBrain:
    """Make a Brain of one layer."""
    layer = nn.Linear(1, 1)
    own = {"trained": layer, "ema_decay": 0.5, "number_of_epochs": 2}
    cpu = {"run_opts": {"device": "cpu"}}
    return AveragedBrain({"layer": layer}, None, **own, **cpu, **options)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> AveragedBrain:
    """The second of two processes."""
    made = averaged()
    monkeypatch.setenv("SB_GLOBAL_SEED", "3")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    made.distributed_launch = True
    return made


def test_training_data(second: AveragedBrain) -> None:
    """A process gets its part of each batch; the order changes with the epoch."""
    loader = second.make_dataloader(
        Numbers(9), sb.Stage.TRAIN, batch_size=4, shuffle=True, drop_last=True
    )
    assert isinstance(second.train_sampler, DistributedBatchSampler)
    epochs = []
    for epoch in (1, 2):
        second.train_sampler.set_epoch(epoch)
        epochs.append([batch[0].tolist() for batch in loader])
    assert [len(batch) for batch in epochs[0]] == [2, 2]
    assert epochs[0] != epochs[1]


def test_training_data_of_one_process(second: AveragedBrain) -> None:
    """Alone it gets what SpeechBrain makes of them."""
    second.distributed_launch = False
    loader = second.make_dataloader(
        Numbers(9), sb.Stage.TRAIN, batch_size=4, shuffle=True, drop_last=True
    )
    assert [len(batch[0]) for batch in loader] == [4, 4]


@pytest.mark.parametrize("stage", [sb.Stage.VALID, sb.Stage.TEST])
def test_other_data(second: AveragedBrain, stage: sb.Stage) -> None:
    """No clip is judged twice: that a part is shorter is no matter."""
    loader = second.make_dataloader(Numbers(5), stage, batch_size=2)
    assert [batch[0].tolist() for batch in loader] == [[1, 3]]


def test_data_that_deal_themselves_out(second: AveragedBrain) -> None:
    """They are left to do so."""
    for stage in sb.Stage:
        loader = second.make_dataloader(Stream(), stage, batch_size=2)
        assert [batch.tolist() for batch in loader] == [[0, 1], [2]]


def test_workers_stay(second: AveragedBrain) -> None:
    """A worker keeps what it has read, and learns which epoch it is."""
    data = Numbers(6)
    loader = second.make_dataloader(data, sb.Stage.VALID, batch_size=1, num_workers=1)
    for epoch in (1, 2):
        data.epoch.fill_(epoch)
        items = [[int(value[0]) for value in batch] for batch in loader]
        assert items == [[index, epoch - 1, epoch] for index in (1, 3, 5)]


def test_one_folder_of_checkpoints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With --debug, where each process has made its own, it is the first one's."""
    checkpointer = sb.utils.checkpoints.Checkpointer(tmp_path / "own")
    brain = averaged(checkpointer=checkpointer)
    monkeypatch.setattr(
        "lmaczs.training.brain.gather", lambda own: [tmp_path / "first", own]
    )
    (tmp_path / "first").mkdir()
    brain.on_fit_start()
    assert checkpointer.checkpoints_dir == tmp_path / "first"


def test_full_precision(second: AveragedBrain) -> None:
    """Within it --precision=bf16 is of no effect."""
    square = torch.full((2, 2), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert (square @ square).dtype == torch.bfloat16
        with second.full_precision():
            assert (square @ square).dtype == torch.float32
