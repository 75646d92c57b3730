"""Sums and sequences of known sources, and the scores of masks on them.

The clips are tones, a pitch for each label, so that a test hears which source is where
and an ideal mask can be made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils.data import default_collate

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import MAIN, Explained, ExplainerSuite, Method
from lmaczs.evaluation.source_mixtures import (
    SourceMixtures,
    frames_of,
    localisation_columns,
    mixture_batch,
    prompts_of,
    score_localisation,
    score_source_mixtures,
)
from lmaczs.frontend import Domain, FrontEnd, power
from lmaczs.metrics.localisation import LOCALISATION
from lmaczs.metrics.metric import Metric

RATE, SIZE, HALF = 32000, 160000, 80000  # of the tiny CLAP
PITCH = {"dog": 300, "rain": 900, "siren": 6000}  # Hz
ARRANGEMENTS = ("sum", "sequence")
COLUMNS = ["mass_on_source", "pointing_game", "temporal_iou", "si_sdr_improvement"]
Draw = Callable[[ExplainerInput], Tensor]


def given(clap: FrozenClap, domain: Domain = "stft", **draws: Draw) -> ExplainerSuite:
    """Explainers that a test makes."""
    methods = {name: Method(name, draw) for name, draw in draws.items()}
    return ExplainerSuite(clap, {}, domain, methods)


def keep_all(batch: ExplainerInput) -> Tensor:
    """Ones."""
    return torch.ones(batch.spectrum.shape)


@pytest.fixture(scope="module")
def front_end(tiny_clap: FrozenClap) -> FrontEnd:
    """Of the tiny CLAP: 5 s at 32 kHz."""
    return tiny_clap.front_end


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two warbling tones of 1 s a label, one of them 40 dB weaker."""
    folder = tmp_path_factory.mktemp("tones")
    rows, time = [], np.arange(RATE) / RATE
    for label, hertz in PITCH.items():
        for take, level in enumerate((0.3, 0.003)):
            wav = level * np.sin(2 * np.pi * hertz * time)
            wav *= 1 + 0.5 * np.sin(2 * np.pi * (3 + take) * time)
            path = folder / f"{label}-{take}.wav"
            soundfile.write(path, wav, RATE, subtype="FLOAT")
            rows.append({"id": path.stem, "path": str(path), "label": label})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def prompts(tiny_clap: FrozenClap) -> dict[str, Tensor]:
    """An embedding a label."""
    return prompts_of(tiny_clap, list(PITCH), "This is a sound of {}.")


