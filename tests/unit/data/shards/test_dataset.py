"""Shards: the items of PromptedDataset, dealt out, and resumed where they were.

The clips are tones, a pitch for each label, so that a test knows what is in a mixture.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpointer

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import ClipReader, FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.prompted_dataset import (
    Mixing,
    PromptedDataset,
    UnreadableClipsError,
    collate,
)
from lmaczs.data.shards.dataset import (
    ShardDataset,
    ShardLoader,
    ShardReader,
    shuffled,
)
from lmaczs.data.shards.reader import ShardError, StoredClip, read_shards
from lmaczs.frontend import FrontEnd
from lmaczs.training.brain import AveragedBrain

RATE = 32000  # Hz, of the tiny CLAP
PITCH = {"bell": 500, "cat": 1100, "dog": 2300, "horn": 4100, "rain": 7000}  # Hz
TEMPLATES = ["{}", "the sound of {}"]
CLIPS = 30


@pytest.fixture(scope="module")
def front_end(tiny_clap: FrozenClap) -> FrontEnd:
    """Of the tiny CLAP: 5 s at 32 kHz."""
    return tiny_clap.front_end


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Thirty clips, six a label: tones of 0.5 s, and one a label of 6 s."""
    folder, rows = tmp_path_factory.mktemp("tones"), []
    for number, (label, hertz) in zip(
        range(CLIPS), itertools.cycle(PITCH.items()), strict=False
    ):
        time = np.arange(round((6 if number < 5 else 0.5) * RATE)) / RATE
        tone = (0.2 + number / 50) * np.sin(2 * np.pi * hertz * time)
        path = folder / f"{number:02d}.wav"
        soundfile.write(path, tone, RATE)
        rows.append({"id": path.stem, "path": str(path), "label": label})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table(
    source: pd.DataFrame,
    write_shards: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> pd.DataFrame:
    """Table of the clips in six shards of five."""
    folder = write_shards(tmp_path_factory.mktemp("shards"), source, clips_per_shard=5)
    return read_shards(f"{folder}/train-{{000000..000005}}.tar").train


def prompted(
    table: pd.DataFrame,
    front_end: FrontEnd,
    reader: ClipReader,
    train: bool = True,
    mix_prob: float = 1.0,
    labels: list[str] | None = None,
    max_unreadable: float = 0.1,
) -> PromptedDataset:
    """Clips of a table with prompts, every one a mixture unless given otherwise."""
    prompts = PromptSampler(texts_of(table), TEMPLATES, labels)
    mixing = Mixing(mix_prob=mix_prob) if train else None
    drawn = prompts, mixing, None, 3, max_unreadable
    return PromptedDataset(table, front_end, reader, *drawn)


@pytest.fixture
def shards(table: pd.DataFrame, front_end: FrontEnd) -> Callable[..., ShardDataset]:
    """Function that makes a training set of the shards, every clip a mixture."""

    def make(clips: pd.DataFrame = table, **options: Any) -> ShardDataset:
        reader = ShardReader(clips, front_end.sample_rate)
        return ShardDataset(prompted(clips, front_end, reader, **options), reader, 8)

    return make


def loader(data: ShardDataset, batch_size: int = 4, workers: int = 0) -> ShardLoader:
    """Loader as the recipe makes it."""
    options = {"batch_size": batch_size, "num_workers": workers}
    if workers:
        options |= {"persistent_workers": True, "timeout": 60}
    return ShardLoader(data, collate_fn=collate, **options)


def ids(batches: Iterator[dict[str, Any]] | ShardLoader) -> list[list[str]]:
    """Ids of the clips in each batch."""
    return [batch["id"] for batch in batches]


def flat(batches: list[list[str]]) -> list[str]:
    """Ids of all batches in one list."""
    return [one for batch in batches for one in batch]


def heard(wav: torch.Tensor) -> set[str]:
    """Labels whose pitch is in the first second, down to 40 dB below the loudest."""
    power = torch.fft.rfft(wav[:RATE]).abs().square()  # a bin a hertz
    found = {x: float(power[hz - 100 : hz + 100].sum()) for x, hz in PITCH.items()}
    return {x for x, value in found.items() if value > 1e-4 * max(found.values())}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two items or batches are equal, bit by bit."""
    pairs = [(one[key], other[key]) for key in one if key != "label"]
    return one.keys() == other.keys() and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs
    )


def processes(monkeypatch: pytest.MonkeyPatch, rank: int, world: int = 2) -> None:
    """Be one of several processes, as torchrun says it."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


# --- items --------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
def test_items_are_those_of_files(
    source: pd.DataFrame,
    front_end: FrontEnd,
    shards: Callable[..., ShardDataset],
    train: bool,
) -> None:
    """Waveform, gain, stretch, template and prompts are the same, bit by bit."""
    options = {"mix_prob": 0.0, "train": train}
    files = prompted(source, front_end, FileReader(source, RATE), **options)
    data = shards(**options)
    for files.epoch in (1, 2):
        data.epoch = files.epoch
        items = {item["id"]: item for item in itertools.islice(data, CLIPS)}
        for row, name in enumerate(source.id):
            assert same(items[name], files[row])
            assert items[name]["label"] == files[row]["label"]


def test_flags_say_what_is_heard(shards: Callable[..., ShardDataset]) -> None:
    """A mixture holds two labels; prompts are flagged as present where they sound."""
    data = shards()
    partners = 0
    for data.epoch in (1, 2, 3):
        for item in ShardLoader(data, 5, collate_fn=list):
            for one in item:
                sounds = heard(one["wav"])
                assert len(sounds) == 2
                asked = [prompt.split()[-1] for prompt in one["prompts"]]
                assert one["present"] == [label in sounds for label in asked]
                partners += sum(one["present"]) - 1
    assert partners / (3 * CLIPS) == pytest.approx(0.5, abs=0.2)


def test_partners_come_from_the_buffer(
    shards: Callable[..., ShardDataset], table: pd.DataFrame
) -> None:
    """Of a buffer that holds one label only, no clip of that label is mixed."""
    data = shards(table[table.label == "cat"], labels=list(PITCH))
    items = list(itertools.islice(data, 6))
    assert len({item["id"] for item in items}) == 6
    assert [heard(item["wav"]) for item in items] == [{"cat"}] * 6


def test_partner_changes_from_epoch_to_epoch(
    shards: Callable[..., ShardDataset],
) -> None:
    """A clip meets several labels, and the same again when the epoch is drawn again."""
    data, met = shards(), {}
    for epoch in (1, 2, 3, 4, 1):
        data.epoch = epoch
        found = {x["id"]: x for x in itertools.islice(data, CLIPS)}
        if epoch in met:
            assert all(same(found[name], met[epoch][name]) for name in found)
        met[epoch] = found
    partners = {frozenset(heard(met[epoch]["07"]["wav"])) for epoch in met}
    assert len(partners) > 1


def test_an_item_by_its_number(shards: Callable[..., ShardDataset]) -> None:
    """A clip of the validation split can be read by its index, as examples are."""
    data = shards(train=False)
    items = list(data)
    assert len(data) == len(items) == CLIPS
    assert all(same(data[i], items[i]) for i in (0, 7, CLIPS - 1))


# --- order --------------------------------------------------------------------------


def test_shuffled_passes_everything_on_once() -> None:
    """Whatever the size of the buffer, each item comes once."""
    for size in (1, 3, 10, 50):
        rng = np.random.default_rng(0)
        found = [item for item, _ in shuffled(range(20), size, rng)]
        assert sorted(found) == list(range(20)), size
        assert (found == list(range(20))) is (size == 1)


def test_shuffled_draws_from_all_of_the_buffer() -> None:
    """The first item is any of the first that fit, each as often."""
    first = [
        next(shuffled(range(9), 5, np.random.default_rng(seed)))[0]
        for seed in range(500)
    ]
    counts = np.bincount(first, minlength=9)
    assert counts[5:].sum() == 0
    assert counts[:5].min() > 60


def test_shuffled_keeps_its_buffer_full() -> None:
    """To the last item there is as much to be mixed with as at first."""
    for item, buffer in shuffled(range(20), 6, np.random.default_rng(0)):
        assert len(set(buffer)) == 6
        assert len(set(buffer) - {item}) >= 5


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch(shards: Callable[..., ShardDataset], workers: int) -> None:
    """As many batches as ``len`` says, of all clips; another order in another epoch."""
    data = shards()
    batches = loader(data, 5, workers)
    orders = []
    for data.epoch in (1, 2, 1):
        orders.append(ids(batches))
        assert len(orders[-1]) == len(batches) == 6
        assert {len(batch) for batch in orders[-1]} == {5}
        assert len(set(flat(orders[-1]))) == CLIPS
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert flat(orders[0]) != sorted(flat(orders[0]))


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes(
    shards: Callable[..., ShardDataset],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """Each has half of every batch, and no clip is in both."""
    dealt = []
    for rank in range(2):
        processes(monkeypatch, rank)
        batches = loader(shards(), 10, workers)
        dealt.append(ids(batches))
        assert [len(batch) for batch in dealt[-1]] == [5] * len(batches) == [5, 5, 5]
    if not workers:
        assert not set(flat(dealt[0])) & set(flat(dealt[1]))
        assert len(set(flat(dealt[0] + dealt[1]))) == CLIPS


def test_shards_that_cannot_be_dealt_evenly(
    shards: Callable[..., ShardDataset], table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Who has fewer clips begins them again; an epoch is as long as ever."""
    data = shards(table[:13])  # shards of 5, 5 and 3
    seen = set()
    for data.epoch in range(1, 7):
        found = [name for part in (0, 1) for name in epoch_of(data, part)]
        assert len(found) == 12
        seen |= set(found)
    assert seen == set(table.id[:13])


def epoch_of(data: ShardDataset, part: int) -> list[str]:
    """Ids of what one of two workers yields in an epoch of six batches of two."""
    stream = itertools.islice(data.stream(part, 2), 6)
    return [data.table.id[data.reader.row_of[clip.path]] for clip, _ in stream]


@pytest.mark.parametrize(("workers", "count"), [(0, CLIPS), (2, CLIPS), (2, 5)])
def test_evaluation(
    shards: Callable[..., ShardDataset], table: pd.DataFrame, workers: int, count: int
) -> None:
    """Every clip once, also where there are more workers than shards."""
    found = loader(shards(table[:count], train=False), 4, workers)
    orders = [ids(found) for _ in range(2)]
    assert sorted(flat(orders[0])) == sorted(flat(orders[1]))
    assert sorted(flat(orders[0])) == [f"{i:02d}" for i in range(count)]
    assert len(found) == len(orders[0])
    if not workers:
        assert flat(orders[0]) == sorted(flat(orders[0]))


def test_evaluation_in_two_processes(
    shards: Callable[..., ShardDataset],
    table: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No clip is counted twice; a process may have none."""
    for clips, expected in ((table, [15, 15]), (table[:5], [5, 0])):
        found = []
        for rank in range(2):
            processes(monkeypatch, rank)
            batches = loader(shards(clips, train=False))
            found.append(flat(ids(batches)))
            assert len(batches) == -(-len(found[-1]) // 4)
        assert [len(part) for part in found] == expected
        assert sorted(flat(found)) == sorted(clips.id)


# --- resuming ------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 4, 7])
def test_resumes_where_it_was(
    shards: Callable[..., ShardDataset], tmp_path: Path, workers: int, done: int
) -> None:
    """From a checkpoint in mid-epoch come the batches that were left, bit by bit."""
    before = loader(shards(), 4, workers)
    before.dataset.epoch = 2
    running = iter(before)
    for _ in range(done):
        next(running)
    Checkpointer(tmp_path, {"loader": before}).save_checkpoint(end_of_epoch=False)
    left = list(running)
    assert len(left) == 7 - done

    after = loader(shards(), 4, workers)
    after.dataset.epoch = 2
    Checkpointer(tmp_path, {"loader": after}).recover_if_possible()
    again = list(after)
    assert len(again) == len(left)
    assert all(same(a, b) for a, b in zip(again, left, strict=True))
    after.dataset.epoch = 3
    assert len(list(after)) == 7


def test_a_second_break(shards: Callable[..., ShardDataset], tmp_path: Path) -> None:
    """A resumed run can be saved and resumed again."""
    whole, found = ids(loader(shards())), []
    for stop in (2, 3, 7):
        batches = loader(shards())
        saver = Checkpointer(tmp_path, {"loader": batches})
        saver.recover_if_possible()
        running = iter(batches)
        found += ids(itertools.islice(running, stop - len(found)))
        saver.save_and_keep_only(end_of_epoch=False)
    assert found == whole


def test_an_epoch_that_ended_is_not_gone_on_with(
    shards: Callable[..., ShardDataset], tmp_path: Path
) -> None:
    """After a checkpoint at an epoch's end the next one is whole."""
    batches = loader(shards())
    assert len(list(batches)) == 7
    Checkpointer(tmp_path, {"loader": batches}).save_checkpoint(end_of_epoch=True)
    after = loader(shards())
    Checkpointer(tmp_path, {"loader": after}).recover_if_possible()
    assert len(list(after)) == 7


def test_what_is_passed_over_is_not_decoded(
    shards: Callable[..., ShardDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resuming costs reading, not decoding."""
    decoded, load = [], StoredClip.load
    monkeypatch.setattr(
        StoredClip, "load", lambda clip, rate: decoded.append(clip) or load(clip, rate)
    )
    (tmp_path / "position").write_text("5")
    batches = loader(shards(mix_prob=0.0))
    batches.load(tmp_path / "position", end_of_epoch=False)
    assert len(list(batches)) == 2
    assert len(decoded) == 8


def test_the_best_checkpoint_does_not_move_a_loader_that_has_begun(
    shards: Callable[..., ShardDataset], tmp_path: Path
) -> None:
    """Loaded for a test after an epoch, it leaves the next epoch whole."""
    batches = loader(shards())
    running = iter(batches)
    next(running)
    saver = Checkpointer(tmp_path, {"loader": batches})
    saver.save_checkpoint(end_of_epoch=False)
    saver.recover_if_possible()
    assert len(list(batches)) == 7


def test_the_brain_makes_this_loader(
    shards: Callable[..., ShardDataset], tmp_path: Path
) -> None:
    """In training its place is in the checkpoints, with a DataLoader's options."""
    saver = Checkpointer(tmp_path)
    layer = torch.nn.Linear(1, 1)
    brain = AveragedBrain(
        {"one": layer},
        None,
        trained=layer,
        ema_decay=0.9,
        number_of_epochs=1,
        checkpointer=saver,
    )
    options = {"batch_size": 4, "shuffle": True, "drop_last": True}
    made = brain.make_dataloader(
        shards(), sb.Stage.TRAIN, collate_fn=collate, **options
    )
    assert isinstance(made, ShardLoader)
    assert saver.recoverables["dataloader-TRAIN"] is made
    assert next(iter(made))["present"].shape == (4, 2)
    judged = brain.make_dataloader(
        shards(train=False), sb.Stage.VALID, None, collate_fn=collate, batch_size=4
    )
    assert isinstance(judged, ShardLoader)
    assert "dataloader-VALID" not in saver.recoverables


# --- what cannot be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("clips", "batch_size", "workers", "world", "message"),
    [
        (30, 4, 7, 1, "6 shards cannot be dealt to 7 workers: lower num_workers or"),
        (30, 4, 2, 4, "6 shards cannot be dealt to 8 workers: lower num_workers or"),
        (6, 8, 0, 1, "6 clips do not make one batch of 8: lower batch_size"),
        (30, 5, 0, 2, "batch_size is 5, which 2 processes cannot share equally"),
    ],
)
def test_too_little_to_deal(
    shards: Callable[..., ShardDataset],
    table: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    clips: int,
    batch_size: int,
    workers: int,
    world: int,
    message: str,
) -> None:
    """The error comes before training and names the option that helps."""
    processes(monkeypatch, 0, world)
    data = shards(table[:clips])
    with pytest.raises(ShardError, match=message):
        loader(data, batch_size, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_vanishes_in_training(
    source: pd.DataFrame,
    shards: Callable[..., ShardDataset],
    write_shards: Callable[..., Path],
    tmp_path: Path,
    workers: int,
) -> None:
    """The run ends at once, with one sentence, also from a worker."""
    folder = write_shards(tmp_path, source, clips_per_shard=5)
    clips = read_shards(f"{folder}/train-{{000000..000005}}.tar").train
    (folder / "train-000003.tar").unlink()
    with pytest.raises(
        ShardError, match="train-000003.tar is missing .* again"
    ) as told:
        list(loader(shards(clips), 5, workers))
    assert "\n" not in str(told.value)


# --- clips that cannot be read -------------------------------------------------------


@pytest.fixture
def damaged(
    source: pd.DataFrame, write_shards: Callable[..., Path], tmp_path: Path
) -> pd.DataFrame:
    """Shards of which two clips, of one shard, are cut and not finite."""
    paths = list(source.path)
    cut, broken = tmp_path / "06.wav", tmp_path / "08.wav"
    cut.write_bytes(Path(paths[6]).read_bytes()[:1000])
    wav, rate = soundfile.read(paths[8], dtype="float32")
    wav[100] = np.nan
    soundfile.write(broken, wav, rate, subtype="FLOAT")
    paths[6], paths[8] = str(cut), str(broken)
    folder = write_shards(tmp_path / "shards", source.assign(path=paths), 5)
    return read_shards(f"{folder}/train-{{000000..000005}}.tar").train


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_clip_is_replaced_in_training(
    damaged: pd.DataFrame, shards: Callable[..., ShardDataset], workers: int
) -> None:
    """By one at hand; an epoch is as long as ever, and the two are counted."""
    data = shards(damaged)
    found = ids(loader(data, 5, workers))
    assert [len(batch) for batch in found] == [5] * 6
    assert set(flat(found)) == set(damaged.id) - {"06", "08"}
    assert data.unreadable == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_clip_is_left_out_in_evaluation(
    damaged: pd.DataFrame,
    shards: Callable[..., ShardDataset],
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    """And is named, with the shard that it is in."""
    data = shards(damaged, train=False)
    found = flat(ids(loader(data, 4, workers)))
    assert sorted(found) == sorted(set(damaged.id) - {"06", "08"})
    if not workers:
        named = [record.getMessage() for record in caplog.records]
        assert "06 is left out: " in named[0]
        assert "train-000001.tar/000001: " in named[0]
        assert "train-000001.tar/000003: it holds NaN" in named[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_damaged_clips_end_in_one_sentence(
    damaged: pd.DataFrame, shards: Callable[..., ShardDataset], workers: int
) -> None:
    """From a worker, too."""
    data = shards(damaged, train=False, max_unreadable=0.05)
    with pytest.raises(UnreadableClipsError, match="^2 of 30 clips can no") as error:
        list(loader(data, 4, workers))
    assert "\n" not in str(error.value)
