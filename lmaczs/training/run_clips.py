"""The clips of a run: those that can be read, and those that may be tested on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from speechbrain.utils.distributed import if_main_process

from lmaczs.data.recordings import (
    RECORDINGS,
    Recording,
    Recordings,
    changed_recordings,
    inspect_recordings,
    read_recordings,
    with_digests,
    write_recordings,
)
from lmaczs.data.splits import SPLITS, Splits
from lmaczs.model_file import LEARNT
from lmaczs.training.distributed import gather
from lmaczs.training.learnt import (
    Learnt,
    joined,
    learnt_by,
    named,
    read_learnt,
    with_clips,
    without_learnt,
    write_learnt,
)
from lmaczs.training.run_identity import is_trained
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

PLACES = ("output_folder", "save_folder", "max_unreadable")
"""Keys of a YAML that `clips_of_run` takes."""


@dataclass(frozen=True)
class RunClips:
    """Clips of a run, and what is known of their recordings.

    Attributes
    ----------
    splits : Splits
        What is trained, validated and tested on, with the column sha256.
    recordings : mapping
        By path; of clips in shards there is none.
    learnt : mapping
        What the run and what it begins with have learnt, and will.
    changed : sequence of str
        Paths of recordings that are not what they were when the run began.
    """

    splits: Splits
    recordings: Recordings
    learnt: Learnt
    changed: Sequence[str] = ()

    @property
    def table(self) -> pd.DataFrame:
        """All clips, in the order of the table that was split."""
        tables = [getattr(self.splits, name) for name in SPLITS]
        return pd.concat(tables).sort_index().reset_index(drop=True)


def clips_of_run(
    splits: Splits,
    output_folder: str,
    save_folder: str,
    max_unreadable: float,
    starts: Iterable[Path] = (),
) -> RunClips:
    """Read the recordings of a run, and leave out what does not serve.

    Parameters
    ----------
    splits : Splits
        All clips.
    output_folder : str
        Of the run; recordings that it notes are not read again.
    save_folder : str
        Of its checkpoints.
    max_unreadable : float
        Fraction of the clips, from which on it is an error if they cannot be read.
    starts : iterable of Path, optional
        Folders of models that the run begins with: what they have learnt counts as
        learnt.

    Returns
    -------
    RunClips
        Without clips that cannot be read, or whose samples are not finite or absurd;
        and without those to validate or test on that are learnt.

    Raises
    ------
    InputError
        If too many clips cannot be read, none is left to test on, or a folder does not
        state what was learnt in it.
    """
    known, recordings = {}, dict[str, Recording]()
    if if_main_process():
        known = read_recordings(Path(output_folder, RECORDINGS))
        paths = [path for name in SPLITS for path in getattr(splits, name).path]
        recordings = inspect_recordings(paths, known)
    recordings = gather(recordings)[0]
    splits = without_unreadable(splits, recordings, max_unreadable)
    tables = {name: with_digests(getattr(splits, name), recordings) for name in SPLITS}
    splits = Splits(**tables)
    trained = is_trained(output_folder, save_folder)
    if trained and not Path(output_folder, LEARNT).is_file():
        raise InputError(
            f"output_folder {output_folder} holds a training of an older version, and "
            f"which clips it learnt is not known ({LEARNT} is missing): choose another "
            "--output_folder"
        )
    own = [read_learnt(output_folder)] if trained else []
    before = joined([*own, *map(learnt_by, starts)])
    learnt = with_clips(before, splits.train)
    splits = without_learnt(splits, learnt)
    return RunClips(splits, recordings, learnt, changed_recordings(known, recordings))


def without_unreadable(
    splits: Splits, recordings: Recordings, max_unreadable: float
) -> Splits:
    """Leave out clips of recordings with a problem, and log which, and how many.

    `InputError` if they are more than a fraction `max_unreadable` of all.
    """
    bad = {path: one.problem for path, one in recordings.items() if one.problem}
    tables = {name: getattr(splits, name) for name in SPLITS}
    kept = {name: table[~table.path.isin(bad)] for name, table in tables.items()}
    total = sum(map(len, tables.values()))
    lost = total - sum(map(len, kept.values()))
    if not lost:
        return splits
    names = named([f"{path}: {problem}" for path, problem in bad.items()])
    text = f"{lost} of {total} clips cannot be learnt from ({names})"
    if lost > max_unreadable * total:
        raise InputError(
            f"{text}: mend them or take them out of the list, or give a higher "
            f"--max_unreadable than {max_unreadable:g}"
        )
    logger.warning("%s: they are left out", text)
    return replace(splits, **kept)


def note_clips(output_folder: str | Path, clips: RunClips) -> None:
    """Write what is known of a run's recordings, and what it learns."""
    write_recordings(Path(output_folder, RECORDINGS), clips.recordings)
    write_learnt(output_folder, clips.learnt)
