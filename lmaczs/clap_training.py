"""Training of a small CLAP on labelled clips: data in memory, Brain, saving.

The losses are in `lmaczs.contrastive`, the augmentations in `lmaczs.augment`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleWeightedRandomSampler
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerBase,
)

from lmaczs import augment
from lmaczs.audio import load_audio
from lmaczs.audioset_teacher import AudioSetTagger, cache_clip_scores
from lmaczs.checkpoints import WholeCheckpointer
from lmaczs.clap import FrozenClap
from lmaczs.contrastive import contrastive_loss, silence_loss, tagger_loss
from lmaczs.datasets import ESC10, read_esc50
from lmaczs.frontend import FrontEnd, power
from lmaczs.text_tower import load_text_tower

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipBank:
    """All clips in memory.

    Attributes
    ----------
    table : DataFrame
        One row a clip: id, label, split and what the set carries.
    mel : Tensor [N, n_mels, T]
        Mel power.
    target : Tensor [N]
        Index of each clip's label in `labels`.
    labels : list of str
        All labels, sorted.
    scores : Tensor [N, K]
        The tagger's scores; K is 0 without one.
    class_names : list of str
        The tagger's K class names.
    """

    table: pd.DataFrame
    mel: Tensor
    target: Tensor
    labels: list[str]
    scores: Tensor
    class_names: list[str]

    def rows(self, split: str) -> Tensor:
        """Indices of a split's clips.

        Parameters
        ----------
        split : str
            train, valid or test.

        Returns
        -------
        Tensor [n]
        """
        return torch.from_numpy((self.table.split == split).to_numpy().nonzero()[0])


def load_clips(hparams: dict[str, Any]) -> ClipBank:
    """Read, split and score the clips that a YAML names.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.

    Returns
    -------
    ClipBank
    """
    table = hparams["split"](read_esc50(hparams["data_folder"]))
    labels = sorted(table.label.unique())
    front_end = FrontEnd(hparams["feature_extractor"])
    mel = torch.stack([clip_mel(front_end, path) for path in table.path])
    scores, names = tagger_scores(hparams, table.path)
    target = torch.tensor([labels.index(label) for label in table.label])
    return ClipBank(table, mel, target, labels, scores, names)


def clip_mel(front_end: FrontEnd, path: str) -> Tensor:
    """Mel power of a recording, fitted to the encoder's length.

    Parameters
    ----------
    front_end : FrontEnd
        The checkpoint's.
    path : str
        A recording.

    Returns
    -------
    Tensor [n_mels, T]
    """
    wav = load_audio(path, front_end.sample_rate)
    return front_end.mel_power(power(front_end.stft(front_end.fit_length(wav[None]))))[
        0
    ]


def tagger_scores(
    hparams: dict[str, Any], paths: Sequence[str]
) -> tuple[Tensor, list[str]]:
    """Scores of the tagger that a YAML names, or none.

    Parameters
    ----------
    hparams : dict
        Of hparams/clap_small.yaml.
    paths : sequence of str
        Recordings.

    Returns
    -------
    tuple
        Scores [N, K] and the K class names.
    """
    if hparams["tagger_model"] is None:
        return torch.zeros(len(paths), 0), []
    tagger = AudioSetTagger(hparams["tagger_model"], hparams["tagger_class_map"])
    cache = Path(hparams["output_folder"]) / "tagger_scores.npz"
    scores = cache_clip_scores(tagger, paths, cache)
    return (scores.mean + scores.max) / 2, tagger.class_names


def build_clap(
    audio_config: dict[str, Any], extractor: ClapFeatureExtractor, text_tower: str
) -> tuple[ClapModel, PreTrainedTokenizerBase]:
    """A ClapModel with a new audio tower and a trained text tower.

    Parameters
    ----------
    audio_config : dict
        Arguments of ClapAudioConfig.
    extractor : ClapFeatureExtractor
        Must have the audio tower's number of mel bands.
    text_tower : str
        Folder that recipes/train_text.py wrote.

    Returns
    -------
    tuple
        Model and tokenizer.

    Raises
    ------
    ValueError
        If extractor and audio tower do not fit.
    """
    if extractor.feature_size != audio_config["num_mel_bins"]:
        raise ValueError(
            f"feature_extractor has {extractor.feature_size} mel bands, "
            f"audio_config {audio_config['num_mel_bins']}"
        )
    text_config, projection, state, tokenizer = load_text_tower(text_tower)
    config = ClapConfig(
        text_config=text_config.to_dict(), audio_config=audio_config, **projection
    )
    model = ClapModel(config)
    lacking = model.load_state_dict(state, strict=False).missing_keys
    lost = [k for k in lacking if k.startswith(("text_model", "text_projection"))]
    lost = [k for k in lost if not k.endswith(("position_ids", "token_type_ids"))]
    if lost:
        raise ValueError(f"{text_tower} lacks weights of the text tower: {lost[:3]}")
    return model, tokenizer


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
        checkpointer = WholeCheckpointer(hparams["save_folder"])
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
        self._embed_prompts(model, tokenizer)

    def _embed_prompts(self, model: ClapModel, tokenizer: Any) -> None:
        """Every text in every template, once: [templates, texts, D]."""
        frozen = FrozenClap(model, self.hparams.feature_extractor, tokenizer)
        model.audio_model.requires_grad_(True)
        model.audio_projection.requires_grad_(True)

        def bank(texts: list[str]) -> Tensor:
            rows = [
                frozen.encode_text([t.format(x.lower()) for x in texts])
                for t in self.hparams.templates
            ]
            return torch.stack(rows).to(self.device)

        self.label_bank = bank(self.clips.labels)
        self.class_bank = bank(self.clips.class_names or ["sound"])
        self.silence = bank(["silence"])

    def train_loader(self) -> torch.utils.data.DataLoader:
        """Batches of clip indices, rare labels drawn more often.

        Returns
        -------
        DataLoader
        """
        rows = self.clips.rows("train")
        target = self.clips.target[rows]
        size = torch.bincount(target, minlength=len(self.clips.labels)).float()
        weights = size[target] ** -self.hparams.class_balance
        # Brain.fit gives it the epoch; without that each epoch would draw the same
        self.train_sampler = ReproducibleWeightedRandomSampler(
            weights, len(rows), replacement=True, seed=self.hparams.seed
        )
        return torch.utils.data.DataLoader(
            rows, self.hparams.batch_size, sampler=self.train_sampler, drop_last=True
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
            embedding [B, D], present [B, L], scores [B, K], silent [B] bool.
        """
        mel, present, scores = self._clean(batch)
        silent = torch.zeros(len(mel), dtype=torch.bool)
        if stage == sb.Stage.TRAIN:
            rng = self._rng()
            mel, present, scores = self._mix(mel, present, scores, rng)
            silent = torch.rand(len(mel), generator=rng) < self.hparams.silent_share
            mel = self._augment(mel, rng).masked_fill(silent[:, None, None], 0.0)
            self.template = torch.randint(
                len(self.hparams.templates), (1,), generator=rng
            )
        embedding = self._embed(self.modules, mel)
        return {
            "embedding": embedding,
            "present": (present * ~silent[:, None]).to(self.device),
            "scores": (scores * ~silent[:, None]).to(self.device),
            "silent": silent.to(self.device),
        }

    def _clean(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one_hot = nn.functional.one_hot(self.clips.target, len(self.clips.labels))
        return self.clips.mel[batch], one_hot[batch].float(), self.clips.scores[batch]

    def _rng(self) -> Generator:
        """Chance that depends on seed, epoch and step alone, so a resume repeats it."""
        epoch = self.hparams.epoch_counter.current
        seed = (self.hparams.seed * 100003 + epoch) * 100003 + self.step
        return Generator().manual_seed(seed % 2**63)

    def _mix(
        self, mel: Tensor, present: Tensor, scores: Tensor, rng: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        partner = torch.randperm(len(mel), generator=rng)
        level = 12 * torch.rand(len(mel), generator=rng) - 6
        share = self.hparams.mixture_share * (0.25 + 0.75 * self.hardness())
        mixed = torch.rand(len(mel), 1, generator=rng) < share
        second = augment.random_shift(mel[partner], rng)
        both = augment.mix(mel, second, level)
        heard = 1 - (1 - scores) * (1 - scores[partner])
        return (
            torch.where(mixed[:, None], both, mel),
            torch.where(mixed, present + present[partner], present),
            torch.where(mixed, heard, scores),
        )

    def _augment(self, mel: Tensor, rng: Generator) -> Tensor:
        mel = augment.random_shift(mel, rng)
        mel = augment.random_gain(mel, rng, -25.0, 5.0)
        mel = augment.random_filter(mel, rng, 8.0)
        hard = self.hardness()
        mel = augment.random_gate(mel, rng, 0.3 * hard)
        mel = augment.random_band(mel, rng, 0.15 * hard)
        for axis, share in ((1, 0.3), (2, 0.4)):
            mel = augment.random_stripes(mel, rng, axis, share * hard)
        return mel

    def hardness(self) -> float:
        """How hard the augmentations are: eased in, or a small set is never learnt.

        Returns
        -------
        float
            0 during the first quarter of the epochs, 1 after three quarters.
        """
        done = self.hparams.epoch_counter.current / self.hparams.number_of_epochs
        return min(1.0, max(0.0, 2 * (done - 0.25)))

    def _embed(self, modules: Any, mel: Tensor) -> Tensor:
        decibels = 10 * mel.to(self.device).clamp_min(1e-10).log10()
        log_mel = decibels.transpose(1, 2)[:, None].contiguous()
        pooled = modules["audio_model"](log_mel).pooler_output
        return nn.functional.normalize(modules["audio_projection"](pooled), dim=-1)

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
        audio, silent = predictions["embedding"], predictions["silent"]
        labels = self.label_bank[self.template][0]
        classes = self.class_bank[self.template][0]
        similar = audio @ labels.T
        scale = {k: v.exp().clamp(max=50) for k, v in self.modules.scales.items()}
        present = predictions["present"]
        loud = ~silent
        true = (similar * present).sum(1) / present.sum(1).clamp_min(1)
        terms = {
            "contrastive": contrastive_loss(
                similar[loud], present[loud], scale["contrastive"]
            ).mean(),
            "pull": (1 - true[loud]).mean(),
        }
        if self.clips.class_names:
            to_classes = audio[loud] @ classes.T
            scores = predictions["scores"][loud]
            terms["tagger"] = tagger_loss(to_classes, scores, scale["tagger"]).mean()
        if silent.any():
            to_silence = audio[silent] @ self.silence[self.template][0, 0]
            terms["silence"] = silence_loss(similar[silent], to_silence).mean()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        return sum(self.hparams.weights[name] * value for name, value in terms.items())

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
            Accuracy of ESC-10 clips among ten labels; top-1 and top-5 of the other
            clips among all labels; mean similarity of true pairs; highest similarity
            of digital silence to a label.
        """
        averaged = self.average.module
        averaged.eval()
        rows = self.clips.rows(split)
        audio = self._embed(averaged, self.clips.mel[rows])
        silence = self._embed(averaged, torch.zeros_like(self.clips.mel[:1]))
        prompts = self.label_bank[0]
        similar, target = (audio @ prompts.T).cpu(), self.clips.target[rows]
        ten = torch.tensor([self.clips.labels.index(label) for label in ESC10])
        in_ten = torch.isin(target, ten)
        ten_right = ten[similar[in_ten][:, ten].argmax(1)] == target[in_ten]
        top5 = similar[~in_ten].topk(5).indices == target[~in_ten, None]
        return {
            "accuracy_esc10": float(ten_right.float().mean()),
            "accuracy_other": float(top5[:, 0].float().mean()),
            "top5_other": float(top5.any(1).float().mean()),
            "true_pair": float(similar.gather(1, target[:, None]).mean()),
            "silence": float((silence @ prompts.T).max()),
        }

    def averaged_model(self) -> ClapModel:
        """The whole model with the averaged audio tower.

        Returns
        -------
        ClapModel
        """
        averaged = self.average.module
        self.clap.audio_model.load_state_dict(averaged["audio_model"].state_dict())
        self.clap.audio_projection.load_state_dict(
            averaged["audio_projection"].state_dict()
        )
        scale = averaged["scales"]["contrastive"].detach()
        with torch.no_grad():
            self.clap.logit_scale_a.copy_(scale)
            self.clap.logit_scale_t.copy_(scale)
        return self.clap


def save_clap(
    folder: Path,
    model: ClapModel,
    extractor: ClapFeatureExtractor,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Write a Hugging Face folder with half-precision weights.

    Parameters
    ----------
    folder : Path
        Made when missing.
    model : ClapModel
        Converted to half precision in place.
    extractor : ClapFeatureExtractor
        Front end.
    tokenizer : PreTrainedTokenizerBase
        Of the text tower.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ClapProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(
        folder
    )
    model.half().save_pretrained(folder)
