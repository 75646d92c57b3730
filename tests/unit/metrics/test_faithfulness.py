"""Each metric against a slow loop over its definition, and at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import quantus
import torch
from torch import Tensor

from lmaczs.metrics import faithfulness as metrics
from lmaczs.metrics.metric import Metric

BATCH, CLASSES, FREQ, TIME, SAMPLES = 12, 5, 7, 11, 800
KEEP_ALL, NOTHING = torch.ones(1, FREQ, TIME), torch.zeros(1, FREQ, TIME)


def generator(seed: int) -> torch.Generator:
    """Make a random generator of a fixed seed."""
    return torch.Generator().manual_seed(seed)


def probabilities(seed: int) -> Tensor:
    """Make rows of probabilities, sharp enough to change their order between seeds."""
    logits = 2.0 * torch.randn(BATCH, CLASSES, generator=generator(seed))
    return logits.softmax(1)


def masked_probabilities() -> Tensor:
    """Make every second clip surer than `probabilities(1)`, the others different."""
    surer = (2 * probabilities(1).log()).softmax(1)
    return torch.where(torch.arange(BATCH)[:, None] % 2 == 0, surer, probabilities(2))


def masks(seed: int = 0) -> Tensor:
    """Make masks of different mean, each with cells that are exactly 0."""
    cells = torch.rand(BATCH, FREQ, TIME, generator=generator(seed))
    powers = torch.arange(1, BATCH + 1)[:, None, None]
    return torch.where(cells < 0.1, 0.0, cells**powers)


def noise(seed: int) -> Tensor:
    """Make a batch of white noise around 0.2."""
    return torch.randn(BATCH, SAMPLES, generator=generator(seed)) + 0.2


def slow_softmax(row: list[float]) -> list[float]:
    """Compute a softmax in plain Python."""
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def slow_row(input_p: list, masked_p: list, removed_p: list) -> dict[str, float]:
    """Score one clip's probabilities from the definitions."""
    y = max(range(len(input_p)), key=lambda k: input_p[k])
    c, o, r = input_p[y], masked_p[y], removed_p[y]
    flat_c, flat_o = slow_softmax(input_p)[y], slow_softmax(masked_p)[y]
    return {
        "AI": 100.0 if o > c else 0.0,
        "AD": 100.0 * max(0.0, c - o) / c,
        "AD_sb": 100.0 * max(0.0, flat_c - flat_o) / flat_c,
        "AG": 100.0 * max(0.0, o - c) / (1.0 - c),
        "FF": c - r,
        "Fid-In": float(max(masked_p) == masked_p[y]),
    }


def slow_gini(mask: Tensor) -> float:
    """Compute half the relative mean absolute difference over all pairs of cells."""
    cells = mask.flatten().tolist()
    pairs = sum(abs(a - b) for a in cells for b in cells)
    return pairs / (2 * len(cells) * sum(cells))


def slow_entropy(mask: Tensor) -> float:
    """Compute -sum q ln q cell by cell."""
    cells = mask.flatten().tolist()
    shares = [cell / sum(cells) for cell in cells if cell > 0]
    return -sum(share * math.log(share) for share in shares)


def quantus_value(metric: Callable, cells: Tensor) -> np.ndarray:
    """Score masks with a metric of quantus, as its users call it."""
    attributions = cells[:, None].numpy().copy()
    images = np.ones_like(attributions)
    labels = np.zeros(len(images), dtype=int)
    scores = metric(disable_warnings=True)(
        None, images, labels, a_batch=attributions, channel_first=True
    )
    return np.array(scores)


def table_arguments() -> tuple[Tensor, ...]:
    """Make what the table is computed from, but for the labels."""
    return probabilities(1), masked_probabilities(), probabilities(3), masks()


def table(repeats: int = 1) -> dict[str, Tensor]:
    """Compute the table of a random batch, repeated so many times."""
    batch = table_arguments() + (torch.arange(BATCH) % CLASSES,)
    return metrics.faithfulness_table(*(torch.cat([t] * repeats) for t in batch))


def test_table_equals_the_definitions() -> None:
    """Every column of probabilities equals a loop over the clips."""
    probs = [p.tolist() for p in table_arguments()[:3]]
    expected = [slow_row(*rows) for rows in zip(*probs, strict=True)]
    found = table()
    for column in expected[0]:
        values = torch.tensor([row[column] for row in expected])
        torch.testing.assert_close(found[column], values, rtol=1e-4, atol=1e-4)
        assert values.unique().numel() > 1, f"{column} tests nothing on this batch"


