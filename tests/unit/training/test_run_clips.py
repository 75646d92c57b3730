"""The clips of a run: what cannot be learnt from is left out, up to a share."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from lmaczs.data.splits import Splits
from lmaczs.training.learnt import write_learnt
from lmaczs.training.run_clips import RunClips, clips_of_run, note_clips
from lmaczs.utils.errors import InputError


def split_of(folder: Path, name: str, count: int) -> pd.DataFrame:
    """Write clips of noise, each another one."""
    rng, rows = np.random.default_rng(list(name.encode())), []
    for number in range(count):
        path = folder / f"{name}{number}.wav"
        wav = rng.normal(0, 0.1, 800).astype(np.float32)
        soundfile.write(path, wav, 16000, subtype="FLOAT")
        rows.append((path.stem, str(path)))
    return pd.DataFrame(rows, columns=["id", "path"])


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    """Ten clips to train on, and five each to validate and test on."""
    train, valid = split_of(tmp_path, "train", 10), split_of(tmp_path, "valid", 5)
    return Splits(train, valid, split_of(tmp_path, "te", 5))


def break_clip(path: str) -> None:
    """Make a clip's samples NaN."""
    soundfile.write(path, np.full(800, np.nan, np.float32), 16000, subtype="FLOAT")


def of_run(splits: Splits, folder: Path, share: float = 0.1) -> RunClips:
    """Clips of a run whose checkpoints are in save."""
    return clips_of_run(splits, str(folder), str(folder / "save"), share)


def test_all_clips_serve(splits: Splits, tmp_path: Path) -> None:
    """They have their digests, and nothing is written yet."""
    found = of_run(splits, tmp_path / "out")
    assert list(found.splits.train.id) == list(splits.train.id)
    assert found.splits.train.sha256.nunique() == 10
    assert len(found.recordings) == 20
    assert found.learnt.keys() == set(found.splits.train.sha256)
    assert found.changed == []
    assert not (tmp_path / "out").exists()


def test_a_few_that_do_not_serve_are_named_and_left_out(
    splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of any split; two of twenty are a tenth."""
    for path in (splits.train.path[3], splits.test.path[0]):
        break_clip(path)
    found = of_run(splits, tmp_path / "out")
    assert list(found.splits.train.id) == [f"train{i}" for i in range(10) if i != 3]
    assert list(found.splits.test.id) == ["te1", "te2", "te3", "te4"]
    assert "2 of 20 clips cannot be learnt from" in caplog.text
    assert f"{splits.train.path[3]}: it holds NaN or infinite samples" in caplog.text
    assert "left out" in caplog.text


def test_more_than_the_share_is_an_error(splits: Splits, tmp_path: Path) -> None:
    """It names the first, and the option."""
    for path in splits.train.path[:3]:
        break_clip(path)
    message = r"3 of 20 clips .*train0\.wav: it holds NaN.*--max_unreadable than 0\.1$"
    with pytest.raises(InputError, match=message):
        of_run(splits, tmp_path / "out")
    assert len(of_run(splits, tmp_path / "out", 0.15).splits.train) == 7


def test_what_a_run_noted_is_compared(
    splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Recordings that changed are named; what was learnt is not tested on."""
    out = tmp_path / "out"
    first = of_run(splits, out)
    note_clips(out, first)
    assert of_run(splits, out).changed == []
    other = Splits(splits.test, splits.valid, splits.train)
    wav = np.random.default_rng(9).normal(0, 0.1, 800)
    soundfile.write(splits.train.path[0], wav, 16000, subtype="FLOAT")
    assert len(of_run(other, out).splits.test) == 10  # nothing was trained there
    (out / "test.json").touch()
    with caplog.at_level(logging.WARNING):
        found = of_run(other, out)
    assert found.changed == [splits.train.path[0]]
    assert list(found.splits.test.id) == ["train0"]  # which is another recording
    assert "9 of the 10 clips of split test were learnt" in caplog.text
    assert found.learnt.keys() >= first.learnt.keys()
    assert len(found.learnt) == 15


def test_a_training_that_does_not_state_what_it_learnt(
    splits: Splits, tmp_path: Path
) -> None:
    """Of an older version: its clips could be tested on."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "test.json").touch()
    with pytest.raises(InputError, match=r"learnt\.json is missing\): choose another"):
        of_run(splits, tmp_path / "out")


def test_what_the_starting_decoder_has_learnt(
    splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is learnt, too, and is passed on."""
    first = of_run(splits, tmp_path / "out")
    start = tmp_path / "decoder"
    write_learnt(start, first.learnt)
    other = Splits(splits.test, splits.valid, splits.train[2:])
    more = str(tmp_path / "out"), str(tmp_path / "out/save"), 0.1
    assert len(clips_of_run(other, *more).splits.test) == 8
    new = split_of(tmp_path, "new", 1)
    other = Splits(splits.test, splits.valid, pd.concat([splits.train, new]))
    found = clips_of_run(other, *more, [start])
    assert list(found.splits.test.id) == ["new0"]
    assert found.learnt.keys() == first.learnt.keys() | set(found.splits.train.sha256)
    assert "10 of the 11 clips of split test were learnt" in caplog.text


def test_the_table_has_the_order_that_was_split(splits: Splits, tmp_path: Path) -> None:
    """Without what does not serve."""
    table = pd.concat([splits.train, splits.test], ignore_index=True)
    table["split"] = [*["train", "test"] * 7, "train"]
    break_clip(table.path[2])
    found = of_run(Splits.of(table), tmp_path / "out").table
    assert list(found.id) == [name for i, name in enumerate(table.id) if i != 2]
    assert list(found.index) == list(range(14))
