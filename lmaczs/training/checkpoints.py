"""Checkpoints that a kill at any moment leaves usable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import (
    CKPT_PREFIX,
    METAFNAME,
    Checkpoint,
    Checkpointer,
)
from speechbrain.utils.distributed import ddp_barrier, if_main_process

from lmaczs.training.distributed import TrainingError, gather

PART = f".{METAFNAME}.part"


class AtomicCheckpointer(Checkpointer):
    """A checkpointer whose checkpoints exist only when they are complete.

    SpeechBrain recognises a checkpoint by its file CKPT.yaml and writes that first: a
    kill before the weights are written leaves a checkpoint that cannot be loaded, and
    the run cannot resume. Here the file gets its name last. Incomplete checkpoints of
    earlier kills are removed. The arguments are those of SpeechBrain's Checkpointer.
    """

    def __init__(self, checkpoints_dir: str | Path, *args: Any, **kwargs: Any) -> None:
        super().__init__(checkpoints_dir, *args, **kwargs)
        if if_main_process():
            for folder in self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*"):
                if not (folder / METAFNAME).exists():
                    shutil.rmtree(folder, ignore_errors=True)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """Save a checkpoint; None in processes other than the main one."""
        saved = super().save_checkpoint(*args, **kwargs)
        if saved is not None:
            os.replace(saved.path / PART, saved.path / METAFNAME)
        # what is to be deleted next is looked up on disk by every process
        ddp_barrier()
        return saved

    def recover_if_possible(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """Load a checkpoint, the same one in all processes; None if there is none yet.

        Raises TrainingError if the processes find different ones: they would resume
        from different weights. The arguments are those of SpeechBrain's Checkpointer.
        """
        chosen = self.find_checkpoint(*args, **kwargs)
        names = gather(chosen.path.name if chosen else "none")
        if len(set(names)) > 1:
            raise TrainingError(
                f"the processes find different checkpoints in {self.checkpoints_dir}, "
                f"by rank: {', '.join(names)}. Machines that train together need an "
                "output_folder on a disk that they share."
            )
        return super().recover_if_possible(*args, **kwargs)

    def _save_checkpoint_metafile(
        self, fpath: Path, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        return super()._save_checkpoint_metafile(fpath.with_name(PART), *args, **kwargs)
