"""The Brain that trains a small CLAP's audio tower; the text tower stays frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.train_logger import TrainLogger
from torch import Generator, Tensor, nn
from transformers import ClapModel

from lmaczs.data.esc50 import ESC10
from lmaczs.distillation.batches import STRETCHES, BatchBuilder, SoundBatch
from lmaczs.distillation.clip_cache import label_weights
from lmaczs.distillation.losses import (
    clip_level,
    contrastive_loss,
    fit_logit_scale,
    silence_loss,
    tagger_loss,
)
from lmaczs.distillation.prompt_bank import PromptBank
from lmaczs.frontend import FrontEnd
from lmaczs.metrics.classification import accuracies
from lmaczs.training.brain import AveragedBrain
from lmaczs.training.schedule import cosine_decay
from lmaczs.utils.errors import InputError

FIRST_SCALE = 2.66  # logarithm of both logit scales before training


@dataclass(frozen=True)
class DistillationOptions:
    """Settings of a training, under the names of hparams/clap_small.yaml."""

    seed: int  # of sampling and augmentation
    number_of_epochs: int
    batch_size: int  # of clips; composites come on top
    lr: float  # peak
    warmup_epochs: int  # before the peak; after it half a cosine down to 0
    weight_decay: float  # of AdamW
    ema_decay: float  # of the moving average, which is tested and saved
    class_balance: float  # see `label_weights`
    augment_strength: float  # of the last epochs' augmentations, in [0, 1]
    max_logit_scale: float  # of both logit scales
    loss_weights: Mapping[str, float]  # of `loss_terms`
    valid_every: int  # epochs between validations, each of which saves a checkpoint


@dataclass(frozen=True)
class Embedded:
    """Embeddings of sounds [B, D], and of S stretches of time of each [B, S, D]."""

    pooled: Tensor
    stretches: Tensor


class ClapDistillationBrain(AveragedBrain):
    """Trains the audio tower of a CLAP against its text tower and an audio tagger.

    Of `model` only the audio tower and its projection learn; `prompts` are embedded by
    its text tower. A checkpoint holds what learns, the logit scales, their moving
    average and the epoch.
    """

    def __init__(
        self,
        model: ClapModel,
        front_end: FrontEnd,
        prompts: PromptBank,
        batches: BatchBuilder,
        options: DistillationOptions,
        run_opts: Mapping[str, Any],
        checkpointer: Checkpointer,
        train_logger: TrainLogger,
    ) -> None:
        model.requires_grad_(False)
        first = torch.tensor(FIRST_SCALE)
        modules = {
            "audio_model": model.audio_model.requires_grad_(True),
            "audio_projection": model.audio_projection.requires_grad_(True),
            "scales": nn.ParameterDict({"contrastive": first, "tagger": first.clone()}),
        }
        optimizer = partial(
            torch.optim.AdamW, lr=options.lr, weight_decay=options.weight_decay
        )
        super().__init__(
            modules,
            optimizer,
            trained=nn.ModuleDict(modules),
            ema_decay=options.ema_decay,
            number_of_epochs=options.number_of_epochs,
            run_opts={**run_opts, "skip_nonfinite_grads": True},
            checkpointer=checkpointer,
            use_buffers=True,
        )
        self.clap, self.front_end, self.options = model, front_end, options
        self.batches, self.clips = batches, batches.clips
        self.prompts, self.train_logger = prompts.to(self.device), train_logger
        names = self.clips.class_names
        self.silent_class = names.index("Silence") if "Silence" in names else None
        checkpointer.add_recoverables(modules)

    def train_loader(self) -> torch.utils.data.DataLoader:
        """Full batches of clip indices; clips with rare labels are drawn more often."""
        rows, size = self.clips.rows("train"), self.options.batch_size
        if len(rows) < size:
            raise InputError(f"batch_size is {size}, but train has {len(rows)} clips")
        weights = label_weights(self.clips.target[rows], self.options.class_balance)
        # Brain.fit sets its epoch; without that each epoch would draw the same clips
        self.train_sampler = ReproducibleWeightedRandomSampler(
            weights, len(rows), replacement=True, seed=self.options.seed
        )
        clips: Any = rows  # a tensor is a dataset of its rows
        return torch.utils.data.DataLoader(
            clips, size, sampler=self.train_sampler, drop_last=True
        )

    # -------------------------------------------------------------- one step

    def compute_forward(
        self, batch: Tensor, stage: sb.Stage
    ) -> tuple[SoundBatch, Embedded]:
        """Embed clips ``batch [B]``, augmented in training."""
        if stage == sb.Stage.TRAIN:
            rng = self.random_generator()
            sounds = self.batches.augmented(batch, rng, self.augment_strength())
            templates = len(self.prompts.labels)
            self.template = int(torch.randint(templates, (1,), generator=rng))
        else:
            sounds = self.batches.plain(batch)
        sounds = SoundBatch(*(value.to(self.device) for value in vars(sounds).values()))
        return sounds, self.embed(self.modules, sounds.mel)

    def random_generator(self) -> Generator:
        """Random generator of a step, from seed, epoch and step: a run can resume."""
        epoch = self.epoch_counter.current
        seed = (self.options.seed * 100003 + epoch) * 100003 + self.step
        return Generator().manual_seed(seed % 2**63)

    def augment_strength(self) -> float:
        """Strength of this epoch's augmentations.

        0 in the first quarter of the epochs, so that a small set is learnt at all, then
        rising to the option's value at three quarters.
        """
        done = self.epoch_counter.current / self.options.number_of_epochs
        return self.options.augment_strength * min(1.0, max(0.0, 2 * (done - 0.25)))

    def embed(self, modules: Mapping[str, nn.Module], mel: Tensor) -> Embedded:
        """Embed mel power [B, n_mels, T] by `modules` (training or averaged)."""
        log_mel = self.front_end.to_log_mel(mel.to(self.device))
        out, project = modules["audio_model"](log_mel), modules["audio_projection"]
        in_time = out.last_hidden_state.mean(2)  # of [B, C, frequency, time]
        stretches = nn.functional.adaptive_avg_pool1d(in_time, STRETCHES)
        return Embedded(
            nn.functional.normalize(project(out.pooler_output), dim=-1),
            nn.functional.normalize(project(stretches.transpose(1, 2)), dim=-1),
        )

    def compute_objectives(
        self, predictions: tuple[SoundBatch, Embedded], batch: Tensor, stage: sb.Stage
    ) -> Tensor:
        """Weighted sum of the loss terms, a scalar; each term is logged."""
        terms = self.loss_terms(*predictions)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        weights = self.options.loss_weights
        weighted = (weights[name] * value for name, value in terms.items())
        return sum(weighted, start=torch.zeros(()))

    def loss_terms(self, sounds: SoundBatch, embedded: Embedded) -> dict[str, Tensor]:
        """Loss terms, each the mean over the sounds that it applies to, a scalar.

        contrastive and alignment always; tagger, tagger_steps, silence and
        teacher_embedding if they apply to a sound of the batch.
        """
        limit, silent = self.options.max_logit_scale, sounds.silent
        scale = {k: v.exp().clamp(max=limit) for k, v in self.modules.scales.items()}
        similar = embedded.pooled @ self.prompts.labels[self.template].T
        terms = label_terms(sounds, similar, scale["contrastive"])
        if self.clips.class_names and not silent.all():
            terms |= self._tagger_terms(sounds, embedded, scale["tagger"])
        taught = sounds.teacher_embedding.any(1)
        if taught.any():
            cosine = (embedded.pooled * sounds.teacher_embedding).sum(1)
            terms["teacher_embedding"] = (1 - cosine[taught]).mean()
        if silent.any():
            to_silence = embedded.pooled[silent] @ self.prompts.silence[self.template]
            terms["silence"] = silence_loss(similar[silent], to_silence).mean()
        return terms

    def _tagger_terms(
        self, sounds: SoundBatch, embedded: Embedded, scale: Tensor
    ) -> dict[str, Tensor]:
        loud, classes = ~sounds.silent, self.prompts.classes[self.template]
        scores = sounds.scores[loud]
        whole = clip_level(scores, self.silent_class)
        to_clip = embedded.pooled[loud] @ classes.T
        to_stretches = embedded.stretches[loud] @ classes.T
        return {
            "tagger": tagger_loss(to_clip, whole, scale).mean(),
            "tagger_steps": tagger_loss(to_stretches, scores, scale).mean(),
        }

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate."""
        done = self.epoch_counter.current - 1 + self.step / self.steps
        total, warmup = self.options.number_of_epochs, self.options.warmup_epochs
        lr = self.options.lr * cosine_decay(done, total, warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    # ---------------------------------------------------------------- stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the sums of the loss terms."""
        self.sums: dict[str, float] = {}
        self.template = 0
        self.steps = len(self.clips.rows("train")) // self.options.batch_size

    def on_stage_end(
        self, stage: sb.Stage, loss: float, epoch: int | None = None
    ) -> None:
        """Validate, log and save every `valid_every` epochs and after the last."""
        last = epoch == self.options.number_of_epochs
        if epoch is None or (epoch % self.options.valid_every and not last):
            return
        terms = {k: v / max(1, self.steps) for k, v in self.sums.items()}
        scales = {f"scale_{k}": v.exp().item() for k, v in self.modules.scales.items()}
        train = {"loss": loss, **terms, **scales}
        self.train_logger.log_stats({"epoch": epoch}, train, self.measure("valid"))
        self.checkpointer.save_and_keep_only(meta={"epoch": epoch}, num_to_keep=1)

    def test(self) -> dict[str, float]:
        """Measure the averaged model on the test clips, and log the metrics."""
        found = self.measure("test")
        self.train_logger.log_stats({"done": True}, test_stats=found)
        return found

    @torch.no_grad()
    def measure(self, split: str) -> dict[str, float]:
        """Metrics of the averaged model on valid or test, from `zero_shot_metrics`."""
        averaged: Any = self.average.module.eval()
        similar, target = self._similarities(averaged, split)
        nothing = torch.zeros_like(self.clips.mel[:1, 0])
        silence = self.embed(averaged, nothing).pooled @ self.prompts.labels[0].T
        return zero_shot_metrics(similar, target, silence.cpu(), self.clips.labels)

    def _similarities(self, modules: Any, split: str) -> tuple[Tensor, Tensor]:
        """Cosines [N, L] of a split's labelled clips and all labels; targets [N]."""
        rows, labels = self.clips.rows(split), self.prompts.labels[0]
        rows = rows[self.clips.target[rows] >= 0]
        parts = [
            self.embed(modules, self.clips.mel[part, 0]).pooled @ labels.T
            for part in rows.split(64)
            if len(part)
        ]
        similar = torch.cat([*parts, labels[:0] @ labels.T])
        return similar.cpu(), self.clips.target[rows]

    @torch.no_grad()
    def averaged_model(self) -> ClapModel:
        """The whole model with the averaged audio tower.

        Its logit scale is fitted on the validation clips if they have two labels or
        more: the learnt one suits augmented clips.
        """
        averaged: Any = self.average.module.eval()
        for name in ("audio_model", "audio_projection"):
            getattr(self.clap, name).load_state_dict(averaged[name].state_dict())
        similar, target = self._similarities(averaged, "valid")
        scale = averaged["scales"]["contrastive"].detach()
        occurring = target.unique()  # the labels that this split can be right on
        if len(occurring) > 1:
            index = torch.searchsorted(occurring, target)
            scale = torch.tensor(fit_logit_scale(similar[:, occurring], index)).log()
        self.clap.logit_scale_a.copy_(scale)
        self.clap.logit_scale_t.copy_(scale)
        return self.clap


def label_terms(
    sounds: SoundBatch, similar: Tensor, scale: Tensor
) -> dict[str, Tensor]:
    """Terms that pull sounds to their labels, from their cosines ``similar [B, L]``.

    contrastive, over all sounds with a label; alignment, the mean of 1 - cosine of
    those without a teacher embedding: a composite is more than its labels. 0 where
    there are none.
    """
    zero = similar.sum() * 0  # so that there is a gradient
    terms, present = {"contrastive": zero, "alignment": zero}, sounds.present
    labelled = (present.sum(1) > 0) & ~sounds.silent
    if labelled.any():
        cost = contrastive_loss(similar[labelled], present[labelled], scale)
        terms["contrastive"] = cost.mean()
    labelled = labelled & ~sounds.teacher_embedding.any(1)
    if labelled.any():
        true = (similar * present).sum(1)[labelled] / present.sum(1)[labelled]
        terms["alignment"] = (1 - true).mean()
    return terms


def zero_shot_metrics(
    similar: Tensor, target: Tensor, silence: Tensor, labels: list[str]
) -> dict[str, float]:
    """Zero-shot accuracy, and the margins that explanations rely on.

    From cosines with all L labels: `similar` [N, L] of labelled clips, whose labels are
    `target` [N], and `silence` [1, L] of digital silence. Accuracies as in
    `accuracies`, ESC-10's clips among its ten labels; true_pair is the mean cosine of
    clip and label; silence is the highest cosine of digital silence, the only metric
    without clips.
    """
    found = {"silence": float(silence.max())}
    if not len(target):
        return found
    true = similar.gather(1, target[:, None])
    found = {"true_pair": float(true.mean()), **found}
    return {**accuracies(similar, target, labels, ESC10), **found}