def test_table_has_the_public_columns() -> None:
    """The names and their order are those of results.csv, one float per clip."""
    columns = "accuracy AI AD AD_sb AG FF Fid-In SPS COMP MM".split()
    assert list(table()) == columns
    assert all(v.shape == (BATCH,) and v.is_floating_point() for v in table().values())


def test_without_labels_there_is_no_accuracy() -> None:
    """What cannot be known is left out rather than filled in."""
    p = probabilities(1)
    found = metrics.faithfulness_table(p, p, p, masks())
    assert "accuracy" not in found and len(found) == 9


def test_accuracy_compares_with_the_label() -> None:
    """1 where the predicted class is the label, else 0."""
    p = torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.4, 0.6]])
    found = metrics.faithfulness_table(p, p, p, masks()[:3], torch.tensor([0, 1, 1]))
    assert found["accuracy"].tolist() == [1.0, 0.0, 1.0]


def test_values_are_within_the_limits_of_their_metric() -> None:
    """Every entry of the registry states its range, and what is better."""
    assert list(table()) == list(metrics.METRICS)
    for name, values in table().items():
        low, high = metrics.METRICS[name].limits
        assert low <= values.min() and values.max() <= high, name
    undirected = {n for n, m in metrics.METRICS.items() if m.better is None}
    lower = {n for n, m in metrics.METRICS.items() if m.better == "lower"}
    assert undirected == {"accuracy", "MM"}
    assert lower == {"AD", "AD_sb", "COMP"}


def test_a_metric_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to the registry is in the table, from the same batch."""
    toy = Metric("toy", lambda batch: batch.o - batch.r)
    monkeypatch.setitem(metrics.METRICS, "toy", toy)
    found = table()
    assert list(found)[-1] == "toy"
    probs = table_arguments()
    predicted = probs[0].argmax(1)
    expected = (probs[1] - probs[2])[range(BATCH), predicted]
    assert torch.equal(found["toy"], expected)


def test_duplicating_the_batch_changes_nothing() -> None:
    """A clip's values do not depend on who else is in the batch."""
    for name, values in table(repeats=2).items():
        torch.testing.assert_close(values, table()[name].repeat(2), msg=name)


def test_one_by_one_equals_the_batch() -> None:
    """A batch of one keeps its dimension and its value."""
    batch = table_arguments()
    whole = metrics.faithfulness_table(*batch)
    for i in range(BATCH):
        single = metrics.faithfulness_table(*(t[i : i + 1] for t in batch))
        for name, value in single.items():
            torch.testing.assert_close(value, whole[name][i : i + 1], msg=name)


def test_keeping_everything_is_neutral() -> None:
    """The same probabilities with and without mask: no drop, no gain, same class."""
    p = probabilities(1)
    found = metrics.faithfulness_table(p, p, p, KEEP_ALL.expand(BATCH, -1, -1))
    for name in ("AI", "AD", "AD_sb", "AG", "FF"):
        assert not found[name].any(), name
    assert found["Fid-In"].all() and (found["MM"] == 1).all()


def test_batches_that_do_not_fit_are_refused() -> None:
    """Twelve clips and five masks are a mistake, not a broadcast."""
    p = probabilities(1)
    with pytest.raises(ValueError, match="shapes"):
        metrics.faithfulness_table(p, p, p, masks()[:5])
    with pytest.raises(ValueError, match="shapes"):
        metrics.faithfulness_table(p, p, p[:, :2], masks())
    with pytest.raises(ValueError, match="shapes"):
        metrics.faithfulness_table(p, p, p, masks(), torch.zeros(1))


@pytest.mark.parametrize(
    ("c", "o", "drop", "gain", "increase"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.0, 0.5, 0.0, 50.0, 100.0),
        (1.0, 1.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, 100.0, 0.0, 0.0),
        (0.5, 1.0, 0.0, 100.0, 100.0),
        (0.8, 0.2, 75.0, 0.0, 0.0),
    ],
)
def test_certain_and_impossible_predictions(
    c: float, o: float, drop: float, gain: float, increase: float
) -> None:
    """Where there is nothing to lose or to win the value is 0, and NaN never."""
    pair = torch.tensor([c]), torch.tensor([o])
    assert metrics.average_drop(*pair).item() == pytest.approx(drop, abs=1e-4)
    assert metrics.average_gain(*pair).item() == pytest.approx(gain, abs=1e-4)
    assert metrics.average_increase(*pair).item() == increase


