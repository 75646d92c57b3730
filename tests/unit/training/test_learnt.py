"""What was learnt is known by its content, and is tested on under no name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmaczs.data.splits import Splits
from lmaczs.hub import default_source
from lmaczs.training.learnt import (
    joined,
    learnt_by,
    named,
    read_learnt,
    with_clips,
    without_learnt,
    write_learnt,
)
from lmaczs.utils.errors import InputError
from lmaczs.utils.result_folder import file_sha256

NAN = float("nan")


def clips(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Clips by id, digest of their recording, start and stop."""
    return pd.DataFrame(rows, columns=["id", "sha256", "start", "stop"])


TRAIN = clips(("a", "1", NAN, NAN), ("b", "2", 0.0, 5.0), ("c", "2", 9.0, NAN))
VALID = clips(("v", "3", NAN, NAN))


def kept_of(test: pd.DataFrame, learnt: Any = None) -> list[str]:
    """Ids that are tested on, of a run that learns `TRAIN`."""
    splits = Splits(TRAIN, VALID, test)
    found = without_learnt(splits, with_clips(learnt or {}, TRAIN))
    assert found.train is TRAIN
    assert list(found.valid.id) == ["v"]
    return list(found.test.id)


@pytest.mark.parametrize(
    ("sha256", "start", "stop", "kept"),
    [
        ("1", NAN, NAN, False),  # a copy
        ("1", 3.0, 4.0, False),  # a part of a whole recording
        ("2", 5.0, 9.0, True),  # between two stretches
        ("2", 4.9, 6.0, False),
        ("2", 8.0, 9.1, False),
        ("2", NAN, NAN, False),
        ("2", None, None, False),
        ("4", NAN, NAN, True),
    ],
)
def test_stretches_that_overlap(
    sha256: str, start: float, stop: float, kept: bool
) -> None:
    """Of the same recording, whatever it is called; what only adjoins is another."""
    test = clips(("x", sha256, start, stop), ("other", "9", NAN, NAN))
    assert kept_of(test) == (["x", "other"] if kept else ["other"])


def test_what_an_earlier_start_learnt_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is noted, and added to; how much is left out, and what, is stated."""
    earlier = with_clips({}, clips(("x", "5", NAN, NAN)))
    write_learnt(tmp_path, earlier)
    learnt = read_learnt(tmp_path)
    assert learnt == earlier == {"5": [[0.0, 1e9]]}
    test = clips(("renamed", "5", NAN, NAN), ("new", "6", NAN, NAN))
    assert kept_of(test) == ["renamed", "new"]
    assert not caplog.records
    assert kept_of(test, learnt) == ["new"]
    assert "1 of the 2 clips of split test were learnt" in caplog.text
    assert caplog.text.strip().endswith("left out of it: renamed")
    both = with_clips(learnt, TRAIN)
    assert both.keys() == {"1", "2", "5"}
    assert with_clips(both, TRAIN) == both
    assert learnt == earlier


def test_what_several_runs_learnt() -> None:
    """The stretches of each recording together."""
    one = with_clips({}, clips(("a", "1", 0.0, 1.0), ("b", "2", 0.0, 1.0)))
    two = with_clips({}, clips(("c", "1", 3.0, 4.0)))
    assert joined([one, two]) == {"1": [[0.0, 1.0], [3.0, 4.0]], "2": [[0.0, 1.0]]}
    assert joined([]) == {}


def test_clips_in_shards_are_known_by_id() -> None:
    """Their recordings are in tars."""
    shard = clips(("a", "", NAN, NAN), ("b", "", NAN, NAN))
    splits = Splits(shard[:1], VALID, shard)
    found = without_learnt(splits, with_clips({}, splits.train))
    assert list(found.test.id) == ["b"]


def test_nothing_is_left_to_test_on() -> None:
    """One sentence, before anything is trained."""
    with pytest.raises(InputError, match=r"1 of the 1 clips .* no clip is left"):
        kept_of(TRAIN[:1])


def test_no_note_and_a_damaged_one(tmp_path: Path) -> None:
    """Without one nothing was learnt; of a damaged one that is not known."""
    assert read_learnt(tmp_path) == {}
    deep = '{"a": ' + "[" * 10**5 + "]" * 10**5 + "}"
    for text in (
        '{"a": [',
        "[]",
        '{"a": 1}',
        '{"a": [[1]]}',
        '{"a": [["1", 2]]}',
        deep,
    ):
        (tmp_path / "learnt.json").write_text(text)
        with pytest.raises(InputError, match=r"learnt\.json cannot be read"):
            read_learnt(tmp_path)
    (tmp_path / "learnt.json").unlink()
    (tmp_path / "learnt.json").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"is a link out of"):
        read_learnt(tmp_path)


def test_what_several_runs_learnt_is_joined() -> None:
    """Each stretch once, in order."""
    one, other = {"a": [[0.0, 1.0], [1.0, 2.0]]}, {"a": [[1.0, 2.0]], "b": [[0.0, 9.0]]}
    assert joined([one, other]) == {"a": one["a"], "b": other["b"]}


def test_a_model_that_notes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its clips would be tested on without a word; the embedded one knows its clips."""
    assert learnt_by(tmp_path) == {}
    assert f"{tmp_path} has no learnt.json" in caplog.text
    caplog.clear()
    write_learnt(tmp_path, {"1": [[0.0, 1.0]]})
    assert learnt_by(tmp_path) == {"1": [[0.0, 1.0]]}
    assert not caplog.records


def test_the_embedded_decoder_knows_its_clips_by_their_names_and_content() -> None:
    """Of ESC-50, as the CLAP's card lists them: one of the two is enough."""
    learnt = learnt_by(default_source())
    clap = default_source().parent / "clap_small"
    assert learnt == learnt_by(clap)
    names = pd.read_csv(clap / "ATTRIBUTION.csv").id
    ids = {f"clip {name}" for name in names}
    digests = [key for key in learnt if re.fullmatch("[0-9a-f]{64}", key)]
    assert learnt.keys() == {*ids, *digests} and len(digests) == len(ids)
    rows = [(names[0], "8", NAN, NAN), ("x", digests[0], NAN, NAN)]
    assert kept_of(clips(*rows, ("2-4-A-0", "9", NAN, NAN)), learnt) == ["2-4-A-0"]


@pytest.mark.real_clips
def test_a_renamed_copy_of_what_the_embedded_decoder_learnt(esc50_folder: Path) -> None:
    """It is known, and what was not learnt is not.

    Files of exactly 5 s were stored without a loss; the others are what one decoder
    makes of Vorbis.
    """
    learnt = learnt_by(default_source())
    exact = 44 + 2 * 5 * 44100
    paths = [p for p in esc50_folder.glob("audio/*.wav") if p.stat().st_size == exact]
    rows = [(f"copy of {p.stem}", file_sha256(p), NAN, NAN) for p in paths]
    kept = kept_of(clips(*rows), learnt)
    other = {f"copy of {p.stem}" for p in paths if f"clip {p.stem}" not in learnt}
    assert set(kept) == other and len(kept) < len(rows)


def test_a_few_names_of_many() -> None:
    """The first ones, and how many more."""
    assert named(["a", "b"]) == "a, b"
    assert named(list("abcde")) == "a, b, c and 2 more"
