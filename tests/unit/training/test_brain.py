"""InterpreterBrain: what a step computes, and what an epoch's end does."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import soundfile
import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger
from torch import Tensor, nn

from lmaczs.clap import FrozenClap
from lmaczs.data.prompted_dataset import PromptedClips, collate
from lmaczs.decoder import MaskDecoder
from lmaczs.frontend import DOMAINS, Domain
from lmaczs.objectives.objective import Objective
from lmaczs.objectives.terms import TermOptions
from lmaczs.training.brain import InterpreterBrain
from lmaczs.training.checkpoints import WholeCheckpointer

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
LMAC = {"masked_in": 1.0, "masked_out": 0.2, "sparsity": 0.5}
COSINES = TermOptions(absent_cosine=0.3, same_prompt_cosine=0.8)
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
        "ask_predicted": torch.zeros(clips, dtype=torch.bool),
    }


@pytest.fixture
def valid_data(tiny_clap: FrozenClap, tmp_path: Path) -> PromptedClips:
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
    return PromptedClips(table, tiny_clap.front_end, TEMPLATES, train=False)


@pytest.fixture
def make_brain(
    tiny_clap: FrozenClap, valid_data: PromptedClips, tmp_path: Path
) -> MakeBrain:
    """Function that makes a Brain; it takes an objective, a domain and hparams."""

    def make(
        objective: Objective | None = None, domain: Domain = "stft", **changes: Any
    ) -> InterpreterBrain:
        torch.manual_seed(0)
        decoder = MaskDecoder(tiny_clap, domain, width=8)
        with torch.no_grad():
            decoder.draw.weight.mul_(5)
        counter = EpochCounter(changes.get("number_of_epochs", 4))
        hparams = {
            "clap": tiny_clap,
            "decoder": decoder,
            "domain": domain,
            "templates": TEMPLATES,
            "number_of_epochs": 4,
            "lr": 0.01,
            "rate_epochs": 4,
            "average_decay": 0.5,
            "best_metric": "loss",
            "best_mode": "min",
            "examples_every": 100,
            "example_clips": [0, 2],
            "output_folder": str(tmp_path),
            "model_name": "tiny",
            "valid_data": valid_data,
            "train_data": SimpleNamespace(epoch=None),
            "epoch_counter": counter,
            "train_logger": FileTrainLogger(str(tmp_path / "train_log.txt")),
            "tensorboard": None,
            **changes,
        }
        brain = InterpreterBrain(
            modules={"decoder": decoder, "clap": tiny_clap},
            opt_class=partial(torch.optim.AdamW, lr=hparams["lr"]),
            hparams=hparams,
            run_opts={"device": "cpu"},
            checkpointer=WholeCheckpointer(
                tmp_path / "save", {"decoder": decoder, "counter": counter}
            ),
            objective=objective or Objective("lmaczs", LMACZS, COSINES),
        )
        brain.set_classes(LABELS)
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


def test_training_asks_for_what_is_predicted_where_it_should(
    make_brain: MakeBrain,
) -> None:
    """The first prompt of those clips alone; nothing is asked so where it is judged."""
    brain, batch = make_brain(), batch_of(3, prompts=2)
    plain = brain.compute_forward(batch, TRAIN)
    batch["ask_predicted"][1] = True
    pairs = brain.compute_forward(batch, TRAIN)
    predicted = (plain.embedding @ brain.class_text.T).argmax(-1)
    assert_close(pairs.text[1, 0], brain.class_text[predicted[1]])
    assert_close(pairs.text[:, 1], plain.text[:, 1])
    for other in (0, 2):
        assert_close(pairs.text[other], plain.text[other])
        assert_close(pairs.masks[other], plain.masks[other])
    assert not torch.allclose(pairs.masks[1, 0], plain.masks[1, 0], atol=1e-3)


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
    """It is known only where the model takes a clip for what is said of it."""
    brain, batch = make_brain(), batch_of(3)
    batch["wav"][1] += 0.1 * torch.randn(SIZE, generator=torch.Generator())
    batch["ask_predicted"][1] = True
    said = tiny_clap.encode_text([batch["prompts"][1][0]])
    brain.class_text = said if hears_the_label else -said
    pairs = brain.compute_forward(batch, TRAIN)
    assert bool(pairs.sources.interference[1, 0].any()) == hears_the_label
    assert bool(pairs.sources.target[1, 0].any()) == hears_the_label


def test_lmac_explains_the_predicted_class(make_brain: MakeBrain) -> None:
    """For L-MAC a mask a clip is decoded, for the class that is predicted for it."""
    brain, batch = make_brain(Objective("lmac", LMAC, COSINES)), batch_of(3)
    pairs = brain.compute_forward(batch, TRAIN)
    assert pairs.masks.shape[:2] == (3, 1)
    predicted = (pairs.embedding @ brain.class_text.T).argmax(-1)
    assert_close(pairs.text[:, 0], brain.class_text[predicted])
    loss = brain.compute_objectives(pairs, batch, TRAIN)
    parts = {name: float(torch.cat(v).mean()) for name, v in brain.kept.items()}
    assert set(parts) == {*LMAC, "loss"}
    assert sum(LMAC[name] * parts[name] for name in LMAC) == pytest.approx(loss.item())


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    "objective",
    [Objective("lmaczs", LMACZS, COSINES), Objective("lmac", LMAC, COSINES)],
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
    for name, weight in brain.hparams.decoder.named_parameters():
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

    def watch(name: str) -> None:
        method = getattr(tiny_clap, name)

        def spy(given: Any) -> Any:
            seen.append((name, len(given)))
            return method(given)

        monkeypatch.setattr(tiny_clap, name, spy)

    for name in ("audio_features", "audio_embedding", "_embed_text"):
        watch(name)
    brain.compute_forward(batch, TRAIN)
    assert seen == [("audio_features", 2), ("audio_embedding", 2 * (3 + 1))]


def test_bfloat16(
    make_brain: MakeBrain, tiny_clap: FrozenClap, masked_log_mel: Callable[..., Tensor]
) -> None:
    """Mixed precision trains; cosines and spectrograms stay in float32."""
    brain, batch = make_brain(), batch_of(2)
    # in what is alike everywhere, norms would make noise of rounding
    batch["wav"] *= torch.linspace(0, 40, SIZE).sin().relu()
    expected = brain.compute_forward(batch, TRAIN)
    tiny_clap._prompt_cache.clear()
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
    before = copy.deepcopy(brain.hparams.decoder.state_dict())
    assert all(torch.isfinite(brain.fit_batch(batch)) for _ in range(3))
    after = brain.hparams.decoder.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not any(torch.equal(after[name], value) for name, value in before.items())


def test_what_is_validated_is_a_moving_average(make_brain: MakeBrain) -> None:
    """After each step decay times what it was, and the rest of what was learnt."""
    brain, batch = make_brain(), batch_of(2)
    brain.init_optimizers()
    brain.modules.train()

    def weight(of: nn.Module) -> Tensor:
        return of.draw.weight.detach().clone()

    expected, of_average = None, brain.average.module
    for step in range(3):
        loss = brain.fit_batch(batch)
        learnt = weight(brain.hparams.decoder)
        expected = learnt if step == 0 else 0.5 * expected + 0.5 * learnt
        assert_close(weight(of_average), expected)
    brain.on_fit_batch_end(batch, None, loss, should_step=False)
    assert_close(weight(of_average), expected)
    before = brain.compute_forward(batch, VALID).masks
    for decoder, changes in ((brain.hparams.decoder, False), (of_average, True)):
        with torch.no_grad():
            decoder.draw.weight.zero_()
        masks = brain.compute_forward(batch, VALID).masks
        assert torch.equal(masks, before) != changes


def test_a_checkpoint_holds_what_was_validated(make_brain: MakeBrain) -> None:
    """The average as ``decoder``; what goes on to learn, and its average, beside it."""
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
    for name, value in brain.average.module.state_dict().items():
        assert torch.equal(kept[name], value), name
        assert torch.equal(other.average.module.state_dict()[name], value), name
    learnt = brain.hparams.decoder.state_dict()
    for name, value in other.hparams.decoder.state_dict().items():
        assert torch.equal(learnt[name], value), name
    assert other.average.n_averaged == 2


def test_metrics(make_brain: MakeBrain) -> None:
    """Every metric is there, a value a clip; right answers count as accurate."""
    brain, batch = make_brain(), batch_of(4)
    pairs = brain.compute_forward(batch, VALID)
    predicted = (pairs.embedding @ brain.class_text.T).argmax(-1)
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
    assert pairs.masked_out is pairs.power is pairs.sources is None
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
    """What is drawn depends on the epoch that the data are told."""
    brain = make_brain()
    brain.init_optimizers()
    brain.on_stage_start(TRAIN, 3)
    assert brain.hparams.train_data.epoch == 3


@pytest.mark.parametrize("epochs", [4, 6])
def test_learning_rate(make_brain: MakeBrain, epochs: int) -> None:
    """Half a cosine over epochs that need not all be trained: the whole rate first."""
    brain = make_brain(number_of_epochs=4, rate_epochs=epochs, lr=0.01)
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
        brain.hparams.epoch_counter.current = epoch
        brain.train_stats = {"loss": 0.0}
        brain.kept = {name: [torch.tensor([value])], "other": [torch.tensor([0.0])]}
        brain.on_stage_end(VALID, 0.0, epoch)


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 1)])
def test_best_and_last_are_kept(make_brain: MakeBrain, mode: str, best: int) -> None:
    """The best epoch's checkpoint survives, and the last one's to go on from."""
    brain = make_brain(best_mode=mode)
    end_epochs(brain, iter([0.9, 0.1, 0.5, 0.4]))
    assert [meta["epoch"] for meta in saved(brain)] == [best, 4]
    keys = {f"{mode}_key": "loss"}
    assert brain.checkpointer.find_checkpoint(**keys).meta["epoch"] == best


def test_the_last_epoch_can_be_the_best(make_brain: MakeBrain) -> None:
    """Its number is a metric like any other; nothing else is kept, then."""
    brain = make_brain(best_metric="epoch", best_mode="max")
    end_epochs(brain, iter([0.9, 0.1, 0.5]))
    assert [meta["epoch"] for meta in saved(brain)] == [3]
    assert brain.checkpointer.find_checkpoint(max_key="epoch").meta["epoch"] == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_validation_that_is_not_finite(make_brain: MakeBrain, value: float) -> None:
    """It stops the run with the name of the value; it does not become the best."""
    brain = make_brain(best_mode="max")
    with pytest.raises(
        RuntimeError, match="valid: loss is not finite; the checkpoints"
    ):
        end_epochs(brain, iter([0.5, value]))
    assert [meta["epoch"] for meta in saved(brain)] == [1]


def test_test_that_is_not_finite(make_brain: MakeBrain) -> None:
    """Nor is a test that failed reported."""
    brain = make_brain()
    brain.kept = {"AI": [torch.tensor([1.0, math.nan])]}
    with pytest.raises(RuntimeError, match="test: AI is not finite"):
        brain.on_stage_end(TEST, 0.0)


def test_best_metric_that_is_not_there(make_brain: MakeBrain) -> None:
    """It is an error that names what there is, not a run that keeps the last epoch."""
    brain = make_brain(best_metric="lost")
    with pytest.raises(RuntimeError, match=r"best_metric is 'lost', .*'loss', 'other'"):
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
        clip = brain.hparams.valid_data[0]["wav"][: 2 * RATE]
        torch.testing.assert_close(sum(sounds), clip, atol=1e-5, rtol=0)


def test_more_examples_than_clips(make_brain: MakeBrain, tmp_path: Path) -> None:
    """A validation set that is smaller than the list of examples is no error."""
    brain = make_brain(example_clips=[9])
    brain.write_examples(1)
    (folder,) = (tmp_path / "examples").iterdir()
    assert folder.name == "id-cat"  # 9 modulo 4 clips


# --- set up -------------------------------------------------------------------------


def test_batches_of_real_items(
    make_brain: MakeBrain, valid_data: PromptedClips
) -> None:
    """What the data set and `collate` give is what a step takes."""
    brain = make_brain()
    batch = collate([valid_data[index] for index in range(4)])
    loss = brain.compute_objectives(brain.compute_forward(batch, VALID), batch, VALID)
    assert torch.isfinite(loss)


def test_prompts_are_encoded_together(
    make_brain: MakeBrain, tiny_clap: FrozenClap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All prompts are encoded ahead: in a resumed run they are the same to the bit."""
    monkeypatch.setattr(tiny_clap, "_prompt_cache", {})
    make_brain()
    every = {template.format(label) for template in TEMPLATES for label in LABELS}
    assert set(tiny_clap._prompt_cache) == every


def test_classes_use_the_first_template(
    make_brain: MakeBrain, tiny_clap: FrozenClap
) -> None:
    """The zero-shot classifier is asked with the template of validation."""
    brain = make_brain()
    expected = tiny_clap.encode_text([f"This is a sound of {x}." for x in LABELS])
    assert torch.equal(brain.class_text, expected)


def test_classes_of_a_split(make_brain: MakeBrain, tiny_clap: FrozenClap) -> None:
    """Captions: validation and test have classes of their own, asked as they are."""
    brain = make_brain()
    splits = {VALID: {"a": "A bell."}, TEST: {"b": "A cat.", "c": "I can hear a dog."}}
    brain.hparams.valid_data.__class__ = type(
        "Captioned", (PromptedClips,), {"classes": splits[VALID]}
    )
    brain.hparams.test_data = SimpleNamespace(classes=splits[TEST])
    for stage, asked in ((VALID, VALID), (TEST, TEST), (VALID, VALID)):
        brain.on_stage_start(stage)
        assert brain.labels == list(splits[asked])
        expected = tiny_clap.encode_text(list(splits[asked].values()))
        assert torch.equal(brain.class_text, expected)
