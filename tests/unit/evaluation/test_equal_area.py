"""Maps cut to equal areas: which cells are kept, and what they score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lmaczs.clap import FrozenClap
from lmaczs.evaluation.equal_area import SCORED, equal_area, times_power
from lmaczs.evaluation.explainers import KEEP_ALL, Explained
from lmaczs.evaluation.scoring import (
    UNSCALED,
    PredictedClips,
    predict,
    score,
    unscaled,
)
from lmaczs.frontend import DOMAINS, Domain

LABELS = ["dog", "rain"]


def predicted_of(clap: FrozenClap, domain: Domain = "mel") -> PredictedClips:
    """Two clips of noise, with reference masks of other sizes."""
    samples = clap.front_end.max_samples
    rng = torch.Generator().manual_seed(0)
    wavs = 0.1 * torch.randn(2, samples, generator=rng)
    clips = {
        "id": ["one", "two"],
        "label": LABELS,
        "wav": wavs * torch.linspace(0, 1, samples),
        "samples": torch.tensor([samples, samples]),
    }
    prompts = dict(zip(LABELS, clap.encode_text(LABELS), strict=True))
    found = predict(clap, prompts, clips, domain)
    reference = torch.zeros_like(found.batch.cells)
    reference[0, :7], reference[1, :, :11] = 1, 0.5
    return replace(found, batch=replace(found.batch, reference=reference))


def ranked(values: Tensor) -> Explained:
    """A method whose masks are not what its map says."""
    return Explained(torch.zeros_like(values), values, 0.1)


def slow_mask(values: Tensor, power: Tensor, count: int) -> Tensor:
    """Cells of one clip by value, then by power."""
    keys = (-power.flatten().numpy(), -values.flatten().numpy())
    order = np.lexsort(keys).copy()
    kept = torch.zeros(values.numel())
    kept[order[:count]] = 1
    return kept.reshape(values.shape)


@pytest.mark.parametrize("domain", DOMAINS)
def test_cut_maps_are_scored_as_masks(tiny_clap: FrozenClap, domain: Domain) -> None:
    """Each area, alone and times power, has the scores of such a mask."""
    predicted = predicted_of(tiny_clap, domain)
    cells = predicted.batch.cells
    values = torch.randn(cells.shape, generator=torch.Generator().manual_seed(1))
    values = values.round(decimals=1)
    table = equal_area(predicted, "own", ranked(values), [0.1, 0.35], 0.25)
    columns = ["id", "method", "map", "area"]
    assert list(table) == [*columns, *SCORED, *map(unscaled, UNSCALED)]
    assert len(table) == 2 * 2 * 3
    shifted = (values - values.amin((1, 2), True)) * cells**0.25
    like = predicted.batch.like
    for (kind, area), rows in table.groupby(["map", "area"]):
        own = values if kind == "alone" else shifted
        masks = []
        for row in range(2):
            count = (
                round(float(like[row].sum()))
                if area == "ours"
                else round(float(area) * cells[row].numel())
            )
            masks.append(slow_mask(own[row], cells[row], count))
        masks = torch.stack(masks)
        expected = score(predicted, "own", Explained(masks, masks, 0))
        assert rows.id.tolist() == ["one", "two"]
        for name in (*SCORED, *map(unscaled, UNSCALED)):
            found, wanted = rows[name].tolist(), expected[name].tolist()
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3), (kind, name)


def test_energy_is_power_alone(tiny_clap: FrozenClap) -> None:
    """Loudest cells rank others by power; times power changes nothing."""
    predicted = predicted_of(tiny_clap)
    cells = predicted.batch.cells
    loud = (cells > cells.median()).float()
    by_mask = equal_area(predicted, "energy", ranked(loud), [0.1, 0.8], 0.25)
    by_power = equal_area(predicted, "energy", ranked(cells), [0.1, 0.8], 0.25)
    for name in SCORED:
        assert by_mask[name].tolist() == pytest.approx(by_power[name].tolist())
    alone, product = (by_power[by_power["map"] == m] for m in ("alone", "times power"))
    assert alone.FF.tolist() == pytest.approx(product.FF.tolist())


def test_keep_all_has_no_other_area(tiny_clap: FrozenClap) -> None:
    """One row a clip: everything."""
    predicted = predicted_of(tiny_clap)
    ones = torch.ones_like(predicted.batch.cells)
    table = equal_area(predicted, KEEP_ALL, Explained(ones, ones, 0), [0.1], 0.25)
    assert table.area.tolist() == ["1", "1"]
    assert table["map"].tolist() == ["alone"] * 2
    assert (table["Fid-In"] == 1).all()
    assert (table.AD == 0).all()


def test_without_a_reference_there_is_no_area_of_ours(tiny_clap: FrozenClap) -> None:
    """The stated areas alone."""
    predicted = predicted_of(tiny_clap)
    predicted = replace(predicted, batch=replace(predicted.batch, reference=None))
    table = equal_area(predicted, "own", ranked(predicted.batch.cells), [0.1], 0.25)
    assert set(table.area) == {"0.1"}


def test_power_is_multiplied_by_a_map_from_zero_to_one() -> None:
    """Whatever its scale and offset are; a constant map leaves nothing."""
    values = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    power = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1))
    found = times_power(values, power, 0.5)
    assert found.min() >= 0
    torch.testing.assert_close(times_power(3 * values - 7, power, 0.5), found)
    for row in range(3):
        low, high = values[row].min(), values[row].max()
        expected = (values[row] - low) / (high - low) * power[row].sqrt()
        torch.testing.assert_close(found[row], expected)
    assert (times_power(torch.ones(1, 2, 2), power[:1, :2, :2], 0.5) == 0).all()
