"""PromptedDataset: what is drawn, and that it can be repeated.

The clips are tones, a pitch for each label, so that a test knows what is in a mixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lmaczs.clap import FrozenClap
from lmaczs.data.augment import WaveformAugment
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import ClipText, PromptSampler, texts_of
from lmaczs.data.prompted_dataset import (
    Mixing,
    PromptedDataset,
    UnreadableClipsError,
    collate,
)
from lmaczs.frontend import FrontEnd

RATE, SIZE = 32000, 160000  # of the tiny CLAP
PITCH = {"bell": 500, "cat": 1100, "dog": 2300, "horn": 4100, "rain": 7000}  # Hz
TEMPLATES = ["{}", "the sound of {}", "I can hear {} now"]
EPOCHS = range(1, 9)
OWN = ("augment", "seed", "max_unreadable")


@pytest.fixture(scope="module")
def front_end(tiny_clap: FrozenClap) -> FrontEnd:
    """Of the tiny CLAP: 5 s at 32 kHz."""
    return tiny_clap.front_end


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Three clips a label, 1, 5 and 7 s long, tones at full scale."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for label, hertz in PITCH.items():
        for seconds in (1, 5, 7):
            time = np.arange(round(seconds * RATE)) / RATE
            swell = 0.2 + 0.8 * time / seconds  # so that a segment can be identified
            path = folder / f"{label}{seconds}.wav"
            tone = swell * np.sin(2 * np.pi * hertz * time)
            soundfile.write(path, tone, RATE, subtype="FLOAT")
            rows.append({"id": path.stem, "path": str(path), "label": label})
    return pd.DataFrame(rows)


def clips(table: pd.DataFrame, front_end: FrontEnd, **options: Any) -> PromptedDataset:
    """Make a training set of the tones, every clip a mixture unless given otherwise."""
    own = {"mix_prob", "mix_snr_db", "concat_prob", "max_attenuation_db"}
    mixing = {"mix_prob": 1.0, **{k: options[k] for k in own & set(options)}}
    rest = {k: v for k, v in options.items() if k not in own}
    parts = {k: rest.pop(k) for k in OWN if k in rest}
    training, keep = rest.pop("train", True), rest.pop("keep_in_memory", True)
    return PromptedDataset(
        table,
        front_end,
        FileReader(table, front_end.sample_rate, keep),
        PromptSampler(texts_of(table), **{"templates": TEMPLATES[:1], **rest}),
        Mixing(**mixing) if training else None,
        **parts,
    )


def drawn(data: PromptedDataset) -> list[dict[str, Any]]:
    """All items of several epochs."""
    items = []
    for data.epoch in EPOCHS:
        items += [data[index] for index in range(len(data))]
    return items


def levels(wav: Tensor) -> dict[str, float]:
    """Energy around each label's pitch in the first second."""
    power = torch.fft.rfft(wav[:RATE]).abs().square()  # a bin a hertz
    return {x: float(power[hz - 100 : hz + 100].sum()) for x, hz in PITCH.items()}


def heard(wav: Tensor) -> set[str]:
    """Labels whose pitch is in a sound, down to 40 dB below the loudest."""
    found = levels(wav)
    return {x for x, value in found.items() if value > 1e-4 * max(found.values())}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two items are equal, bit by bit."""
    sounds = ("wav", "sources")
    rest = [{k: v for k, v in item.items() if k not in sounds} for item in (one, other)]
    return rest[0] == rest[1] and all(torch.equal(one[k], other[k]) for k in sounds)


# --- chance -------------------------------------------------------------------------


def test_item_depends_on_seed_epoch_and_clip(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """The same three give the same item; another epoch or seed gives another."""
    data = clips(table, front_end, templates=TEMPLATES, seed=7)
    again = clips(table, front_end, templates=TEMPLATES, seed=7, keep_in_memory=False)
    other_seed = clips(table, front_end, templates=TEMPLATES, seed=8)
    for one in (data, again, other_seed):
        one.epoch = 3
    for index in range(len(table)):
        assert same(data[index], again[index])
        assert same(data[index], data[index])
        assert not same(data[index], other_seed[index])
    again.epoch = 4
    assert not any(same(data[i], again[i]) for i in range(len(table)))


def test_item_does_not_depend_on_order(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Neither what was drawn before nor a global seed changes an item."""
    forward, backward = clips(table, front_end), clips(table, front_end)
    forward.epoch = backward.epoch = 2
    torch.manual_seed(0)
    np.random.seed(0)
    ahead = [forward[i] for i in range(len(table))]
    torch.manual_seed(1)
    np.random.seed(1)
    behind = [backward[i] for i in reversed(range(len(table)))][::-1]
    assert all(same(a, b) for a, b in zip(ahead, behind, strict=True))


