"""Scoring of explanations, on a random tiny CLAP, and the table that it fills."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.attribution import grad_cam
from lmaczs.evaluation.explainers import CHANCE, KEEP_ALL, MAIN, Asked, Methods
from lmaczs.evaluation.result_table import KeptTable
from lmaczs.evaluation.scoring import (
    METRICS,
    Task,
    as_batch,
    explain_predicted,
    fill_tables,
    score_batch,
)
from lmaczs.frontend import DOMAINS, Domain, power

LABELS = ["dog", "rain", "siren"]
DETERMINISTIC = [MAIN, "Grad-CAM", "energy", KEEP_ALL]


def clips(clap: FrozenClap, number: int = 3) -> list[dict[str, Any]]:
    """Noises that begin at different times, labels in turn."""
    samples = clap.front_end.max_samples
    rng = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(number, samples, generator=rng)
    starts = torch.linspace(0, 0.6, number)[:, None] * samples
    wavs = wavs * (torch.arange(samples) > starts)
    return [
        {"id": f"clip{i}", "label": LABELS[i % 3], "wav": wav, "samples": samples}
        for i, wav in enumerate(wavs)
    ]


@pytest.fixture(scope="module")
def class_text(tiny_clap: FrozenClap) -> Tensor:
    """Embeddings of the three class prompts."""
    return tiny_clap.encode_text([f"This is a sound of {x}." for x in LABELS])


@pytest.fixture(scope="module")
def methods(tiny_clap: FrozenClap) -> Methods:
    """A random decoder and what it is compared with, one gradient method among it."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, "mel", width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(2)
        decoder.draw.bias.fill_(-0.5)
    return Methods(tiny_clap, {MAIN: decoder}, "mel", {"Grad-CAM": grad_cam})


