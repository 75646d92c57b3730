"""Checkpoints that a kill at any moment leaves usable."""

from __future__ import annotations

import json
import logging
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
from lmaczs.utils.files import disk_errors
from lmaczs.utils.result_folder import file_sha256

logger = logging.getLogger(__name__)

PART = f".{METAFNAME}.part"
DIGESTS = "digests.json"  # of the other files of a checkpoint
DAMAGED = "damaged-"  # before the name of a checkpoint that was set aside


class AtomicCheckpointer(Checkpointer):
    """A checkpointer whose checkpoints exist only when they are complete.

    SpeechBrain recognises a checkpoint by its file CKPT.yaml and writes that first: a
    kill before the weights are written leaves a checkpoint that cannot be loaded, and
    the run cannot resume. Here the file gets its name last. Incomplete checkpoints of
    earlier kills are removed. A checkpoint of which a file was changed since, as by a
    failing disk, is set aside, and the one before is loaded. The arguments are those of
    SpeechBrain's Checkpointer.
    """

    def __init__(self, checkpoints_dir: str | Path, *args: Any, **kwargs: Any) -> None:
        super().__init__(checkpoints_dir, *args, **kwargs)
        if if_main_process():
            for folder in self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*"):
                if not (folder / METAFNAME).exists():
                    shutil.rmtree(folder, ignore_errors=True)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """Save a checkpoint; None in processes other than the main one."""
        with disk_errors(self.checkpoints_dir):
            saved = super().save_checkpoint(*args, **kwargs)
            if saved is not None:
                _write_digests(saved.path)
                os.replace(saved.path / PART, saved.path / METAFNAME)
        # what is to be deleted next is looked up on disk by every process
        ddp_barrier()
        return saved

    def recover_if_possible(self, *args: Any, **kwargs: Any) -> Checkpoint | None:
        """Load a checkpoint, the same one in all processes; None if there is none yet.

        Damaged ones are set aside before, with a warning. Raises TrainingError if the
        processes find different ones: they would resume from different weights. The
        arguments are those of SpeechBrain's Checkpointer.
        """
        if if_main_process():
            self._set_damaged_aside()
        ddp_barrier()
        chosen = self.find_checkpoint(*args, **kwargs)
        names = gather(chosen.path.name if chosen else "none")
        if len(set(names)) > 1:
            raise TrainingError(
                f"the processes find different checkpoints in {self.checkpoints_dir}, "
                f"by rank: {', '.join(names)}. Machines that train together need an "
                "output_folder on a disk that they share."
            )
        return super().recover_if_possible(*args, **kwargs)

    def _set_damaged_aside(self) -> None:
        for folder in sorted(self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*/")):
            name = damaged_file(folder)
            if name is None:
                continue
            aside = folder.with_name(DAMAGED + folder.name)
            os.replace(folder, aside)
            left = any(map(self._is_checkpoint_dir, self.checkpoints_dir.iterdir()))
            logger.warning(
                "Checkpoint %s is damaged (%s): it is now %s, and %s",
                folder,
                name,
                aside.name,
                "another one is loaded" if left else "training begins anew",
            )

    def _save_checkpoint_metafile(
        self, fpath: Path, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        return super()._save_checkpoint_metafile(fpath.with_name(PART), *args, **kwargs)


class WholeCheckpoints(Checkpointer):
    """Reads the checkpoints of a run that are whole, and changes none."""

    def _list_checkpoint_dirs(self) -> list[Path]:
        found = {path: damaged_file(path) for path in super()._list_checkpoint_dirs()}
        for path, name in found.items():
            if name is not None:
                logger.warning("Checkpoint %s is damaged (%s): left out", path, name)
        return [path for path, name in found.items() if name is None]


def _write_digests(checkpoint: Path) -> None:
    paths = sorted(path for path in checkpoint.iterdir() if path.is_file())
    found = {METAFNAME if p.name == PART else p.name: file_sha256(p) for p in paths}
    text = json.dumps(found, indent=1) + "\n"
    (checkpoint / DIGESTS).write_text(text, encoding="utf-8")


def damaged_file(checkpoint: Path) -> str | None:
    """Name of a file of a checkpoint that is not as it was saved, None if all are.

    Of a checkpoint of an older version, which has no digests, nothing is known.
    """
    noted = checkpoint / DIGESTS
    if not noted.is_file():
        return None
    try:
        digests = dict(json.loads(noted.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return DIGESTS
    for name, digits in digests.items():
        path = checkpoint / str(name)
        if not path.is_file() or file_sha256(path) != digits:
            return str(name)
    return None
