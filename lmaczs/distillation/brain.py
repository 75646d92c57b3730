"""The Brain that trains a small CLAP's audio tower.

The losses are in `lmaczs.distillation.losses`, the sounds of a step in
`lmaczs.distillation.batches`, the data in `lmaczs.distillation.clip_cache` and
`lmaczs.distillation.composite_cache`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import ClapModel, PreTrainedTokenizerBase

from lmaczs.audio.scales import power_to_db
from lmaczs.clap import FrozenClap
from lmaczs.data.esc50 import ESC10
from lmaczs.distillation.batches import STEPS, SoundDrawer
from lmaczs.distillation.clip_cache import NO_LABEL, ClipBank, label_weights
from lmaczs.distillation.composite_cache import CompositeBank, TeacherMap
from lmaczs.distillation.losses import (
    clip_level,
    contrastive_loss,
    fit_logit_scale,
    silence_loss,
    tagger_loss,
)
from lmaczs.metrics.classification import accuracies
from lmaczs.training.checkpoints import AtomicCheckpointer


class ClapBrain(sb.Brain):
    """Trains the audio tower; the text tower is only asked, before training.

    Parameters
    ----------
    model : ClapModel
        With a trained text tower.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    clips : ClipBank
        The data.
    hparams : dict
        Of hparams/clap_small.yaml.
    run_opts : dict
        SpeechBrain's run options.
    """

    def __init__(
        self,
        model: ClapModel,
        tokenizer: PreTrainedTokenizerBase,
        clips: ClipBank,
        hparams: dict[str, Any],
        run_opts: dict[str, Any],
    ) -> None:
        scales = nn.ParameterDict(
            {"contrastive": torch.tensor(2.66), "tagger": torch.tensor(2.66)}
        )
        modules = {
            "audio_model": model.audio_model,
            "audio_projection": model.audio_projection,
            "scales": scales,
        }
        optimizer = partial(
            torch.optim.AdamW,
            lr=hparams["peak_lr"],
            weight_decay=hparams["weight_decay"],
        )
        checkpointer = AtomicCheckpointer(hparams["save_folder"])
        run_opts = {**run_opts, "skip_nonfinite_grads": True}
        super().__init__(modules, optimizer, hparams, run_opts, checkpointer)
        self.clap, self.clips = model, clips
        self.average = AveragedModel(
            self.modules,
            multi_avg_fn=get_ema_multi_avg_fn(hparams["average_decay"]),
            use_buffers=True,
        )
        checkpointer.add_recoverables(
            {
                **modules,
                "average": self.average,
                "counter": hparams["epoch_counter"],
            }
        )
        names = clips.class_names
        self.silent_class = names.index("Silence") if "Silence" in names else None
        self._embed_prompts(model, tokenizer)
        self.drawer = SoundDrawer(clips, self.silence.shape[-1], hparams)

    def _embed_prompts(self, model: ClapModel, tokenizer: Any) -> None:
        """Every text in every template, once: [templates, texts, D]."""
        frozen = FrozenClap(model, self.hparams.feature_extractor, tokenizer)
        model.audio_model.requires_grad_(True)
        model.audio_projection.requires_grad_(True)

        def bank(texts: list[str], captions: list[bool] | None = None) -> Tensor:
            whole = captions or [False] * len(texts)
            rows = [
                [
                    text if caption else template.format(text.lower())
                    for text, caption in zip(texts, whole, strict=True)
                ]
                for template in self.hparams.templates
            ]
            return torch.stack([frozen.encode_text(r) for r in rows]).to(self.device)

        self.label_bank = bank(self.clips.labels, self.clips.captions)
        self.class_bank = bank(self.clips.class_names or ["sound"])
        self.silence = bank(["silence"])

    def hear_composites(self, composites: CompositeBank, heard: Tensor) -> None:
        """Learn from composites, too, beside the clips of every batch.

        Parameters
        ----------
        composites : CompositeBank
            Made of the labelled training clips.
        heard : Tensor [n, 2 E]
            What the tagger hears in those, from `load_composites`.
        """
        target = self.clips.target[self.clips.rows("train")]
        text = self.label_bank[0][target[target != NO_LABEL]].cpu()
        self.drawer.composites = composites
        self.drawer.goals = TeacherMap(heard, text)(composites.heard)

    def train_loader(self) -> torch.utils.data.DataLoader:
        """Batches of clip indices, rare labels drawn more often.

        Returns
        -------
        DataLoader

        Raises
        ------
        ValueError
            If there are fewer clips than a batch takes: no step would be made.
        """
        rows = self.clips.rows("train")
        batch = self.hparams.batch_size
        if len(rows) < batch:
            raise ValueError(f"batch_size is {batch}, but train has {len(rows)} clips")
        target = self.clips.target[rows]
        weights = label_weights(target, self.hparams.class_balance)
        # Brain.fit gives it the epoch; without that each epoch would draw the same
        self.train_sampler = ReproducibleWeightedRandomSampler(
            weights, len(rows), replacement=True, seed=self.hparams.seed
        )
        return torch.utils.data.DataLoader(
            rows, batch, sampler=self.train_sampler, drop_last=True
        )

    # -------------------------------------------------------------- one step

    def compute_forward(self, batch: Tensor, stage: sb.Stage) -> dict[str, Tensor]:
        """Augment a batch and embed it.

        Parameters
        ----------
        batch : Tensor [B]
            Indices of clips.
        stage : Stage
            Only ``TRAIN`` augments.

        Returns
        -------
        dict
            embedding [B, D], steps [B, S, D] (of S stretches of time), present
            [B, L], scores [B, S, K], goal [B, D], silent [B] bool; B clips and
            composites.
        """
        silent = torch.zeros(len(batch), dtype=torch.bool)
        if stage == sb.Stage.TRAIN:
            rng = self._rng()
            sounds, silent = self.drawer.for_training(batch, rng, self.hardness())
            self.template = torch.randint(
                len(self.hparams.templates), (1,), generator=rng
            )
        else:
            sounds = self.drawer.as_they_are(batch)
        pooled, steps = self._encode(self.modules, sounds.mel)
        return {
            "embedding": pooled,
            "steps": steps,
            "present": sounds.present.to(self.device),
            "scores": sounds.scores.to(self.device),
            "goal": sounds.goal.to(self.device),
            "silent": silent.to(self.device),
        }

    def _rng(self) -> Generator:
        """Chance that depends on seed, epoch and step alone, so a resume repeats it."""
        epoch = self.hparams.epoch_counter.current
        seed = (self.hparams.seed * 100003 + epoch) * 100003 + self.step
        return Generator().manual_seed(seed % 2**63)

    def hardness(self) -> float:
        """How hard the augmentations are: eased in, or a small set is never learnt.

        Returns
        -------
        float
            0 during the first quarter of the epochs, `hardest` after three quarters.
        """
        done = self.hparams.epoch_counter.current / self.hparams.number_of_epochs
        return self.hparams.hardest * min(1.0, max(0.0, 2 * (done - 0.25)))

    def _encode(self, modules: Any, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of clips [B, D] and of S stretches of each [B, S, D]."""
        decibels = power_to_db(mel.to(self.device))
        log_mel = decibels.transpose(1, 2)[:, None].contiguous()
        out = modules["audio_model"](log_mel)
        in_time = out.last_hidden_state.mean(2)  # of [B, C, frequency, time]
        in_time = nn.functional.adaptive_avg_pool1d(in_time, STEPS).transpose(1, 2)
        project = modules["audio_projection"]
        return (
            nn.functional.normalize(project(out.pooler_output), dim=-1),
            nn.functional.normalize(project(in_time), dim=-1),
        )

    def compute_objectives(
        self, predictions: dict[str, Tensor], batch: Tensor, stage: sb.Stage
    ) -> Tensor:
        """Weighted sum of the loss terms.

        Parameters
        ----------
        predictions : dict
            From `compute_forward`.
        batch : Tensor [B]
            Not used.
        stage : Stage
            Not used.

        Returns
        -------
        Tensor
            Scalar.
        """
        terms = self._terms(predictions)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        return sum(self.hparams.weights[name] * value for name, value in terms.items())

    def _terms(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every term of the loss, a mean over the clips that it speaks of."""
        embedding, goal = predictions["embedding"], predictions["goal"]
        silent, labels = predictions["silent"], self.label_bank[self.template][0]
        limit = self.hparams.scale_limit
        scale = {k: v.exp().clamp(max=limit) for k, v in self.modules.scales.items()}
        similar = embedding @ labels.T
        known = goal.any(1)  # of composites, which are more than their labels
        terms = self._label_terms(predictions, similar, scale["contrastive"], known)
        if self.clips.class_names and not silent.all():
            terms |= self._tagger_terms(predictions, scale["tagger"])
        if known.any():
            terms["goal"] = (1 - (embedding * goal).sum(1)[known]).mean()
        if silent.any():
            nothing = self.silence[self.template][0, 0]
            to_silence = embedding[silent] @ nothing
            terms["silence"] = silence_loss(similar[silent], to_silence).mean()
        return terms

    @staticmethod
    def _label_terms(
        predictions: dict[str, Tensor], similar: Tensor, scale: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        present = predictions["present"]
        named = (present.sum(1) > 0) & ~predictions["silent"]
        nothing = similar.sum() * 0
        terms = {"contrastive": nothing, "pull": nothing}
        if named.any():
            cost = contrastive_loss(similar[named], present[named], scale)
            terms["contrastive"] = cost.mean()
        named = named & ~known
        if named.any():
            true = (similar * present).sum(1)[named] / present.sum(1)[named]
            terms["pull"] = (1 - true).mean()
        return terms

    def _tagger_terms(
        self, predictions: dict[str, Tensor], scale: Tensor
    ) -> dict[str, Tensor]:
        loud, classes = ~predictions["silent"], self.class_bank[self.template][0]
        scores = predictions["scores"][loud]
        whole = clip_level(scores, self.silent_class)
        to_clip = predictions["embedding"][loud] @ classes.T
        to_steps = predictions["steps"][loud] @ classes.T
        return {
            "tagger": tagger_loss(to_clip, whole, scale).mean(),
            "tagger_steps": tagger_loss(to_steps, scores, scale).mean(),
        }

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate: warm-up, then a cosine to zero."""
        done = self.hparams.epoch_counter.current - 1 + self.step / self.steps
        warmup, total = self.hparams.warmup_epochs, self.hparams.number_of_epochs
        fraction = torch.tensor((done - warmup) / max(1e-9, total - warmup)).clamp(0, 1)
        cosine = 0.5 * (1 + float(torch.cos(torch.pi * fraction)))
        warm = min(1.0, (done + 1e-3) / warmup) if warmup else 1.0
        lr = self.hparams.peak_lr * warm * cosine
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: Tensor, should_step: bool
    ) -> None:
        """Follow the weights with their moving average."""
        self.average.update_parameters(self.modules)

    # ---------------------------------------------------------------- stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Start the sums of an epoch.

        Parameters
        ----------
        stage : Stage
            Training only here.
        epoch : int, optional
            Its number.
        """
        self.sums: dict[str, float] = {}
        self.template = torch.tensor([0])
        self.steps = len(self.clips.rows("train")) // self.hparams.batch_size

    def on_stage_end(
        self, stage: sb.Stage, loss: float, epoch: int | None = None
    ) -> None:
        """Log the terms; every `valid_every` epochs measure and save.

        Parameters
        ----------
        stage : Stage
            Training only here.
        loss : float
            Mean over the epoch.
        epoch : int, optional
            Its number.
        """
        last = epoch == self.hparams.number_of_epochs
        if epoch % self.hparams.valid_every and not last:
            return
        terms = {k: v / max(1, self.steps) for k, v in self.sums.items()}
        scales = {f"scale_{k}": v.exp().item() for k, v in self.modules.scales.items()}
        self.hparams.train_logger.log_stats(
            {"epoch": epoch}, {"loss": loss, **terms, **scales}, self.figures("valid")
        )
        self.checkpointer.save_and_keep_only(meta={"epoch": epoch}, num_to_keep=1)

    def test(self) -> dict[str, float]:
        """Figures of the averaged model on the test clips.

        Returns
        -------
        dict
            See `figures`.
        """
        figures = self.figures("test")
        self.hparams.train_logger.log_stats({"done": True}, test_stats=figures)
        return figures

    @torch.no_grad()
    def figures(self, split: str) -> dict[str, float]:
        """Zero-shot accuracy and the margins that explanations rely on.

        Parameters
        ----------
        split : str
            valid or test.

        Returns
        -------
        dict
            Mean similarity of true pairs; highest similarity of digital silence to a
            label; accuracy of ESC-10 clips among ten labels; top-1 and top-5 of the
            other clips (of all clips where the labels are others) among all labels.
            Of a split without labelled clips only silence's.
        """
        averaged = self.average.module
        averaged.eval()
        similar, target = self._similarities(averaged, split)
        nothing = torch.zeros_like(self.clips.mel[:1, 0])
        silence = self._encode(averaged, nothing)[0] @ self.label_bank[0].T
        figures = {"silence": float(silence.max())}
        if not len(target):
            return figures
        true = similar.gather(1, target[:, None])
        figures = {"true_pair": float(true.mean()), **figures}
        return {**accuracies(similar, target, self.clips.labels, ESC10), **figures}

    def _similarities(self, modules: Any, split: str) -> tuple[Tensor, Tensor]:
        """Cosines of a split's labelled clips and all labels, and the right ones."""
        rows = self.clips.rows(split)
        rows = rows[self.clips.target[rows] >= 0]
        parts = [
            self._encode(modules, self.clips.mel[part, 0])[0]
            for part in rows.split(64)
            if len(part)
        ]
        audio = torch.cat([*parts, self.label_bank[0, :0]])
        return (audio @ self.label_bank[0].T).cpu(), self.clips.target[rows]

    def averaged_model(self) -> ClapModel:
        """The whole model with the averaged audio tower.

        Its logit scale is fitted on the validation clips, where they have two labels
        or more: the one that was learnt belongs to augmented clips.

        Returns
        -------
        ClapModel
        """
        averaged = self.average.module
        self.clap.audio_model.load_state_dict(averaged["audio_model"].state_dict())
        self.clap.audio_projection.load_state_dict(
            averaged["audio_projection"].state_dict()
        )
        averaged.eval()
        with torch.no_grad():
            similar, target = self._similarities(averaged, "valid")
            scale = averaged["scales"]["contrastive"].detach()
            asked = target.unique()  # the labels that this split can be right on
            if len(asked) > 1:
                place = torch.searchsorted(asked, target)
                scale = torch.tensor(fit_logit_scale(similar[:, asked], place)).log()
            self.clap.logit_scale_a.copy_(scale)
            self.clap.logit_scale_t.copy_(scale)
        return self.clap
