"""Brains whose result is a moving average, and the one that trains a mask decoder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, IterableDataset

from lmaczs.clap import FrozenClap
from lmaczs.data.prompted_dataset import PromptedDataset, collate
from lmaczs.data.shards.dataset import ShardDataset
from lmaczs.decoder import Decoder
from lmaczs.explanation import explain
from lmaczs.frontend import Domain, cell_power
from lmaczs.metrics.faithfulness import class_probabilities, faithfulness_table
from lmaczs.objectives.guidance import LogMagnitude, log_magnitude
from lmaczs.objectives.objective import Objective, share_prompts, use_predicted_prompt
from lmaczs.objectives.paper import pair_similarity
from lmaczs.objectives.source_power import SourcePower, relative_power, source_power
from lmaczs.objectives.terms import MaskedPairs
from lmaczs.presence import presence, reference_text
from lmaczs.training.distributed import (
    DistributedBatchSampler,
    TrainingError,
    gather,
    gather_rows,
    means_over_clips,
    rank_indices,
)
from lmaczs.training.schedule import cosine_decay
from lmaczs.utils.errors import OptionError
from lmaczs.utils.naming import slugify
from lmaczs.utils.seeds import seed_of


class AveragedBrain(sb.Brain):
    """A Brain whose result is an exponential moving average of the trained weights.

    The module `trained` is averaged; `ema_decay` is the fraction of the average that
    remains after a step. With `use_buffers`, buffers (of a BatchNorm) are averaged,
    too, otherwise copied. The other arguments are SpeechBrain's. The checkpointer also
    saves the average and the epoch counter, as ``average`` and ``counter``.

    The result does not depend on the number of processes: SpeechBrain alone reorders
    and repeats clips for several processes, and each of them validates on all clips.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        opt_class: Callable[..., torch.optim.Optimizer] | None,
        *,
        trained: nn.Module,
        ema_decay: float,
        number_of_epochs: int,
        hparams: Mapping[str, Any] | None = None,
        run_opts: Any = None,
        checkpointer: Checkpointer | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.trained = trained
        decay = get_ema_multi_avg_fn(ema_decay)
        self.average = AveragedModel(
            trained, multi_avg_fn=decay, use_buffers=use_buffers
        ).eval()
        self.epoch_counter = EpochCounter(number_of_epochs)
        if self.checkpointer is not None:
            parts = {"average": self.average, "counter": self.epoch_counter}
            self.checkpointer.add_recoverables(parts)

    def make_dataloader(
        self,
        dataset: Dataset,
        stage: sb.Stage,
        ckpt_prefix: str | None = "dataloader-",
        **loader_kwargs: Any,
    ) -> Any:
        """Make the loader of this process's part of the data.

        In training, ``batch_size`` is that of all processes together. In validation and
        test, every clip goes to one process.
        """
        options = {
            # else every epoch would begin with empty memories (FileReader)
            "persistent_workers": loader_kwargs.get("num_workers", 0) > 0,
            "pin_memory": torch.device(self.device).type == "cuda",
            **loader_kwargs,
        }
        if hasattr(dataset, "make_loader"):  # it deals its clips to the processes
            loader = dataset.make_loader(**options)
            if ckpt_prefix is not None and self.checkpointer is not None:
                self.checkpointer.add_recoverable(ckpt_prefix + stage.name, loader)
            return loader
        if stage != sb.Stage.TRAIN and not isinstance(dataset, IterableDataset):
            options["sampler"] = rank_indices(len(dataset))  # type: ignore[arg-type]
        return super().make_dataloader(dataset, stage, ckpt_prefix, **options)

    def _train_loader_specifics(
        self, dataset: Dataset, loader_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Options of the training loader: the order is that of a single process."""
        if not self.distributed_launch or isinstance(dataset, IterableDataset):
            return super()._train_loader_specifics(dataset, loader_kwargs)
        order = ReproducibleRandomSampler(dataset, os.environ["SB_GLOBAL_SEED"])
        self.train_sampler = DistributedBatchSampler(order, loader_kwargs["batch_size"])
        taken = {"batch_size", "shuffle", "drop_last"}
        options = {k: v for k, v in loader_kwargs.items() if k not in taken}
        return {**options, "batch_sampler": self.train_sampler}

    def on_fit_start(self) -> None:
        """Give all processes one folder of checkpoints, with --debug, too."""
        if self.checkpointer is not None:
            folder = self.checkpointer.checkpoints_dir
            self.checkpointer.checkpoints_dir = gather(folder)[0]
        super().on_fit_start()

    def on_fit_batch_end(
        self, batch: Any, outputs: Any, loss: Tensor, should_step: bool
    ) -> None:
        """Update the moving average after a step of the optimizer."""
        if should_step:
            self.average.update_parameters(self.trained)

    def full_precision(self) -> torch.autocast:
        """Context without ``--precision=bf16``, which cannot resolve cosines."""
        return torch.autocast(torch.device(self.device).type, enabled=False)


@dataclass(frozen=True)
class TrainingOptions:
    """Keys of a training YAML that an InterpreterBrain reads.

    The rate falls from `lr` to 0 over `lr_decay_epochs`, which may be inf. The best
    checkpoint is that with the `checkpoint_mode` value of `checkpoint_metric`, a logged
    name of the validation. Every `examples_every` epochs the rows `example_clips` of
    the validation split are explained. In a part `choices_prob` of the training's
    batches the model chooses from `choices` prompts, drawn from all labels and the
    reference prompts, instead of from the labels: the predicted class is then often one
    that the clip is hardly similar to, as it is on other sounds.
    """

    output_folder: str
    model_name: str
    domain: Domain
    number_of_epochs: int
    lr: float
    lr_decay_epochs: float
    ema_decay: float
    checkpoint_metric: str
    checkpoint_mode: Literal["min", "max"]
    examples_every: int
    example_clips: Sequence[int]
    choices_prob: float = 0.0
    choices: int = 0

    def __post_init__(self) -> None:
        if self.checkpoint_mode not in ("min", "max"):
            raise OptionError(
                f"checkpoint_mode is {self.checkpoint_mode!r}: give min or max"
            )
        if self.choices_prob and self.choices < 1:
            raise OptionError(
                f"choices is {self.choices}: give 1 or more, or choices_prob 0"
            )

    @classmethod
    def from_hparams(cls, hparams: Mapping[str, Any]) -> TrainingOptions:
        """Take the values out of a loaded YAML."""
        return cls(**{field.name: hparams[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class ZeroShotClasses:
    """Classes of the zero-shot classifier of a split, and their prompts [K, D]."""

    labels: list[str]
    text: Tensor


class InterpreterBrain(AveragedBrain):
    """Trains a mask decoder against a frozen CLAP.

    Validation, test, example explanations and the checkpoints' ``decoder`` use the
    moving average of the decoder's weights; single steps oscillate between wide and
    narrow masks. ``learner`` in a checkpoint is the decoder itself.

    Parameters
    ----------
    clap : FrozenClap
        The model to be explained.
    decoder : Decoder
        Trained in place.
    objective : Objective
        Its loss is minimised.
    data : mapping of str to PromptedDataset or ShardDataset
        The splits train, valid and test.
    options : TrainingOptions
        From the YAML.
    opt_class : callable
        Makes the optimizer of the decoder's parameters.
    hparams : mapping, optional
        See `AveragedBrain`.
    run_opts : mapping, optional
        See `AveragedBrain`.
    checkpointer : Checkpointer, optional
        See `AveragedBrain`.
    train_logger : TrainLogger, optional
        SpeechBrain's, for a line an epoch.
    tensorboard : TensorboardLogger, optional
        SpeechBrain's, for curves.
    start_loader_opts : mapping, optional
        For a fine-tuning: arguments of the DataLoader with which its starting point is
        validated as epoch 0. If no later epoch validates better, the starting point is
        tested and exported.
    """

    def __init__(
        self,
        clap: FrozenClap,
        decoder: Decoder,
        objective: Objective,
        data: Mapping[str, PromptedDataset | ShardDataset],
        options: TrainingOptions,
        opt_class: Callable[..., torch.optim.Optimizer],
        hparams: Mapping[str, Any] | None = None,
        run_opts: Any = None,
        checkpointer: Checkpointer | None = None,
        train_logger: Any = None,
        tensorboard: Any = None,
        start_loader_opts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            {"decoder": decoder, "clap": clap},
            opt_class,
            trained=decoder,
            ema_decay=options.ema_decay,
            number_of_epochs=options.number_of_epochs,
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
        self.clap, self.decoder, self.objective = clap, decoder, objective
        self.data, self.options = data, options
        self.train_logger, self.tensorboard = train_logger, tensorboard
        self.start_loader_opts = start_loader_opts
        self.train_stats: dict[str, float] | None = None
        self.kept: dict[str, list[Tensor]] = {}
        self._classes: dict[str, ZeroShotClasses] = {}
        if self.checkpointer is not None:
            parts = {"learner": decoder, "decoder": self.averaged_decoder}
            self.checkpointer.add_recoverables(parts)

    @property
    def averaged_decoder(self) -> Decoder:
        """The decoder with the moving average of its weights."""
        return cast(Decoder, self.average.module)

    def classes(self, stage: sb.Stage) -> ZeroShotClasses:
        """Classes to predict from, encoded once; training has those of validation."""
        split = "test" if stage == sb.Stage.TEST else "valid"
        if split not in self._classes:
            prompts = self.data[split].classes
            text = self.clap.encode_text(list(prompts.values())).to(self.device)
            self._classes[split] = ZeroShotClasses(list(prompts), text)
        return self._classes[split]

    # -------------------------------------------------------------- one step

    def compute_forward(self, batch: dict[str, Any], stage: sb.Stage) -> MaskedPairs:
        """Decode a mask for every pair; encode the masked-in and the masked-out signal.

        In training, only the optional fields that the objective needs are computed; for
        the paper's objective the prompts are those of all clips of the batch, that of
        several processes together. In validation and test, they are the predicted class
        and an absent one.
        """
        front_end = self.clap.front_end
        samples = batch["samples"].to(self.device)
        wav = batch["wav"].to(self.device)
        spectrum = front_end.stft(wav)
        log_mel = front_end.stft_to_log_mel(spectrum)
        with torch.no_grad():
            encoding = self.clap.audio_features(log_mel)
        embedding = unit_float32(encoding.embedding)
        classes = self._choices(stage)
        with self.full_precision():
            text, present, known = self._prompts(batch, embedding, classes, stage)
        training = stage == sb.Stage.TRAIN
        decoder = self.modules.decoder if training else self.averaged_decoder
        masks = decoder(text, encoding.features, log_mel).float()
        masks = front_end.tile_mask(masks, samples)
        # metrics need what is masked out, whatever the objective does
        with_rest = not training or "masked_out" in self.objective.needs
        scored = torch.cat([masks, 1 - masks[:, :1]], 1) if with_rest else masks
        encoded = self._embed_masked(spectrum, scored)
        prompts = masks.shape[1]
        return MaskedPairs(
            text=text,
            present=present,
            masks=masks,
            embedding=embedding,
            masked_in=encoded[:, :prompts],
            classes=classes,
            logit_scale=self.clap.logit_scale,
            masked_out=encoded[:, -1] if with_rest else None,
            **self._needed(batch, spectrum, text, embedding, known),
        )

    def _needed(
        self,
        batch: dict[str, Any],
        spectrum: Tensor,
        text: Tensor,
        embedding: Tensor,
        known: Tensor,
    ) -> dict[str, Any]:
        """Further fields of `MaskedPairs` that the objective needs."""
        front_end, domain = self.clap.front_end, self.options.domain
        needs, found = self.objective.needs, dict[str, Any]()
        if "magnitude" in needs:
            clean = front_end.stft(batch["sources"][:, 0].to(self.device))
            both_spectra = (spectrum, clean)
            found["magnitude"] = LogMagnitude(
                *(log_magnitude(front_end, one, domain) for one in both_spectra)
            )
        if "power" in needs:
            found["power"] = relative_power(cell_power(front_end, spectrum, domain))
        if "presence" in needs:
            cosines = pair_similarity(text, embedding)
            found["presence"] = presence(cosines, embedding @ self.reference.T)
        if "sources" in needs and known.any():
            wav, apart = (batch[key].to(self.device) for key in ("wav", "sources"))
            given = front_end, wav, spectrum, apart, text.shape[1], domain
            both = source_power(*given)
            found["sources"] = SourcePower(
                *(x.mul_(known[:, None, None, None]) for x in both)
            )
        return found

    def _choices(self, stage: sb.Stage) -> Tensor:
        """Prompts [K, D] that the model chooses from; training may draw some."""
        classes, options = self.classes(stage).text, self.options
        if stage != sb.Stage.TRAIN:
            return classes
        # alike in all processes, and in a run that resumes
        rng = np.random.default_rng(seed_of(self.epoch_counter.current, str(self.step)))
        if rng.random() >= options.choices_prob:
            return classes
        every = torch.cat([classes, self.reference])
        drawn = rng.choice(len(every), min(options.choices, len(every)), replace=False)
        return every[torch.from_numpy(drawn)]

    @cached_property
    def reference(self) -> Tensor:
        """Embeddings [R, D] of the reference prompts, see `lmaczs.presence`."""
        return reference_text(self.clap).to(self.device)

    def _prompts(
        self, batch: dict[str, Any], embedding: Tensor, classes: Tensor, stage: sb.Stage
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts [B, P, D]; which are present [B, P]; whose sources are known [B]."""
        present = batch["present"].to(self.device)
        predicted = classes[(embedding @ classes.T).argmax(-1)]
        unknown = torch.zeros(len(predicted), dtype=torch.bool, device=self.device)
        if stage == sb.Stage.TRAIN and not self.objective.explains_prediction:
            used = 1 if self.objective.explains_batch else present.shape[1]
            flat = [prompt for row in batch["prompts"] for prompt in row[:used]]
            text = self.clap.encode_text(flat).view(len(present), used, -1)
            same = self.objective.options.same_prompt_cosine
            given = text, present[:, :used], batch["use_predicted"]
            text, present, known = use_predicted_prompt(*given, predicted, same)
            if self.objective.explains_batch:
                every, first = gather_rows(text[:, 0])
                text, present = share_prompts(every, first, len(text), same)
            return text, present, known
        if stage == sb.Stage.TRAIN:
            return predicted[:, None], present[:, :1], unknown
        absent = self.clap.encode_text([p[-1] for p in batch["prompts"]])
        there = torch.tensor([[True, False]], device=self.device)
        both = torch.stack([predicted, absent], 1)
        return both, there.expand(len(predicted), -1), unknown

    def _embed_masked(self, spectrum: Tensor, masks: Tensor) -> Tensor:
        """``f(M * X)`` [B, P, D] of every pair."""
        log_mel = self.clap.front_end.input_tf(spectrum, masks, self.options.domain)
        embedded = unit_float32(self.clap.audio_embedding(log_mel))
        return embedded.view(*masks.shape[:2], -1)

    def evaluate_batch(self, batch: dict[str, Any] | None, stage: sb.Stage) -> Tensor:
        """Evaluate a batch, unless none of its clips can be read."""
        return (
            torch.zeros(()) if batch is None else super().evaluate_batch(batch, stage)
        )

    def compute_objectives(
        self, predictions: MaskedPairs, batch: dict[str, Any], stage: sb.Stage
    ) -> Tensor:
        """Loss of a batch; keeps its terms and, outside training, the metrics."""
        with self.full_precision():
            terms = self.objective(predictions)
            clips = len(predictions.masks)
            self._keep({k: v.detach().expand(clips) for k, v in terms.items()})
            if stage != sb.Stage.TRAIN:
                labels = self.classes(stage).labels
                self._keep(self._metrics(predictions, batch, labels))
        return terms["loss"]

    def _metrics(
        self, pairs: MaskedPairs, batch: dict[str, Any], labels: list[str]
    ) -> dict[str, Tensor]:
        """Every metric of a batch, one value per clip."""

        def probabilities(embedding: Tensor) -> Tensor:
            return class_probabilities(embedding, pairs.classes, pairs.logit_scale)

        assert pairs.masked_out is not None
        target = None
        if all(batch["label"]):  # else the model's own ranks are all that is known
            places = [labels.index(label) for label in batch["label"]]
            target = torch.tensor(places, device=self.device)
        table = faithfulness_table(
            probabilities(pairs.embedding),
            probabilities(pairs.masked_in[:, 0]),
            probabilities(pairs.masked_out),
            pairs.masks[:, 0],
            target,
        )
        return {**table, "MM_absent": pairs.masks[:, 1].mean((1, 2))}

    def _keep(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.kept.setdefault(name, []).append(value.float().cpu())

    # ---------------------------------------------------------------- stages

    def on_fit_start(self) -> None:
        """Begin or resume; validate a fine-tuning's starting point as epoch 0."""
        super().on_fit_start()
        begins = self.checkpointer is None or not self.checkpointer.list_checkpoints()
        if self.start_loader_opts is not None and begins:
            self._validate_start(self.start_loader_opts)

    @torch.no_grad()
    def _validate_start(self, options: Mapping[str, Any]) -> None:
        loader = self.make_dataloader(
            self.data["valid"],
            sb.Stage.VALID,
            ckpt_prefix=None,
            **{**options, "collate_fn": collate},
        )
        self.on_stage_start(sb.Stage.VALID, epoch=0)
        self.modules.eval()
        for batch in loader:
            self.evaluate_batch(batch, sb.Stage.VALID)
        self.on_stage_end(sb.Stage.VALID, math.nan, epoch=0)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Drop what was kept; in training, set the epoch of the data and the rate."""
        self.kept = {}
        if stage == sb.Stage.TRAIN:
            assert epoch is not None
            self.data["train"].epoch = epoch
            factor = cosine_decay(epoch - 1, self.options.lr_decay_epochs)
            update_learning_rate(self.optimizer, self.options.lr * factor)

    def on_stage_end(
        self, stage: sb.Stage, loss: float, epoch: int | None = None
    ) -> None:
        """Log; after validation, keep the checkpoint if it is the best.

        Raises TrainingError if a value of validation or test is not finite. `loss` is
        not used: SpeechBrain's mean leaves out values that are not finite.
        """
        kept = {name: torch.cat(values).detach() for name, values in self.kept.items()}
        stats = means_over_clips(gather(kept))
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        broken = sorted(k for k, v in stats.items() if not math.isfinite(v))
        if broken:
            raise TrainingError(
                f"{stage.name.lower()}: {broken[0]} is not finite; the checkpoints of "
                "the epochs before are kept. A smaller lr may help."
            )
        if stage == sb.Stage.TEST:
            self.test_stats = stats
            self._log({"epoch loaded": self.epoch_counter.current}, test=stats)
            return
        assert epoch is not None
        self._log({"epoch": epoch}, self.train_stats, stats)
        # before the checkpoint: a run that is killed in between writes them again
        if epoch % self.options.examples_every == 0:
            self.write_examples(epoch)
        self._checkpoint({"epoch": epoch, **stats})

    def _log(
        self,
        meta: dict[str, Any],
        train: dict[str, float] | None = None,
        valid: dict[str, float] | None = None,
        test: dict[str, float] | None = None,
    ) -> None:
        if self.train_logger is not None:
            # in every process: those that do not write wait for the one that does
            self.train_logger.log_stats(meta, train, valid, test)
        board = self.tensorboard
        if board is None or board.writer is None or test is not None:
            return
        # not by log_stats: it counts its calls, from 1 again when a run resumes
        for stage, stats in (("train", train), ("valid", valid)):
            for name, value in (stats or {}).items():
                board.writer.add_scalar(f"{name}/{stage}", value, meta["epoch"])
        board.writer.flush()

    def _checkpoint(self, stats: dict[str, Any]) -> None:
        key, mode = self.options.checkpoint_metric, self.options.checkpoint_mode
        if key not in stats:
            raise TrainingError(
                f"checkpoint_metric is {key!r}, not one of {sorted(stats)}"
            )
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(meta=stats, **{f"{mode}_keys": [key]})

    def write_examples(self, epoch: int) -> None:
        """Explain a few fixed validation clips; save pictures and sounds."""
        if not sb.utils.distributed.if_main_process():
            return
        data, options = self.data["valid"], self.options
        for index in options.example_clips[: len(data)]:
            item = data[index % len(data)]
            if item is None:  # it cannot be read
                continue
            name = item["id"].replace("/", "_")  # an id of a manifest may hold one
            folder = Path(options.output_folder, "examples", name)
            prompts = [item["prompts"][0], item["prompts"][-1]]
            explained = explain(
                self.clap,
                self.averaged_decoder,
                item["wav"][: item["samples"]],
                prompts,
                self.clap.encode_text(prompts),
                model=options.model_name,
            )
            for one in explained:
                one.save(folder / slugify(one.prompt) / f"epoch-{epoch:03d}")


def unit_float32(embedding: Tensor) -> Tensor:
    """Convert embeddings [..., D] in any precision to float32 of unit norm."""
    if embedding.dtype == torch.float32:
        return embedding
    return nn.functional.normalize(embedding.float(), dim=-1)
