"""A Brain whose processes share every batch, and whose metrics are of all clips."""

from __future__ import annotations

import os
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.sampler import ReproducibleRandomSampler
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from lmaczs.data.shards.dataset import PromptedShards
from lmaczs.training.distributed import BatchParts, gather, own_part


class GroupBrain(sb.Brain):
    """SpeechBrain's Brain, for which the number of processes makes no difference.

    SpeechBrain deals the clips to several processes in another order than to one, with
    some of them twice, and lets every process validate on all of them.
    """

    def make_dataloader(
        self,
        dataset: Dataset,
        stage: sb.Stage,
        ckpt_prefix: str | None = "dataloader-",
        **loader_kwargs: Any,
    ) -> Any:
        """Loader of this process's part of the data.

        Parameters
        ----------
        dataset : Dataset
            Clips.
        stage : Stage
            In training, ``batch_size`` is that of all processes together. In
            validation and test, every clip goes to one process.
        ckpt_prefix : str, optional
            As in SpeechBrain.
        **loader_kwargs : Any
            Arguments of the DataLoader.

        Returns
        -------
        DataLoader
        """
        options = {
            # or each epoch would begin with empty memories (PromptedClips)
            "persistent_workers": loader_kwargs.get("num_workers", 0) > 0,
            "pin_memory": torch.device(self.device).type == "cuda",
            **loader_kwargs,
        }
        if isinstance(dataset, PromptedShards):
            loader = dataset.loader(**options)
            if ckpt_prefix is not None and self.checkpointer is not None:
                self.checkpointer.add_recoverable(ckpt_prefix + stage.name, loader)
            return loader
        if stage != sb.Stage.TRAIN and not isinstance(dataset, IterableDataset):
            options["sampler"] = own_part(len(dataset))
        return super().make_dataloader(dataset, stage, ckpt_prefix, **options)

    def _train_loader_specifics(
        self, dataset: Dataset, loader_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Options of the training loader: the order is that of a single process."""
        if not self.distributed_launch or isinstance(dataset, IterableDataset):
            return super()._train_loader_specifics(dataset, loader_kwargs)
        order = ReproducibleRandomSampler(dataset, os.environ["SB_GLOBAL_SEED"])
        self.train_sampler = BatchParts(order, loader_kwargs["batch_size"])
        taken = {"batch_size", "shuffle", "drop_last"}
        options = {k: v for k, v in loader_kwargs.items() if k not in taken}
        return {**options, "batch_sampler": self.train_sampler}

    def on_fit_start(self) -> None:
        """Begin: all processes have one folder of checkpoints, --debug or not."""
        if self.checkpointer is not None:
            folder = self.checkpointer.checkpoints_dir
            self.checkpointer.checkpoints_dir = gather(folder)[0]
        super().on_fit_start()

    def full_precision(self) -> torch.autocast:
        """Context in which ``--precision=bf16`` is of no effect.

        Cosines differ by less than bf16 can tell; and texts are encoded once for the
        whole run, in validation and test, too.

        Returns
        -------
        torch.autocast
        """
        return torch.autocast(torch.device(self.device).type, enabled=False)


def means_over_clips(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of every value over the clips of all processes.

    Parameters
    ----------
    parts : list of dict of str to Tensor [clips]
        What each process has kept; empty where it had no clip.

    Returns
    -------
    dict of str to float
        The same however the clips were dealt out.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [p[name] for p in parts if name in p] for name in names}
    return {name: float(torch.cat(v).double().mean()) for name, v in found.items()}


def unit_float32(embedding: Tensor) -> Tensor:
    """Embeddings whose cosines are exact to float32, from an encoder in any precision.

    Parameters
    ----------
    embedding : Tensor [..., D]
        Unit norm, as far as its precision can tell.

    Returns
    -------
    Tensor [..., D], float32
        Unit norm.
    """
    if embedding.dtype == torch.float32:
        return embedding
    return torch.nn.functional.normalize(embedding.float(), dim=-1)