def items(data: SourceMixtures) -> list[dict[str, Any]]:
    """All pairs of a data set."""
    return [data[index] for index in range(len(data))]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two pairs are equal, bit by bit."""
    waves = ("target", "interference")
    rest = [{k: v for k, v in pair.items() if k not in waves} for pair in (one, other)]
    return rest[0] == rest[1] and all(torch.equal(one[x], other[x]) for x in waves)


def test_parts_of_recordings_are_sources(
    clips: pd.DataFrame, front_end: FrontEnd, tmp_path: Path
) -> None:
    """A clip with start and stop gives that stretch, as if it were a file."""
    pair = clips[clips.id.isin(["dog-0", "siren-0"])].reset_index(drop=True)
    wavs = [soundfile.read(path, dtype="float32")[0] for path in pair.path]
    soundfile.write(tmp_path / "both.wav", np.concatenate(wavs), RATE, subtype="FLOAT")
    cut = pair.assign(
        path=str(tmp_path / "both.wav"), start=[0.0, 1.0], stop=[1.0, 2.0]
    )
    whole, parts = (items(SourceMixtures(one, front_end, "sum")) for one in (pair, cut))
    assert all(same(a, b) for a, b in zip(whole, parts, strict=True))


def pitch_of(wav: Tensor) -> str:
    """Label of the loudest frequency of the first second that is not silent."""
    start = int((wav != 0).float().argmax())
    hertz = int(torch.fft.rfft(wav[start : start + RATE]).abs().argmax())
    return min(PITCH, key=lambda label: abs(PITCH[label] - hertz))


def low_beside_high(
    clips: pd.DataFrame, front_end: FrontEnd, arrangement: str
) -> dict[str, Any]:
    """Make a batch of a dog and a siren, each of them the target once."""
    two = clips[clips.id.isin(["dog-0", "siren-1"])]
    return default_collate(items(SourceMixtures(two, front_end, arrangement, seed=2)))


def located(
    prompts: dict[str, Tensor],
    pairs: dict[str, Any],
    arrangement: str,
    suite: ExplainerSuite,
) -> pd.DataFrame:
    """Call `score_localisation` and look at the form of what it returns."""
    mixtures = mixture_batch(suite.clap, prompts, pairs, arrangement, suite.domain, 5)
    parts = [
        score_localisation(mixtures, name, suite.explain(name, mixtures.batch))
        for name in suite.names
    ]
    table = pd.concat(parts, ignore_index=True)
    assert list(table) == ["id", "other", "method", *COLUMNS, "seconds"]
    assert list(localisation_columns()) == COLUMNS
    assert table.id.tolist() == pairs["id"] * len(suite.names)
    assert table.other.tolist() == pairs["other"] * len(suite.names)
    assert table.method.tolist() == [name for name in suite.names for _ in pairs["id"]]
    return table


def figures(table: pd.DataFrame, method: str, column: str) -> list[float]:
    """Values of one method, a clip each."""
    return table.loc[table.method == method, column].tolist()


# --- pairs --------------------------------------------------------------------------


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_pairs_are_of_two_labels(
    clips: pd.DataFrame, front_end: FrontEnd, arrangement: str
) -> None:
    """Each clip is the target once; the interference has the label of its id."""
    label_of = dict(zip(clips.id, clips.label, strict=True))
    others = set()
    for seed in range(3):
        found = items(SourceMixtures(clips, front_end, arrangement, seed))
        assert [item["id"] for item in found] == clips.id.tolist()
        for item in found:
            assert item["label"] == label_of[item["id"]] == pitch_of(item["target"])
            assert label_of[item["other"]] == pitch_of(item["interference"])
            assert label_of[item["other"]] != item["label"]
            assert (
                item["samples"]
                == len(item["target"])
                == len(item["interference"])
                == SIZE
            )
            others.add((item["label"], label_of[item["other"]]))
    assert others == {(a, b) for a in PITCH for b in PITCH if a != b}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_sources_have_equal_power(
    clips: pd.DataFrame, front_end: FrontEnd, arrangement: str
) -> None:
    """However weak a clip is, both sources have the same power, and do not clip."""
    for item in items(SourceMixtures(clips, front_end, arrangement)):
        powers = [float(item[x].square().mean()) for x in ("target", "interference")]
        assert powers[0] == pytest.approx(powers[1], rel=1e-4)
        assert powers[0] > 1e-4
        assert (item["target"] + item["interference"]).abs().max() < 1


def test_sums_sound_all_along(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """In a sum both sources are there from the beginning to the end."""
    for item in items(SourceMixtures(clips, front_end, "sum")):
        for source in (item["target"], item["interference"]):
            assert source.view(50, -1).norm(dim=1).min() > 0.5 * source.norm() / 50**0.5


def test_sequences_have_a_half_each(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """The sources share no sample, each has a half, and which is first is drawn."""
    leads = []
    for seed in range(3):
        for item in items(SourceMixtures(clips, front_end, "sequence", seed)):
            target, rest = item["target"] != 0, item["interference"] != 0
            assert not (target & rest).any()
            assert target.sum() > 0.99 * HALF and rest.sum() > 0.99 * HALF
            first = target[:HALF].sum() > 0
            assert not (target[HALF:] if first else target[:HALF]).any()
            leads.append(bool(first))
    assert 0.2 < np.mean(leads) < 0.8


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_pairs_depend_on_seed_and_clip(
    clips: pd.DataFrame, front_end: FrontEnd, arrangement: str
) -> None:
    """Neither order nor a global seed changes a pair; another seed does."""
    make = [SourceMixtures(clips, front_end, arrangement, seed) for seed in (7, 7, 8)]
    torch.manual_seed(0)
    np.random.seed(0)
    ahead = items(make[0])
    torch.manual_seed(1)
    np.random.seed(1)
    behind = [make[1][i] for i in reversed(range(len(clips)))][::-1]
    assert all(same(a, b) for a, b in zip(ahead, behind, strict=True))
    assert not all(same(a, b) for a, b in zip(ahead, items(make[2]), strict=True))


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_silent_clips(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    prompts: dict[str, Tensor],
    tmp_path: Path,
    arrangement: str,
) -> None:
    """A silent clip, as target and as the other, makes no NaN."""
    silent = str(tmp_path / "silent.wav")
    soundfile.write(silent, np.zeros(RATE), RATE)
    two = pd.DataFrame(
        {"id": ["a", "b"], "path": [silent, clips.path[0]], "label": ["rain", "dog"]}
    )
    batch = default_collate(
        items(SourceMixtures(two, tiny_clap.front_end, arrangement))
    )
    assert (
        torch.isfinite(batch["target"]).all()
        and torch.isfinite(batch["interference"]).all()
    )
    assert (
        batch["target"][0].count_nonzero()
        == batch["interference"][1].count_nonzero()
        == 0
    )
    suite = given(tiny_clap, all=keep_all, nothing=lambda batch: 0 * keep_all(batch))
    table = located(prompts, batch, arrangement, suite)
    named = [c for c in COLUMNS if table[c].notna().any()]
    assert np.isfinite(table[named]).all(axis=None)
    assert figures(table, "all", "mass_on_source") == pytest.approx([0, 1], abs=0.02)
    assert figures(table, "nothing", "mass_on_source") == [0, 0]


def test_unknown_arrangements(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """There are two arrangements."""
    message = "^arrangement is 'chord', not sum or sequence$"
    with pytest.raises(ValueError, match=message):
        SourceMixtures(clips, front_end, "chord")


def test_clips_of_one_label(clips: pd.DataFrame, front_end: FrontEnd) -> None:
    """Two sources of one label could not be told apart."""
    message = "^known sources: a mixture needs clips of two labels, and all 2 are 'dog'"
    with pytest.raises(ValueError, match=message):
        SourceMixtures(clips[clips.label == "dog"], front_end, "sum")


# --- frames -------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [6400, 6700])
def test_frames_equal_a_loop(front_end: FrontEnd, samples: int) -> None:
    """A frame is inside unless all that sounds lies before its middle, or behind it."""
    hop, frames = front_end.hop_length, 1 + samples // front_end.hop_length
    rng = np.random.default_rng(0)
    spans = [sorted(rng.integers(0, samples, 2)) for _ in range(40)]
    edges = [(0, 0), (0, samples - 1), (samples - 1, samples - 1), (hop, 2 * hop)]
    sounding = torch.zeros(len(spans) + len(edges), samples, dtype=torch.bool)
    for row, (first, last) in zip(sounding, [*spans, *edges], strict=True):
        row[first] = row[last] = True  # what is between may be silent
    found = frames_of(front_end, sounding, frames)
    assert found.dtype == torch.bool and found.shape == (len(sounding), frames)
    for inside, row in zip(found, sounding, strict=True):
        for t in range(frames):
            middle = min(t * hop, samples - 1)
            before, after = row[: middle + 1].any(), row[middle:].any()
            assert inside[t] == (before and after)
    assert 0.1 < found.float().mean() < 0.9


def test_frames_of_silence(front_end: FrontEnd) -> None:
    """Where nothing sounds no frame is inside, whoever else is in the batch."""
    sounding = torch.zeros(2, 6400, dtype=torch.bool)
    sounding[1] = True
    assert frames_of(front_end, sounding, 11).sum(1).tolist() == [0, 11]


# --- locate -------------------------------------------------------------------------


def test_perfect_masks_in_a_sum(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """The ideal mask finds the source; its opposite loses it."""
    pairs = low_beside_high(clips, tiny_clap.front_end, "sum")

    def oracle(batch: ExplainerInput) -> Tensor:
        parts = [
            power(tiny_clap.front_end.stft(pairs[x]))
            for x in ("target", "interference")
        ]
        return (parts[0] > parts[1]).float()

    suite = given(tiny_clap, oracle=oracle, opposite=lambda batch: 1 - oracle(batch))
    table = located(prompts, pairs, "sum", suite)
    ideal = figures(table, "oracle", "mass_on_source")
    assert ideal == pytest.approx([1, 1], abs=1e-4)
    assert min(figures(table, "oracle", "si_sdr_improvement")) > 30
    worst = figures(table, "opposite", "mass_on_source")
    assert worst == pytest.approx([0, 0], abs=1e-4)
    assert max(figures(table, "opposite", "si_sdr_improvement")) < -30


def test_keeping_everything_of_a_sum(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """Any constant mask has the target's share of the power, and gains nothing."""
    front_end = tiny_clap.front_end
    batch = default_collate(items(SourceMixtures(clips, front_end, "sum"))[:3])
    suite = given(tiny_clap, all=keep_all, some=lambda batch: 0.3 * keep_all(batch))
    table = located(prompts, batch, "sum", suite)
    expected = []
    for target, rest in zip(batch["target"], batch["interference"], strict=True):
        parts = [
            front_end.stft(x).abs().double().square().sum() for x in (target, rest)
        ]
        expected.append(float(parts[0] / (parts[0] + parts[1])))
    assert expected == pytest.approx([0.5] * 3, abs=0.05)
    for name in suite.names:
        mass = figures(table, name, "mass_on_source")
        assert mass == pytest.approx(expected, abs=1e-4)
        gain = figures(table, name, "si_sdr_improvement")
        assert gain == pytest.approx([0] * 3, abs=1e-3)