def test_items_do_not_disturb_global_chance(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Nothing is drawn from the global generators."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn(clips(table[:3], front_end, negatives_per_clip=0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stay", [False, True])
def test_item_does_not_depend_on_workers(
    table: pd.DataFrame, front_end: FrontEnd, workers: int, stay: bool
) -> None:
    """Worker processes draw what the main process would, in every epoch."""
    data = clips(table, front_end)
    loader = DataLoader(
        data, 4, num_workers=workers, persistent_workers=stay, collate_fn=list
    )
    for data.epoch in (1, 2):
        items = [item for batch in loader for item in batch]
        assert all(same(item, data[i]) for i, item in enumerate(items))


# --- mixtures -----------------------------------------------------------------------


def test_share_of_sequences(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """With concat_prob 1 no moment holds two sounds, with 0 every one does."""
    whole = table[table.id.str.endswith("5")]

    def sounds_at_once(share: float) -> set[int]:
        data = clips(whole, front_end, mix_prob=1.0, concat_prob=share)
        halves = [
            part
            for item in drawn(data)
            for part in (item["wav"][: SIZE // 4], item["wav"][-SIZE // 4 :])
        ]
        return {len(heard(half)) for half in halves}

    assert sounds_at_once(1.0) == {1}
    assert sounds_at_once(0.0) == {2}


def test_items_know_their_sources(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """The clip itself and its partner; what noise was added is in neither."""
    noise = WaveformAugment(speed_prob=0.5, noise_prob=0.5, noise_snr_db=(10.0, 20.0))
    whole = table[table.id.str.endswith("5")]
    data = clips(whole, front_end, mix_prob=0.5)
    noisy = clips(whole, front_end, mix_prob=0.5, augment=noise)
    levels_of_noise = []
    for item in drawn(data):
        assert torch.equal(item["wav"], item["sources"].sum(0))
        sounds = [heard(one) if one.any() else set() for one in item["sources"]]
        assert sounds[0] == {item["label"]}
        assert sounds[0] | sounds[1] == heard(item["wav"])
        assert not sounds[0] & sounds[1]
    for item in drawn(clips(whole, front_end, concat_prob=1.0)):
        assert torch.equal(item["wav"], item["sources"].sum(0))
        assert (item["sources"] != 0).any(1).all()
        assert not item["sources"].prod(0).any()
    for item in drawn(noisy):
        clean = item["sources"].sum(0)
        if (added := item["wav"] - clean).any():
            ratio = clean.square().sum() / added.square().sum()
            levels_of_noise.append(float(10 * ratio.log10()))
    assert 0.3 < len(levels_of_noise) / len(EPOCHS) / len(whole) < 0.7
    assert 9.99 < min(levels_of_noise) < max(levels_of_noise) < 20.01


def test_clips_that_are_judged_are_their_own_source(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Nothing sounds beside them."""
    item = clips(table, front_end, train=False)[0]
    assert torch.equal(item["sources"][0], item["wav"])
    assert not item["sources"][1].any()


def test_levels_of_items(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Partners are within mix_snr_db of the clip, on both sides; nothing clips."""
    one_second = table[table.id.str.endswith("1")]  # the level is the same all along
    data = clips(one_second, front_end, mix_snr_db=5.0, max_attenuation_db=12.0)
    ratios, peaks = [], []
    for item in drawn(data):
        found = levels(item["wav"])
        clip = found.pop(item["label"])
        ratios.append(10 * np.log10(clip / max(found.values())))
        peaks.append(float(item["wav"].abs().max()))
    assert -5.1 < min(ratios) < -3.5
    assert 3.5 < max(ratios) < 5.1
    assert 0.25 * 0.9 < min(peaks) < 0.35
    assert 0.8 < max(peaks) <= 1


def test_share_of_mixtures(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """About the set fraction of clips are mixtures, always of two labels."""
    items = drawn(clips(table, front_end, mix_prob=0.5))
    sounds = [len(heard(item["wav"])) for item in items]
    assert set(sounds) == {1, 2}
    assert np.mean(np.array(sounds) == 2) == pytest.approx(0.5, abs=0.15)
    pure = drawn(clips(table, front_end, mix_prob=0.0))
    assert all(heard(item["wav"]) == {item["label"]} for item in pure)


def test_training_clips_are_disturbed(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Mixtures, too, and anew in every epoch; clips that are judged are left alone."""
    disturb = WaveformAugment(speed_prob=1.0)
    for share in (0.0, 1.0):
        options = {"mix_prob": share, "max_attenuation_db": 0.0, "augment": disturb}
        data = clips(table[table.id.str.endswith("5")], front_end, **options)
        assert {item["samples"] for item in drawn(data)} == {SIZE}
        pitches = []
        for data.epoch in EPOCHS:
            power = torch.fft.rfft(data[0]["wav"]).abs()
            pitches.append(round(float(power.argmax()) * RATE / SIZE))
        assert len(set(pitches)) > 1
        if not share:
            assert not set(pitches) & set(PITCH.values())
    judged = clips(table, front_end, augment=disturb, train=False)
    assert torch.equal(judged[1]["wav"], clips(table, front_end, train=False)[1]["wav"])


def test_training_clips_are_cut(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """To stretches that differ between epochs; clips that are judged stay whole."""
    cut = WaveformAugment(crop_prob=1.0, shortest_crop=SIZE / RATE / 8)
    whole = table[table.id.str.endswith("5")]
    options = {"mix_prob": 0.0, "augment": cut}
    lengths = [item["samples"] for item in drawn(clips(whole, front_end, **options))]
    assert len(set(lengths)) > 10
    assert min(lengths) < SIZE / 2 < max(lengths)
    judged = clips(whole, front_end, augment=cut, train=False)
    assert torch.equal(judged[0]["wav"], clips(whole, front_end, train=False)[0]["wav"])


def test_short_clip_that_is_disturbed_is_one_sound(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Its repetitions differ, so that no part of its mask may be repeated."""
    short = table[table.id.str.endswith("1")]
    for share, samples in ((0.0, RATE), (1.0, SIZE)):
        disturb = WaveformAugment(noise_prob=share)
        data = clips(short, front_end, mix_prob=0.0, augment=disturb)
        assert {item["samples"] for item in drawn(data)} == {samples}


# --- prompts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "negatives"), [(0.0, 2), (0.5, 0), (0.5, 1), (1.0, 3), (1.0, 4)]
)
def test_flags_say_what_is_heard(
    table: pd.DataFrame, front_end: FrontEnd, share: float, negatives: int
) -> None:
    """A prompt is flagged as present exactly where its label sounds in the clip."""
    data = clips(table, front_end, mix_prob=share, negatives_per_clip=negatives)
    items = drawn(data)
    for item in items:
        assert len(item["prompts"]) == len(set(item["prompts"])) == 1 + negatives
        assert item["prompts"][0] == item["label"]
        sounds = heard(item["wav"])
        assert item["present"] == [prompt in sounds for prompt in item["prompts"]]
    partners = [sum(item["present"]) - 1 for item in items]
    assert max(partners) == (1 if share and negatives else 0)


def test_partner_is_asked_for_half_of_the_time(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """The second prompt of a mixture is the partner's in about half of the items."""
    items = drawn(clips(table, front_end))
    asked = [item["present"][1] for item in items]
    assert np.mean(asked) == pytest.approx(0.5, abs=0.15)


def test_some_clips_are_asked_for_what_the_model_hears(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """About the set fraction of the training clips; never in evaluation."""
    asked = [x["use_predicted"] for x in drawn(clips(table, front_end))]
    assert not any(asked)
    items = drawn(clips(table, front_end, predicted_prob=0.3))
    assert np.mean([x["use_predicted"] for x in items]) == pytest.approx(0.3, abs=0.15)
    assert collate(items)["use_predicted"].tolist() == [
        x["use_predicted"] for x in items
    ]
    judged = clips(table, front_end, predicted_prob=1.0, train=False)
    assert not judged[0]["use_predicted"]


def test_two_labels_are_enough(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Where no label is absent from a mixture, its partner is the second prompt."""
    two = table[table.label.isin(["cat", "dog"])]
    items = drawn(clips(two, front_end, mix_prob=0.5))
    batch = collate(items)
    assert batch["present"].shape == (len(items), 2)
    mixed = [len(heard(item["wav"])) == 2 for item in items]
    assert batch["present"][:, 1].tolist() == mixed


def test_too_many_negatives(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """More other prompts than other labels are refused."""
    with pytest.raises(ValueError, match="negatives_per_clip is 5, .* only 5 labels"):
        clips(table, front_end, negatives_per_clip=5)


def test_templates_are_drawn(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Every template is used in training, for each prompt on its own."""
    data = clips(table, front_end, templates=TEMPLATES)
    pairs = set()
    for item in drawn(data):
        used = []
        for prompt in item["prompts"]:
            label = next(x for x in PITCH if x in prompt)
            used.append(next(t for t in TEMPLATES if t.format(label) == prompt))
        pairs.add(tuple(used))
    assert pairs == {(a, b) for a in TEMPLATES for b in TEMPLATES}


# --- captions -----------------------------------------------------------------------


def captioned(table: pd.DataFrame) -> pd.DataFrame:
    """Two captions for each clip, and a label for the bells besides."""
    said = [
        (ClipText(f"A {row.id}.", False), ClipText(f"{row.id} {{}}!", False))
        + ((ClipText("bell"),) if row.label == "bell" else ())
        for row in table.itertuples()
    ]
    return table.assign(texts=said, label="")


def test_one_caption_is_drawn_each_epoch(
    table: pd.DataFrame, front_end: FrontEnd
) -> None:
    """Each text of a clip comes first at some time, captions as they are."""
    data = clips(captioned(table), front_end, templates=["I hear {}."])
    first = {}
    for item in drawn(data):
        first.setdefault(item["id"], set()).add(item["prompts"][0])
    for index, row in table.iterrows():
        expected = {f"A {row.id}.", f"{row.id} {{}}!"}
        expected |= {"I hear bell."} if row.label == "bell" else set()
        assert first[row.id] <= expected, index
        assert len(first[row.id]) > 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_absent_prompts_are_said_of_other_clips(
    table: pd.DataFrame, front_end: FrontEnd, share: float
) -> None:
    """Never of the clip itself nor of its partner, and of many others."""
    data = clips(captioned(table), front_end, mix_prob=share, negatives_per_clip=3)
    ids, texts = data.table.id, texts_of(data.table)
    said = {
        text.prompt("{}"): {n for n, row in zip(ids, texts, strict=True) if text in row}
        for row in texts
        for text in row
    }
    absent = set()
    for item in drawn(data):
        asked = list(zip(item["prompts"], item["present"], strict=True))
        others = {prompt for prompt, there in asked if not there}
        partners = said[asked[1][0]] if asked[1][1] else set()
        assert item["id"] not in partners
        if len(partners) == 1:  # else it is not known which of them it is
            assert {name[:-1] for name in partners} <= heard(item["wav"])
            assert not any(partners <= said[prompt] for prompt in others)
        assert all(item["id"] not in said[prompt] for prompt in others)
        absent |= others
    assert len(absent) > 20


def test_captions_in_validation(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """The first caption of each clip is its class."""
    data = clips(captioned(table), front_end, templates=TEMPLATES, train=False)
    firsts = [f"A {name}." for name in table.id]
    assert [data[index]["prompts"][0] for index in range(len(data))] == firsts
    assert list(data.classes.values()) == [*firsts, "bell"]
    assert [data[index]["label"] for index in range(len(data))] == firsts
    assert all(data[index]["label"] in data.classes for index in range(len(data)))


def test_classes_of_labels(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """All labels of the data set, in the first template."""
    data = clips(table, front_end, templates=TEMPLATES[::-1], labels=[*PITCH, "owl"])
    assert data.classes == {x: f"I can hear {x} now" for x in sorted([*PITCH, "owl"])}


def test_too_few_captions(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Two clips leave nothing to ask a mixture of them for but one another."""
    two = captioned(table[4:6])
    items = drawn(clips(two, front_end, mix_prob=1.0))
    assert all(item["present"] == [True, True] for item in items)
    with pytest.raises(ValueError, match="negatives_per_clip is 3, .* only 4 labels"):
        clips(two, front_end, negatives_per_clip=3)


# --- cuts ---------------------------------------------------------------------------


def test_parts_of_recordings(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """A clip is read from its start to its stop, in training and in validation."""
    rows = table[table.id == "dog7"].iloc[[0, 0, 0]].assign(id=["a", "b", "c"])
    rows = rows.assign(start=[np.nan, 1.0, 6.5], stop=[2.0, 2.5, np.nan])
    whole = torch.from_numpy(soundfile.read(rows.path.iloc[0], dtype="float32")[0])
    for train in (True, False):
        options = {"mix_prob": 0.0, "max_attenuation_db": 0.0, "train": train}
        data = clips(rows, front_end, negatives_per_clip=0, **options)
        for index, (first, last) in enumerate([(0, 2), (1, 2.5), (6.5, 7)]):
            item = data[index]
            part = whole[round(first * RATE) : round(last * RATE)]
            assert item["samples"] == len(part)
            assert torch.equal(item["wav"][: len(part)], part)


# --- validation and lengths ---------------------------------------------------------


def test_validation_draws_nothing(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Clips as they are, the first template, the same prompts in every epoch."""
    data = clips(table, front_end, templates=TEMPLATES, train=False)
    data.epoch = 1
    items = [data[index] for index in range(len(data))]
    data.epoch = 2
    for index, (item, path) in enumerate(zip(items, table.path, strict=True)):
        assert same(item, data[index])
        wav = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        assert torch.equal(item["wav"], front_end.fit_length(wav[None])[0])
        label, other = item["prompts"]
        assert label == item["label"]
        assert other in set(PITCH) - {label}
        assert item["present"] == [True, False]


def test_lengths(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Every clip fills the encoder's input; its own length is given."""
    data = clips(table, front_end, mix_prob=0.0)
    for index, row in data.table.iterrows():
        item = data[index]
        own = min(soundfile.info(row.path).frames, SIZE)
        assert item["wav"].shape == (SIZE,)
        assert item["samples"] == own
        repeated = item["wav"][:own].repeat(SIZE // own)
        assert torch.equal(item["wav"], repeated)
    mixtures = drawn(clips(table, front_end))
    assert {item["samples"] for item in mixtures} == {SIZE}


def test_stretches_of_long_clips(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """Of a long clip a stretch is drawn in each epoch, unaltered, all over the clip."""
    long = table[table.id.str.endswith("7")]
    data = clips(long, front_end, mix_prob=0.0, max_attenuation_db=0.0)
    whole = torch.from_numpy(soundfile.read(long.path.iloc[0], dtype="float32")[0])
    starts = set()
    for data.epoch in EPOCHS:
        wav = data[0]["wav"]
        stretches = whole.unfold(0, SIZE, 1)
        found = (stretches[:, :200] - wav[:200]).abs().amax(1) == 0
        (start,) = found.nonzero()[:, 0].tolist()
        assert torch.equal(stretches[start], wav)
        starts.add(start)
    assert len(starts) == len(EPOCHS)
    assert max(starts) - min(starts) > RATE / 2


def test_clips_are_read_once(
    table: pd.DataFrame, front_end: FrontEnd, tmp_path: Path
) -> None:
    """In memory a clip outlives its file; otherwise it is read each time."""
    one = table[:1].assign(path=str(tmp_path / "a.wav"), label="dog")
    tone = np.sin(np.arange(RATE))
    for keep in (True, False):
        soundfile.write(tmp_path / "a.wav", tone, RATE)
        options = {"negatives_per_clip": 0, "mix_prob": 0.0, "keep_in_memory": keep}
        data = clips(one, front_end, **options)
        first = data[0]
        Path(tmp_path / "a.wav").unlink()
        if keep:
            assert same(data[0], first)
        else:
            with pytest.raises(ValueError, match="a.wav"):
                data[0]


def test_collate(table: pd.DataFrame, front_end: FrontEnd) -> None:
    """A batch holds the items in their order."""
    data = clips(table, front_end, negatives_per_clip=2)
    items = [data[index] for index in (3, 0, 7)]
    batch = collate(items)
    assert batch["wav"].shape == (3, SIZE)
    assert batch["wav"].dtype == torch.float32
    assert batch["samples"].tolist() == [item["samples"] for item in items]
    assert batch["present"].dtype == torch.bool
    assert batch["present"].tolist() == [item["present"] for item in items]
    for key in ("id", "label", "prompts"):
        assert batch[key] == [item[key] for item in items]
    assert torch.equal(batch["wav"][1], items[1]["wav"])


# --- clips that cannot be read -------------------------------------------------------


def broken(table: pd.DataFrame, folder: Path, *rows: int) -> pd.DataFrame:
    """The tones, some of which turn unreadable: cut, not finite, absurd, gone."""
    paths = list(table.path)
    for count, row in enumerate(rows):
        path = folder / Path(paths[row]).name
        wav, rate = soundfile.read(paths[row], dtype="float32")
        wav[100] = (0, np.nan, 1e38, 0)[count % 4]
        soundfile.write(path, wav, rate, subtype="FLOAT")
        if count % 4 == 0:
            path.write_bytes(path.read_bytes()[:1000])
        if count % 4 == 3:
            path.unlink()
        paths[row] = str(path)
    return table.assign(path=paths)


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_that_turn_unreadable_are_replaced_in_training(
    table: pd.DataFrame,
    front_end: FrontEnd,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    """By the next that can be read; batches stay whole, whatever reads them."""
    bad = (0, 4, 7, 14)
    options = {"keep_in_memory": False, "max_unreadable": 0.3, "mix_prob": 0.5}
    data = clips(broken(table, tmp_path, *bad), front_end, **options)
    loader = DataLoader(data, 5, num_workers=workers, collate_fn=collate)
    ids = [name for batch in loader for name in batch["id"]]
    expected = [(row + 1) % 15 if row in bad else row for row in range(15)]
    expected = [1 if row == 0 else row for row in expected]
    assert ids == list(table.id.iloc[expected])
    assert data.unreadable == 4
    if not workers:
        named = [record.message for record in caplog.records]
        assert sorted(text.split()[1] for text in named) == sorted(
            table.id.iloc[list(bad)]
        )


def test_in_evaluation_they_are_left_out(
    table: pd.DataFrame, front_end: FrontEnd, tmp_path: Path
) -> None:
    """A batch is shorter, or None where none of its clips can be read."""
    data = clips(
        broken(table, tmp_path, 0, 1, 3), front_end, train=False, max_unreadable=0.2
    )
    batches = list(DataLoader(data, 2, collate_fn=collate))
    assert batches[0] is None
    assert batches[1]["id"] == [table.id[2]]
    assert batches[1]["wav"].shape == (1, SIZE)
    assert [len(batch["id"]) for batch in batches[2:]] == [2, 2, 2, 2, 2, 1]
    assert data.unreadable == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_end_in_one_sentence(
    table: pd.DataFrame, front_end: FrontEnd, tmp_path: Path, workers: int
) -> None:
    """How many, the last of them, and how to go on; from a worker, too."""
    tones = broken(table, tmp_path, 0, 1)
    data = clips(tones, front_end, train=False, max_unreadable=0.1)
    message = rf"^2 of 15 clips can no longer be read, the last is {tmp_path}.*resumes$"
    with pytest.raises(UnreadableClipsError, match=message) as error:
        list(DataLoader(data, 2, num_workers=workers, collate_fn=collate))
    assert "Traceback" not in str(error.value)


def test_no_clip_can_be_read(
    table: pd.DataFrame, front_end: FrontEnd, tmp_path: Path
) -> None:
    """Whatever share is allowed, nothing could be trained on."""
    tones = broken(table, tmp_path, *range(15))
    data = clips(tones, front_end, max_unreadable=1.0)
    with pytest.raises(UnreadableClipsError, match="none of 15 clips can be read"):
        data[1]
