"""run.py: a corpus is begun once, and resumed only as what it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lmaczs.corpus.block import BlockWorker
from lmaczs.corpus.engines import AllLost
from lmaczs.corpus.rows import Wanted
from lmaczs.corpus.run import (
    Corpus,
    MakeWorker,
    as_json,
    begin,
    left,
    read_corpus,
    require_same,
    windows_in,
    worker_of,
)
from lmaczs.corpus.store import Store
from lmaczs.corpus.tables import STATE
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.utils.errors import InputError

Begun = tuple[Store, Corpus]
WANTED = Wanted(("siren", "dog"), 0, keep="prompt == 'siren' and presence > 0.95")


def test_what_it_is_made_of_is_read_back(
    corpus: Begun, clips: pa.Table, model: dict[str, str]
) -> None:
    """And begun again it is the same, with all blocks left."""
    store, begun = corpus
    assert read_corpus(store) == begun
    assert begin(store, [clips], model, WANTED, 2) == begun
    assert (begun.clips, begun.blocks) == (6, 3) and left(*corpus) == [0, 1, 2]
    assert begun.wanted == as_json(WANTED)
    assert begun.about["weights"] == model["weights"]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"wanted": replace(WANTED, prompts=("siren",))}, "of other prompts"),
        (
            {"wanted": replace(WANTED, refine="auto")},
            "made with --refine off, not --refine auto",
        ),
        (
            {"wanted": replace(WANTED, refine=5)},
            "made with --refine off, not --refine 5",
        ),
        (
            {"wanted": replace(WANTED, keep=None)},
            'made with --keep "prompt == .*", not no --keep',
        ),
        (
            {"wanted": replace(WANTED, events=False)},
            "made with events, not --no-events",
        ),
        (
            {"wanted": replace(WANTED, channel=2)},
            "made with --channel mix, not --channel 2",
        ),
        (
            {"wanted": replace(WANTED, strict=True)},
            "made with no --strict, not --strict",
        ),
        ({"block_clips": 3}, "made with --block-clips 2, not --block-clips 3"),
        (
            {"model": {"weights": "x"}},
            "made with the weights '.*', not the weights 'x'",
        ),
        (
            {"model": {"model": "other"}},
            "made with the model '.*', not the model 'other'",
        ),
        (
            {"model": {"precision": "bf16"}},
            "made with --precision fp32, not --precision bf16",
        ),
        (
            {"clips": pa.table({"path": ["/x.wav"]})},
            r"of clips with other columns \(site: string and none\)",
        ),
    ],
)
def test_another_one_is_refused(
    corpus: Begun,
    clips: pa.Table,
    model: dict[str, str],
    change: dict[str, Any],
    reason: str,
) -> None:
    """In a sentence with what differs; what is there stays."""
    store, begun = corpus
    given = {"clips": clips, "model": {}, "wanted": WANTED, "block_clips": 2, **change}
    named = {**model, **given["model"]}
    with pytest.raises(InputError, match=f"--out .* holds a corpus {reason}: name an"):
        begin(store, [given["clips"]], named, given["wanted"], given["block_clips"])
    assert read_corpus(store) == begun


def test_clips_that_are_new_are_added(
    corpus: Begun, clips: pa.Table, model: dict[str, str]
) -> None:
    """In blocks of their own; given again, nothing is changed."""
    store, begun = corpus
    new = pa.table({"path": ["/y.wav"], "start": [0.5], "stop": [1.0], "site": ["d"]})
    given = pa.concat_tables([new, clips])
    grown = begin(store, [given], model, WANTED, 2)
    assert grown == replace(begun, plan=grown.plan, clips=7, blocks=4)
    assert read_corpus(store) == grown and left(store, grown) == [0, 1, 2, 3]
    names = store.states("")
    assert begin(store, [given], model, WANTED, 2) == grown
    assert store.states("") == names
    with pytest.raises(InputError, match="1 of its 7 are not given, such as /y.wav"):
        begin(store, [clips], model, WANTED, 2)
    assert read_corpus(store) == grown


def test_what_is_no_corpus_is_refused(
    tmp_path: Path, clips: pa.Table, model: dict[str, str]
) -> None:
    """A folder of that name, a file of another version, and no clip at all."""
    store = Store(tmp_path)
    with pytest.raises(InputError, match="there is no clip"):
        begin(store, [], model, WANTED, 2)
    assert read_corpus(store) is None
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "mine.wav").touch()
    with pytest.raises(InputError, match="it is no corpus that can be resumed"):
        begin(store, [clips], model, WANTED, 2)
    (tmp_path / STATE).write_text('{"schema": 99}')
    with pytest.raises(InputError, match="was not written by this version"):
        read_corpus(store)


def test_windows_of_a_block_have_their_places(
    corpus: Begun, interpreter: ZeroShotInterpreter, recordings: dict[str, Path]
) -> None:
    """By clip and window; of a block that is not done there is no file."""
    store, begun = corpus
    worker_of(store, begun, interpreter)(1)
    found = windows_in(store, 1)
    assert list(found) == [(2, 0), (2, 1), (2, 2), (3, 0)]
    assert {found[2, n]["path"] for n in range(3)} == {str(recordings["long"])}
    assert [(one["start"], one["stop"]) for one in found.values()] == [
        (0.0, 5.0),
        (2.5, 7.5),
        (4.0, 9.0),
        (0.0, 1.0),
    ]
    with pytest.raises(FileNotFoundError):
        windows_in(store, 0)


def test_a_worker_has_the_corpus_s_model(
    corpus: Begun, interpreter: ZeroShotInterpreter, tiny_clap_folder: Path
) -> None:
    """Another one is refused, and so is a place without a corpus."""
    store, begun = corpus
    made = MakeWorker(store.place, lambda: interpreter)()
    assert isinstance(made, BlockWorker) and made.rows.wanted == WANTED
    assert made.about == worker_of(store, begun, interpreter).about
    require_same(store, begun)
    for other in (replace(begun, plan="x"), replace(begun, wanted={"prompts": ["x"]})):
        with pytest.raises(AllLost, match=f"{store.place}: another `lmaczs corpus`"):
            require_same(store, other)
    other = partial(ZeroShotInterpreter.from_clap, tiny_clap_folder, {"device": "cpu"})
    with pytest.raises(InputError, match="other weights than the corpus"):
        MakeWorker(store.place, other)()
    with pytest.raises(InputError, match="holds no corpus"):
        MakeWorker(store.place + "x", lambda: interpreter)()
