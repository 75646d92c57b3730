"""The SpeechBrain Brain that trains a mask decoder against a frozen CLAP."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lmaczs.clap import FrozenClap
from lmaczs.data.prompted_dataset import PromptedClips, collate
from lmaczs.explanation import explain
from lmaczs.frontend import cell_power
from lmaczs.metrics.faithfulness import class_probabilities, faithfulness_table
from lmaczs.objectives.objective import Objective, use_predicted_prompt
from lmaczs.objectives.source_power import SourcePower, relative_power, source_power
from lmaczs.objectives.terms import MaskedPairs
from lmaczs.training.distributed import gather
from lmaczs.training.group_brain import GroupBrain, means_over_clips, unit_float32
from lmaczs.utils.naming import slugify


class InterpreterBrain(GroupBrain):
    """Trains ``modules.decoder``; ``modules.clap`` never changes.

    Validated, tested, drawn and saved as ``decoder`` is the moving average of its
    weights: those of a single step sway between masks that are wide and narrow.

    Parameters
    ----------
    *args : Any
        As SpeechBrain's Brain. The hparams it reads are those of hparams/esc50.yaml.
    objective : Objective
        What the masks are trained for.
    **kwargs : Any
        As SpeechBrain's Brain.

    Attributes
    ----------
    average : AveragedModel
        The moving average; its module is a `MaskDecoder`.

    Notes
    -----
    `set_classes` must be called before fitting.
    """

    def __init__(self, *args: Any, objective: Objective, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective = objective
        self.train_stats: dict[str, float] | None = None
        self.average = AveragedModel(
            self.hparams.decoder,
            multi_avg_fn=get_ema_multi_avg_fn(self.hparams.average_decay),
        ).eval()
        if self.checkpointer is not None:
            parts = {"learner": self.hparams.decoder, "average": self.average}
            self.checkpointer.add_recoverables(parts)
            self.checkpointer.recoverables["decoder"] = self.average.module

    def set_classes(self, labels: list[str] | dict[str, str]) -> None:
        """Name the classes of the zero-shot classifier that the metrics speak of.

        Parameters
        ----------
        labels : list of str, or dict
            All labels of the data set; or of every class the sentence that asks for
            it, as `PromptedClips.classes` says them of a split.
        """
        self.labels = list(labels)
        if isinstance(labels, dict):
            self.class_text = self.clap.encode_text(list(labels.values()))
            return
        # All prompts of the training, at once: what a text's embedding is depends, in
        # its last bits, on the texts that it is encoded with, and a run that goes on
        # meets them in other company.
        prompts = [t.format(x) for t in self.hparams.templates for x in labels]
        self.class_text = self.clap.encode_text(prompts)[: len(labels)]

    @property
    def clap(self) -> FrozenClap:
        """The frozen CLAP."""
        return self.hparams.clap

    # -------------------------------------------------------------- one step

    def compute_forward(self, batch: dict[str, Any], stage: sb.Stage) -> MaskedPairs:
        """Decode a mask for every pair and encode what it keeps and what it leaves out.

        Parameters
        ----------
        batch : dict
            From `lmaczs.data.prompted_dataset.collate`.
        stage : Stage
            In validation and test the prompts are the predicted class and an absent
            one.

        Returns
        -------
        MaskedPairs
            In training with those optional fields alone that the objective needs.
        """
        front_end = self.clap.front_end
        samples = batch["samples"].to(self.device)
        wav = batch["wav"].to(self.device)
        spectrum = front_end.stft(wav)
        log_mel = front_end.stft_to_log_mel(spectrum)
        with torch.no_grad():
            encoding = self.clap.audio_features(log_mel)
        embedding = unit_float32(encoding.embedding)
        with self.full_precision():
            text, present, known = self._prompts(batch, embedding, stage)
        training = stage == sb.Stage.TRAIN
        decoder = self.modules.decoder if training else self.average.module
        masks = decoder(text, encoding.features, log_mel).float()
        masks = front_end.tile_mask(masks, samples)
        needs, domain = self.objective.needs, self.hparams.domain
        # metrics need what is masked out, whatever the objective does
        with_rest = not training or "masked_out" in needs
        scored = torch.cat([masks, 1 - masks[:, :1]], 1) if with_rest else masks
        encoded = self._embed_masked(spectrum, scored)
        prompts = masks.shape[1]
        power = sources = None
        if "power" in needs:
            power = relative_power(cell_power(front_end, spectrum, domain))
        if "sources" in needs and known.any():
            apart = batch["sources"].to(self.device)
            both = source_power(front_end, wav, spectrum, apart, prompts, domain)
            sources = SourcePower(*(x * known[:, None, None, None] for x in both))
        return MaskedPairs(
            text=text,
            present=present,
            masks=masks,
            embedding=embedding,
            masked_in=encoded[:, :prompts],
            classes=self.class_text.to(self.device),
            logit_scale=self.clap.logit_scale,
            masked_out=encoded[:, -1] if with_rest else None,
            power=power,
            sources=sources,
        )

    def _prompts(
        self, batch: dict[str, Any], embedding: Tensor, stage: sb.Stage
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts [B, P, D]; which are present [B, P]; whose sources are known [B]."""
        present = batch["present"].to(self.device)
        classes = self.class_text.to(self.device)
        predicted = classes[(embedding @ classes.T).argmax(-1)]
        unknown = torch.zeros(len(predicted), dtype=torch.bool, device=self.device)
        if stage == sb.Stage.TRAIN and not self.objective.explains_prediction:
            flat = [prompt for prompts in batch["prompts"] for prompt in prompts]
            text = self.clap.encode_text(flat).view(*present.shape, -1)
            same = self.objective.options.same_prompt_cosine
            replaced = batch["ask_predicted"]
            return use_predicted_prompt(text, present, replaced, predicted, same)
        if stage == sb.Stage.TRAIN:
            return predicted[:, None], present[:, :1], unknown
        absent = self.clap.encode_text([p[-1] for p in batch["prompts"]])
        there = torch.tensor([[True, False]], device=self.device)
        both = torch.stack([predicted, absent], 1)
        return both, there.expand(len(predicted), -1), unknown

    def _embed_masked(self, spectrum: Tensor, masks: Tensor) -> Tensor:
        """``f(M * X)`` [B, P, D] of every pair."""
        log_mel = self.clap.front_end.input_tf(spectrum, masks, self.hparams.domain)
        embedded = unit_float32(self.clap.audio_embedding(log_mel))
        return embedded.view(*masks.shape[:2], -1)

    def compute_objectives(
        self, predictions: MaskedPairs, batch: dict[str, Any], stage: sb.Stage
    ) -> Tensor:
        """Loss of a batch; its terms and, beyond training, the metrics are kept.

        Parameters
        ----------
        predictions : MaskedPairs
            From `compute_forward`.
        batch : dict
            The batch.
        stage : Stage
            Training or not.

        Returns
        -------
        Tensor
            Scalar.
        """
        with self.full_precision():
            terms = self.objective(predictions)
            clips = len(predictions.masks)
            self._keep({k: v.detach().expand(clips) for k, v in terms.items()})
            if stage != sb.Stage.TRAIN:
                self._keep(self._metrics(predictions, batch))
        return terms["loss"]

    def _metrics(self, pairs: MaskedPairs, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Every metric of a batch, one value per clip."""

        def probabilities(embedding: Tensor) -> Tensor:
            return class_probabilities(embedding, pairs.classes, pairs.logit_scale)

        assert pairs.masked_out is not None
        target = [self.labels.index(label) for label in batch["label"]]
        table = faithfulness_table(
            probabilities(pairs.embedding),
            probabilities(pairs.masked_in[:, 0]),
            probabilities(pairs.masked_out),
            pairs.masks[:, 0],
            torch.tensor(target, device=self.device),
        )
        return {**table, "MM_absent": pairs.masks[:, 1].mean((1, 2))}

    def _keep(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.kept.setdefault(name, []).append(value.float().cpu())

    def on_fit_start(self) -> None:
        """Begin; a fine-tuning's starting point is validated as its epoch 0.

        So it is what is tested and exported in the end where nothing that was learnt
        is better.
        """
        super().on_fit_start()
        fine_tuned = getattr(self.hparams, "measure_before", False)
        if fine_tuned and not self.checkpointer.list_checkpoints():
            self._validate_start()

    @torch.no_grad()
    def _validate_start(self) -> None:
        options = {**self.hparams.dataloader, "collate_fn": collate}
        loader = self.make_dataloader(
            self.hparams.valid_data, sb.Stage.VALID, ckpt_prefix=None, **options
        )
        self.on_stage_start(sb.Stage.VALID, epoch=0)
        self.modules.eval()
        for batch in loader:
            self.evaluate_batch(batch, sb.Stage.VALID)
        self.on_stage_end(sb.Stage.VALID, math.nan, epoch=0)

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: Tensor, should_step: bool
    ) -> None:
        """Follow the decoder's weights with their moving average.

        Parameters
        ----------
        batch : Any
            Not used.
        outputs : Any
            Not used.
        loss : Tensor
            Not used.
        should_step : bool
            Whether the weights have changed.
        """
        if should_step:
            self.average.update_parameters(self.hparams.decoder)

    # ---------------------------------------------------------------- stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Begin an epoch: empty what is kept, tell the data which epoch it is.

        Parameters
        ----------
        stage : Stage
            Training, validation or test.
        epoch : int, optional
            Its number.
        """
        self.kept: dict[str, list[Tensor]] = {}
        name = "test_data" if stage == sb.Stage.TEST else "valid_data"
        if classes := getattr(getattr(self.hparams, name, None), "classes", None):
            self.set_classes(classes)  # captions: every split has its own
        if stage == sb.Stage.TRAIN:
            self.hparams.train_data.epoch = epoch
            self._set_rate(epoch)

    def _set_rate(self, epoch: int) -> None:
        """Half a cosine over ``rate_epochs``: the first one has the whole rate."""
        done = min(1.0, (epoch - 1) / self.hparams.rate_epochs)
        rate = self.hparams.lr * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def on_stage_end(
        self, stage: sb.Stage, loss: float, epoch: int | None = None
    ) -> None:
        """Log; after validation keep the checkpoint if it is the best.

        Parameters
        ----------
        stage : Stage
            Training, validation or test.
        loss : float
            Not used: SpeechBrain's mean leaves out what is not finite.
        epoch : int, optional
            Its number.

        Raises
        ------
        RuntimeError
            If a validation gave values that are not finite.
        """
        kept = {name: torch.cat(values).detach() for name, values in self.kept.items()}
        stats = means_over_clips(gather(kept))
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        broken = sorted(k for k, v in stats.items() if not math.isfinite(v))
        if broken:
            raise RuntimeError(
                f"{stage.name.lower()}: {broken[0]} is not finite; the checkpoints of "
                "the epochs before are kept. A smaller lr may help."
            )
        if stage == sb.Stage.TEST:
            self.test_stats = stats
            self._log({"epoch loaded": self.hparams.epoch_counter.current}, test=stats)
            return
        self._log({"epoch": epoch}, self.train_stats, stats)
        self._checkpoint({"epoch": epoch, **stats})
        if epoch % self.hparams.examples_every == 0:
            self.write_examples(epoch)

    def _log(
        self,
        meta: dict[str, Any],
        train: dict[str, float] | None = None,
        valid: dict[str, float] | None = None,
        test: dict[str, float] | None = None,
    ) -> None:
        # in every process: those that do not write wait for the one that does
        self.hparams.train_logger.log_stats(meta, train, valid, test)
        board = self.hparams.tensorboard
        if board is None or board.writer is None or test is not None:
            return
        # not by log_stats: it counts its calls, from 1 again when a run goes on
        for stage, stats in (("train", train), ("valid", valid)):
            for name, value in (stats or {}).items():
                board.writer.add_scalar(f"{name}/{stage}", value, meta["epoch"])
        board.writer.flush()

    def _checkpoint(self, stats: dict[str, float]) -> None:
        key, mode = self.hparams.best_metric, self.hparams.best_mode
        if key not in stats:
            raise RuntimeError(f"best_metric is {key!r}, not one of {sorted(stats)}")
        self.checkpointer.save_and_keep_only(
            meta=stats,
            min_keys=[key] if mode == "min" else [],
            max_keys=[key] if mode == "max" else [],
        )

    def write_examples(self, epoch: int) -> None:
        """Explain a few fixed clips of the validation set, as pictures and sounds.

        Parameters
        ----------
        epoch : int
            Names the folder.
        """
        if not sb.utils.distributed.if_main_process():
            return
        data: PromptedClips = self.hparams.valid_data
        for index in self.hparams.example_clips[: len(data)]:
            item = data[index % len(data)]
            name = item["id"].replace("/", "_")  # an id of a manifest may hold one
            folder = Path(self.hparams.output_folder, "examples", name)
            prompts = [item["prompts"][0], item["prompts"][-1]]
            wav = item["wav"][: item["samples"]]
            explained = explain(
                self.clap,
                self.average.module,
                wav,
                prompts,
                self.clap.encode_text(prompts),
                model=self.hparams.model_name,
            )
            for one in explained:
                one.save(folder / slugify(one.prompt) / f"epoch-{epoch:03d}")