def test_perfect_masks_in_a_sequence(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """The frames of the target are found whether it is first or last."""
    front_end = tiny_clap.front_end
    every = items(SourceMixtures(clips, front_end, "sequence"))
    first = [bool(item["target"][:HALF].any()) for item in every]
    pairs = default_collate([every[first.index(True)], every[first.index(False)]])

    def oracle(batch: ExplainerInput) -> Tensor:
        mask = torch.zeros(batch.spectrum.shape)
        mask[0, :, :124], mask[1, :, 126:] = 0.7, 0.7  # frame 125 is in the middle
        return mask

    def opposite(batch: ExplainerInput) -> Tensor:
        return oracle(batch).flip(0)

    suite = given(tiny_clap, oracle=oracle, opposite=opposite)
    table = located(prompts, pairs, "sequence", suite)
    for column in ("mass_on_source", "pointing_game"):
        assert figures(table, "oracle", column) == [1, 1]
        assert figures(table, "opposite", column) == [0, 0]
    assert min(figures(table, "oracle", "temporal_iou")) > 0.98
    assert figures(table, "opposite", "temporal_iou") == [0, 0]


def test_keeping_everything_of_a_sequence(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """It has each source's share of power and time, and the loudest frame."""
    front_end = tiny_clap.front_end
    batch = default_collate(items(SourceMixtures(clips, front_end, "sequence"))[::2])
    table = located(prompts, batch, "sequence", given(tiny_clap, all=keep_all))
    for row, target, rest in zip(
        table.itertuples(), batch["target"], batch["interference"], strict=True
    ):
        sounding = np.flatnonzero(target.numpy())
        middles = np.minimum(np.arange(251) * 640, SIZE - 1)
        inside = (middles >= sounding[0]) & (middles <= sounding[-1])
        spectrum = front_end.stft(target + rest).numpy().astype(complex)
        frames = (np.abs(spectrum) ** 2).sum(0)
        share = frames[inside].sum() / frames.sum()
        assert row.mass_on_source == pytest.approx(share, abs=1e-4)
        assert row.mass_on_source == pytest.approx(0.5, abs=0.05)
        assert row.temporal_iou == pytest.approx(inside.sum() / 251, abs=1e-6)
        assert row.pointing_game == inside[frames.argmax()]


@pytest.mark.parametrize(
    ("arrangement", "empty"),
    [("sum", ["pointing_game", "temporal_iou"]), ("sequence", ["si_sdr_improvement"])],
)
def test_what_does_not_apply_is_empty(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    prompts: dict[str, Tensor],
    arrangement: str,
    empty: list[str],
) -> None:
    """Figures that an arrangement has no meaning for are NaN; all others are there."""
    batch = low_beside_high(clips, tiny_clap.front_end, arrangement)
    suite = given(tiny_clap, all=keep_all, again=keep_all)
    table = located(prompts, batch, arrangement, suite)
    assert table[empty].isna().all(axis=None)
    assert table.drop(columns=empty).notna().all(axis=None)
    assert (table.seconds > 0).all()


def test_masks_of_mel_bands_are_carried_to_bins(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """In the mel domain a mask is judged by what it keeps of the spectrogram."""
    front_end = tiny_clap.front_end
    bands = torch.rand(2, 64, 251, generator=torch.Generator().manual_seed(0))
    for arrangement in ARRANGEMENTS:
        pairs = low_beside_high(clips, front_end, arrangement)
        mel = given(tiny_clap, "mel", one=lambda batch: bands)
        found = located(prompts, pairs, arrangement, mel)
        bins = front_end.mel_to_freq(torch.eye(64)) @ bands
        stft = given(tiny_clap, one=lambda batch, bins=bins: bins)
        expected = located(prompts, pairs, arrangement, stft)
        columns = found.columns.drop("seconds")
        found, expected = found[columns], expected[columns]
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_what_explainers_get(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    prompts: dict[str, Tensor],
    arrangement: str,
) -> None:
    """The mixture of both sources, the prompt of the target, and all classes."""
    pairs, seen = low_beside_high(clips, tiny_clap.front_end, arrangement), []

    def watch(batch: ExplainerInput) -> Tensor:
        seen.append(batch)
        return keep_all(batch)

    located(prompts, pairs, arrangement, given(tiny_clap, all=watch))
    (batch,), mixture = seen, pairs["target"] + pairs["interference"]
    assert batch.spectrum.shape == (2, 1025, 251)
    torch.testing.assert_close(
        tiny_clap.front_end.istft(batch.spectrum, SIZE), mixture, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        batch.log_mel, tiny_clap.front_end.log_mel(mixture), rtol=0, atol=1e-2
    )
    assert torch.equal(batch.text, torch.stack([prompts["dog"], prompts["siren"]]))
    assert batch.samples.tolist() == [SIZE, SIZE]
    assert batch.seed == 5
    assert list(batch.ids) == pairs["id"]
    assert batch.classes is not None
    assert torch.equal(batch.classes, torch.stack(list(prompts.values())))


def test_some_pairs_of_a_batch(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """They are scored as among the others."""
    for arrangement in ARRANGEMENTS:
        pairs = low_beside_high(clips, tiny_clap.front_end, arrangement)
        mixtures = mixture_batch(tiny_clap, prompts, pairs, arrangement)
        masks = torch.rand(mixtures.batch.spectrum.shape)
        explained = Explained(masks, masks, 0.5)
        every = score_localisation(mixtures, "one", explained)
        some = score_localisation(mixtures.take([1]), "one", explained.take([1]))
        expected = every.iloc[[1]].reset_index(drop=True)
        pd.testing.assert_frame_equal(some, expected, atol=1e-4)


def test_a_metric_is_one_entry(
    tiny_clap: FrozenClap,
    clips: pd.DataFrame,
    prompts: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is added for an arrangement is in its table, and empty in the other one."""
    toy = Metric("toy", lambda located: located.inside.float().mean(1))
    monkeypatch.setitem(LOCALISATION["sequence"], "toy", toy)
    suite = given(tiny_clap, all=keep_all)
    found = score_source_mixtures(suite, clips, prompts, seed=3).set_index("condition")
    assert found.loc["sum", "toy"].isna().all()
    assert found.loc["sequence", "toy"].tolist() == pytest.approx([0.5] * 6, abs=0.01)


def test_scores_do_not_depend_on_the_batch(
    tiny_clap: FrozenClap, clips: pd.DataFrame, prompts: dict[str, Tensor]
) -> None:
    """A decoder has the same values alone and beside others, in batches of any size."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=8)
    alone = ExplainerSuite(tiny_clap, {MAIN: decoder}, explainers={})
    beside = {"all": Method("all", keep_all)}
    both = ExplainerSuite(tiny_clap, {MAIN: decoder}, explainers=beside)
    one = score_source_mixtures(alone, clips, prompts, seed=3, batch_size=4)
    other = score_source_mixtures(both, clips, prompts, seed=3)
    other = other[other.method == MAIN].reset_index(drop=True)
    assert one.condition.tolist() == ["sum"] * 6 + ["sequence"] * 6
    columns = one.columns.drop("seconds")
    pd.testing.assert_frame_equal(one[columns], other[columns], atol=1e-3)


def test_prompts_are_made_of_labels(tiny_clap: FrozenClap) -> None:
    """Each label has the embedding of its sentence."""
    found = prompts_of(tiny_clap, ["rain", "dog"], "I can hear {} now")
    assert list(found) == ["rain", "dog"]
    for label, text in found.items():
        (alone,) = tiny_clap.encode_text([f"I can hear {label} now"])
        torch.testing.assert_close(text, alone, rtol=0, atol=1e-5)
    assert (found["rain"] - found["dog"]).norm() > 0.1