def scored(
    clap: FrozenClap, methods: Methods, class_text: Tensor, size: int
) -> pd.DataFrame:
    """Score three clips in batches of a size."""
    items = clips(clap)
    batches = [as_batch(items[i : i + size]) for i in range(0, len(items), size)]
    parts = [
        score_batch(explain_predicted(clap, methods, class_text, batch, 7), LABELS)
        for batch in batches
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def per_clip(
    tiny_clap: FrozenClap, methods: Methods, class_text: Tensor
) -> pd.DataFrame:
    """Scores of three clips in batches of two and one."""
    return scored(tiny_clap, methods, class_text, 2)


# --- a batch ------------------------------------------------------------------------


def test_every_method_scores_every_clip_once(
    per_clip: pd.DataFrame, methods: Methods
) -> None:
    """One row a clip and method, methods in the order of the tables."""
    assert list(per_clip) == ["id", "method", *METRICS, "seconds"]
    expected = [
        (f"clip{clip}", name)
        for batch in ((0, 1), (2,))
        for name in methods.names
        for clip in batch
    ]
    found = list(zip(per_clip.id, per_clip.method, strict=True))
    assert found == expected
    assert per_clip.notna().all(axis=None)
    assert (per_clip.seconds > 0).all()


def test_keeping_everything_changes_nothing(per_clip: pd.DataFrame) -> None:
    """No drop, no gain, the same class, and nothing left out."""
    kept = per_clip[per_clip.method == KEEP_ALL]
    assert (kept["Fid-In"] == 1).all()
    assert (kept["MM"] == 1).all()
    assert kept["AD"].max() < 1e-2
    assert kept["AG"].max() < 1e-2
    assert per_clip[per_clip.method == MAIN]["AD"].max() > 1e-2


def test_chance_and_energy_have_the_decoders_mean(per_clip: pd.DataFrame) -> None:
    """They are given as much of the spectrogram as LMAC-ZS+ takes, clip by clip."""
    means = per_clip.pivot(index="id", columns="method", values="MM")
    assert means[MAIN].nunique() == 3
    for name in (*CHANCE, "energy"):
        assert means[name].tolist() == pytest.approx(means[MAIN].tolist(), abs=4e-5)


def test_scores_do_not_depend_on_the_batch(
    tiny_clap: FrozenClap,
    methods: Methods,
    class_text: Tensor,
    per_clip: pd.DataFrame,
) -> None:
    """Whatever draws nothing gives the same for all clips at once."""

    def of_deterministic(table: pd.DataFrame) -> pd.DataFrame:
        table = table.set_index(["method", "id"]).sort_index().loc[DETERMINISTIC]
        # keep-all neither gains nor loses: rounding says which of the two is counted
        table.loc[KEEP_ALL, "AI"] = 0.0
        return table[list(METRICS)]

    found = of_deterministic(scored(tiny_clap, methods, class_text, 3))
    pd.testing.assert_frame_equal(
        found, of_deterministic(per_clip), atol=2e-2, rtol=5e-3
    )


def probability(
    clap: FrozenClap, log_mel: Tensor, class_text: Tensor, index: int | None = None
) -> tuple[float, int]:
    """Probability of a class, or of the likeliest one, in plain Python; its index."""
    (embedding,) = clap.audio_embedding(log_mel).tolist()
    logits = [
        clap.logit_scale * sum(a * b for a, b in zip(embedding, t, strict=True))
        for t in class_text.tolist()
    ]
    index = max(range(len(logits)), key=logits.__getitem__) if index is None else index
    return math.exp(logits[index]) / sum(math.exp(x) for x in logits), index


def fixed_methods(
    masks: Tensor, domain: Domain, seen: list[Asked] | None = None
) -> Any:
    """Stand-in for `Methods`: two masks that are given, whatever is asked."""

    def explain(asked: Asked) -> dict[str, tuple[Tensor, float]]:
        if seen is not None:
            seen.append(asked)
        return {"one": (masks, 0.25), "other": (1 - masks, 0.5)}

    explain.domain = domain  # type: ignore[attr-defined]
    return explain


@pytest.mark.parametrize("domain", DOMAINS)
@torch.no_grad()
def test_scores_are_those_of_probabilities_by_hand(
    tiny_clap: FrozenClap,
    class_text: Tensor,
    domain: Domain,
    masked_log_mel: Callable[..., Tensor],
) -> None:
    """Of one clip: what mask and remainder leave of the predicted class."""
    front_end = tiny_clap.front_end
    bins = front_end.n_mels if domain == "mel" else front_end.n_freqs
    rng = torch.Generator().manual_seed(1)
    mask = torch.rand(1, bins, front_end.n_frames, generator=rng).round(decimals=1)
    mask[:, bins // 4 :] = 0
    batch = as_batch(clips(tiny_clap, 1))
    methods = fixed_methods(mask, domain)
    explained = explain_predicted(tiny_clap, methods, class_text, batch, 0)
    table = score_batch(explained, LABELS)
    assert table.method.tolist() == ["one", "other"]
    assert table.seconds.tolist() == [0.25, 0.5]
    c, predicted = probability(tiny_clap, front_end.log_mel(batch["wav"]), class_text)
    drops = []
    for (_, row), own in zip(table.iterrows(), (mask, 1 - mask), strict=True):
        kept, left = (
            masked_log_mel(front_end, batch["wav"], m, domain) for m in (own, 1 - own)
        )
        o, _ = probability(tiny_clap, kept, class_text, predicted)
        r, _ = probability(tiny_clap, left, class_text, predicted)
        assert row["AI"] == (100 if o > c else 0)
        assert row["AD"] == pytest.approx(100 * max(c - o, 0) / c, abs=1e-2)
        assert row["AG"] == pytest.approx(100 * max(o - c, 0) / (1 - c), abs=1e-2)
        assert row["FF"] == pytest.approx(c - r, abs=1e-4)
        same = probability(tiny_clap, kept, class_text)[1] == predicted
        assert row["Fid-In"] == same
        assert row["accuracy"] == (LABELS[predicted] == "dog")
        assert row["MM"] == pytest.approx(float(own.mean()), abs=1e-6)
        drops.append(abs(c - o))
    assert max(drops) > 1e-3


def test_predicted_classes_are_asked_for(
    tiny_clap: FrozenClap, class_text: Tensor
) -> None:
    """Methods get the prompts that the model chooses, labels only count as right."""
    front_end, seen = tiny_clap.front_end, []
    items = clips(tiny_clap)
    log_mel = front_end.log_mel(torch.stack([item["wav"] for item in items]))
    chosen = (tiny_clap.audio_embedding(log_mel) @ class_text.T).argmax(1).tolist()
    for row, (item, index) in enumerate(zip(items, chosen, strict=True)):
        item["label"] = LABELS[(index + row % 2) % 3]
    batch = as_batch(items)
    methods = fixed_methods(
        torch.full((3, front_end.n_freqs, front_end.n_frames), 0.5), "stft", seen
    )
    explained = explain_predicted(tiny_clap, methods, class_text, batch, 11)
    table = score_batch(explained, LABELS)
    assert table.accuracy.tolist() == [1, 0, 1] * 2
    (asked,) = seen
    assert torch.equal(asked.text, class_text[chosen])
    assert asked.seed == 11
    assert asked.samples.tolist() == [front_end.max_samples] * 3
    spectrum = front_end.stft(batch["wav"])[..., : front_end.n_frames]
    assert torch.equal(asked.spectrum, spectrum)
    torch.testing.assert_close(asked.log_mel, log_mel)
    assert explained.asked is asked
    torch.testing.assert_close(explained.cells, power(spectrum))


# --- a table ------------------------------------------------------------------------

CONDITIONS = ("noisy", "clean")  # not in alphabetical order


def numbers(condition: str) -> list[dict[str, Any]]:
    """Five items, another set for each condition."""
    first = 10 * CONDITIONS.index(condition)
    return [{"id": f"{i:03}", "number": float(i)} for i in range(first, first + 5)]


DATASETS = {condition: numbers(condition) for condition in CONDITIONS}
Numbers = list[tuple[str, float]]


def explain(batch: dict[str, Any]) -> Numbers:
    """What the scorers below take: names and numbers."""
    return list(zip(batch["id"], batch["number"].tolist(), strict=True))


def rows_of(explained: Numbers, **divisors: int) -> pd.DataFrame:
    """Rows of methods, with values that no decimal number equals."""
    rows = [
        {"id": name, "method": method, "value": number / by}
        for method, by in divisors.items()
        for name, number in explained
    ]
    return pd.DataFrame(rows)


def two_methods(explained: Numbers) -> pd.DataFrame:
    """Two rows an item."""
    return rows_of(explained, third=3, seventh=7)


def one_method(explained: Numbers) -> pd.DataFrame:
    """One row an item."""
    return rows_of(explained, ninth=9)


def tasks_of(
    *conditions: str, explain: Callable[[dict[str, Any]], Numbers] = explain
) -> dict[str, Task]:
    """Both conditions fill a table, the clean one another one, too."""
    scorers = {"noisy": {"rows": two_methods}}
    scorers["clean"] = {"rows": two_methods, "more": one_method}
    return {c: Task(DATASETS[c], explain, scorers[c]) for c in conditions or CONDITIONS}


def filled(folder: Path) -> dict[str, KeptTable]:
    """Both tables in a folder."""
    return {name: KeptTable(folder / f"{name}.csv", {}) for name in ("rows", "more")}


def test_tables_hold_every_batch_in_order(tmp_path: Path) -> None:
    """Conditions in the order they are given, then batches, then what scores them."""
    tables = filled(tmp_path)
    fill_tables(tables, tasks_of(), 2)
    methods = {"rows": {"third": 3, "seventh": 7}, "more": {"ninth": 9}}
    for name, table in tables.items():
        assert list(table.rows) == ["condition", "id", "method", "value", "batch"]
        expected = [
            (condition, item["id"], method, item["number"] / by, start)
            for condition in (CONDITIONS if name == "rows" else ["clean"])
            for start in (0, 2, 4)
            for method, by in methods[name].items()
            for item in numbers(condition)[start : start + 2]
        ]
        assert list(table.rows.itertuples(index=False, name=None)) == expected


def test_batches_that_are_there_are_skipped(tmp_path: Path) -> None:
    """A second run explains nothing and leaves the files as they are."""
    fill_tables(filled(tmp_path), tasks_of(), 2)
    before = contents(tmp_path)

    def refuse(batch: dict[str, Any]) -> Numbers:
        raise AssertionError(f"{batch['id']} was explained again")

    tables = filled(tmp_path)
    fill_tables(tables, tasks_of(explain=refuse), 2)
    assert len(tables["rows"].rows) == 20
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_batch_is_explained_once_for_all_tables(tmp_path: Path) -> None:
    """The last batch is smaller."""
    seen = []

    def watched(batch: dict[str, Any]) -> Numbers:
        seen.append((batch["id"], batch["number"].tolist()))
        return explain(batch)

    fill_tables(filled(tmp_path), tasks_of("clean", explain=watched), 3)
    assert seen == [
        (["010", "011", "012"], [10.0, 11.0, 12.0]),
        (["013", "014"], [13.0, 14.0]),
    ]


@pytest.mark.parametrize("fails_at", range(6))
def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, fails_at: int) -> None:
    """What is left is explained once, and files are those of one run, byte by byte."""
    fill_tables(filled(tmp_path / "whole"), tasks_of(), 2)
    calls: list[str] = []

    def fail_once(batch: dict[str, Any]) -> Numbers:
        calls.append(batch["id"][0] if len(calls) != fails_at else "failed")
        if calls[-1] == "failed":
            raise KeyboardInterrupt
        return explain(batch)

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fill_tables(filled(folder), tasks_of(explain=fail_once), 2)
    fill_tables(filled(folder), tasks_of(explain=fail_once), 2)
    assert contents(folder) == contents(tmp_path / "whole")
    calls.remove("failed")
    assert calls == [numbers(c)[i]["id"] for c in CONDITIONS for i in (0, 2, 4)]


def test_what_one_table_lacks_is_not_added_to_the_other(tmp_path: Path) -> None:
    """A run that ends between the tables of a batch goes on with the second one."""
    fill_tables(filled(tmp_path / "whole"), tasks_of(), 2)
    folder, tasks = tmp_path / "parts", tasks_of()

    def stop(explained: Numbers) -> pd.DataFrame:
        raise KeyboardInterrupt

    broken = Task(DATASETS["clean"], explain, {"rows": two_methods, "more": stop})
    with pytest.raises(KeyboardInterrupt):
        fill_tables(filled(folder), {**tasks, "clean": broken}, 2)
    fill_tables(filled(folder), tasks, 2)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_condition_is_added_to_those_that_are_there(tmp_path: Path) -> None:
    """Only the new condition's batches are left, and progress is told of them."""
    fill_tables(filled(tmp_path), tasks_of("clean"), 2)
    told: list[int] = []

    def progress(left: Iterable) -> Iterable:
        told.append(len(list(left)))
        return left

    tables = filled(tmp_path)
    fill_tables(tables, tasks_of(), 2, progress)
    assert told == [3]
    rows = tables["rows"].rows
    assert rows.condition.drop_duplicates().tolist() == ["clean", "noisy"]
    assert rows.groupby("condition").size().to_dict() == {"clean": 10, "noisy": 10}


def test_as_batch_puts_clips_beside_each_other() -> None:
    """Tensors are stacked, numbers make a tensor, the rest makes lists."""
    items = [
        {"id": "a", "wav": torch.zeros(3), "samples": 3, "level": 0.5, "names": ["x"]},
        {"id": "b", "wav": torch.ones(3), "samples": 2, "level": 1.0, "names": []},
    ]
    batch = as_batch(items)
    assert list(batch) == ["id", "wav", "samples", "level", "names"]
    assert batch["id"] == ["a", "b"]
    assert batch["names"] == [["x"], []]
    assert torch.equal(batch["wav"], torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert batch["samples"].dtype == torch.int64
    assert batch["samples"].tolist() == [3, 2]
    assert batch["level"].tolist() == [0.5, 1.0]