def test_speechbrains_drop_is_capped() -> None:
    """Losing a certain class wholly to another one reads 100 (1 - 1/e)."""
    certain, lost = torch.eye(50)[:1], torch.eye(50)[1:2]
    value = metrics.average_drop_speechbrain(certain, lost).item()
    assert value == pytest.approx(63.212, abs=1e-3)


def test_speechbrains_drop_never_exceeds_its_cap() -> None:
    """No pair of distributions, sharp or flat, gets beyond 63.2."""
    logits = torch.randn(2, 4000, 4, generator=generator(0))
    scale = torch.logspace(-2, 2, 4000)[:, None]
    values = metrics.average_drop_speechbrain(*(logits * scale).softmax(2))
    assert 60 < values.max().item() < 63.213


def test_class_probabilities_are_a_softmax_of_similarities() -> None:
    """Each row is softmax(scale * dot products) over the label prompts."""
    audio = torch.nn.functional.normalize(noise(0)[:, :8], dim=1)
    text = torch.nn.functional.normalize(noise(1)[:CLASSES, :8], dim=1)
    found = metrics.class_probabilities(audio, text, 10.0)
    for row, clip in zip(found.tolist(), audio.tolist(), strict=True):
        logits = [10 * sum(map(float.__mul__, clip, t)) for t in text.tolist()]
        assert row == pytest.approx(slow_softmax(logits), abs=1e-6)


def test_sparseness_equals_the_definition() -> None:
    """The Gini index is half the relative mean difference of all pairs."""
    for mask, value in zip(masks(), metrics.sparseness(masks()), strict=True):
        assert value.item() == pytest.approx(slow_gini(mask), abs=1e-6)


def test_complexity_equals_the_definition() -> None:
    """The entropy is that of the mask as a distribution, in nats."""
    for mask, value in zip(masks(), metrics.complexity(masks()), strict=True):
        assert value.item() == pytest.approx(slow_entropy(mask), abs=1e-5)


def test_sparseness_equals_quantus() -> None:
    """Quantus agrees on ordinary masks and on a constant one."""
    cells = torch.cat([masks(), 0.3 * KEEP_ALL])
    expected = quantus_value(quantus.Sparseness, cells)
    np.testing.assert_allclose(metrics.sparseness(cells).numpy(), expected, atol=1e-6)


def test_complexity_equals_quantus() -> None:
    """Quantus agrees on ordinary masks and on a constant one."""
    cells = torch.cat([masks(), 0.3 * KEEP_ALL])
    expected = quantus_value(quantus.Complexity, cells)
    np.testing.assert_allclose(metrics.complexity(cells).numpy(), expected, atol=1e-5)


def test_large_masks_keep_their_precision() -> None:
    """At the size of a real STFT both equal float64 within 1e-5."""
    cells = torch.rand(2, 1025, 251, generator=generator(0)) ** 3
    ordered = cells.double().flatten(1).sort(1).values
    n = ordered.shape[1]
    ranks = 2 * torch.arange(1, n + 1).double() - n - 1
    gini = (ranks * ordered).sum(1) / (n * ordered.sum(1))
    share = ordered / ordered.sum(1, keepdim=True)
    entropy = torch.special.entr(share).sum(1)
    torch.testing.assert_close(
        metrics.sparseness(cells).double(), gini, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        metrics.complexity(cells).double(), entropy, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-3, 0.5, 1.0])
def test_constant_masks_are_as_unsparse_as_can_be(level: float) -> None:
    """All cells alike, all zero included: Gini 0, entropy ln n, mean the level."""
    mask = torch.full((1, FREQ, TIME), level)
    assert metrics.sparseness(mask).item() == pytest.approx(0.0, abs=1e-6)
    assert metrics.complexity(mask).item() == pytest.approx(math.log(FREQ * TIME))
    assert metrics.mask_mean(mask).item() == pytest.approx(level)


def test_a_single_cell_is_as_sparse_as_can_be() -> None:
    """One cell alone: Gini 1 - 1/n, entropy 0."""
    mask = NOTHING.clone()
    mask[0, 3, 4] = 0.2
    n = FREQ * TIME
    assert metrics.sparseness(mask).item() == pytest.approx(1 - 1 / n)
    assert metrics.complexity(mask).item() == pytest.approx(0.0, abs=1e-6)
    assert metrics.mask_mean(mask).item() == pytest.approx(0.2 / n)
