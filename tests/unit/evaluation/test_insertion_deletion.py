"""Insertion and deletion curves, and the areas under them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import (
    EXPLAINERS,
    KEEP_ALL,
    MAIN,
    ExplainerSuite,
    Method,
    chosen,
)
from lmaczs.evaluation.insertion_deletion import (
    area,
    areas,
    cell_ranks,
    insertion_deletion,
    top_cells,
)
from lmaczs.evaluation.scoring import explain_predicted
from lmaczs.frontend import Domain, power

LABELS = ["dog", "rain", "siren"]
SHARES = [0, 0.1, 0.4, 1]
SEED = 5


def draw(*shape: int, levels: int = 0, seed: int = 0) -> Tensor:
    """Random values in [0, 1), quantised to `levels` if given."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (values * levels).floor() / levels if levels else values


# --- top cells ----------------------------------------------------------------------


def slow_top(mask: Tensor, loudness: Tensor, share: float) -> Tensor:
    """Sort cells of one clip: by mask, then by loudness, then by place."""
    values, levels = mask.flatten().tolist(), loudness.flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: (-values[i], -levels[i], i))
    kept = [0.0] * len(values)
    for cell in order[: round(share * len(values))]:
        kept[cell] = 1.0
    return torch.tensor(kept).reshape(mask.shape)


@pytest.mark.parametrize("share", [0.0, 0.013, 0.1, 0.37, 0.5, 0.99, 1.0])
@pytest.mark.parametrize(("levels", "loudness_levels"), [(0, 0), (3, 0), (1, 4)])
def test_top_cells_is_a_sort(share: float, levels: int, loudness_levels: int) -> None:
    """The mask decides, between equal cells the louder, between those the first."""
    mask = draw(3, 7, 11, levels=levels)
    loudness = draw(3, 7, 11, levels=loudness_levels, seed=1)
    kept = top_cells(cell_ranks(mask, loudness), share)
    assert kept.dtype == mask.dtype
    for row in range(3):
        assert torch.equal(kept[row], slow_top(mask[row], loudness[row], share))


def test_top_cells_are_as_many_in_each_clip() -> None:
    """However much a mask keeps, its fraction of cells is the requested one."""
    mask = torch.stack([torch.zeros(5, 8), torch.ones(5, 8), draw(5, 8)])
    kept = top_cells(cell_ranks(mask, draw(3, 5, 8, seed=1)), 0.25)
    assert kept.sum((1, 2)).tolist() == [10, 10, 10]
    assert not torch.equal(kept[0], kept[2])


def test_more_cells_hold_the_fewer() -> None:
    """A cell that is in stays in while the share grows."""
    mask, loudness = draw(2, 6, 9, levels=2), draw(2, 6, 9, seed=1)
    ranks = cell_ranks(mask, loudness)
    kept = [top_cells(ranks, share) for share in (0.1, 0.3, 0.8)]
    assert (kept[0] <= kept[1]).all()
    assert (kept[1] <= kept[2]).all()


# --- areas --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_area_is_numpys_trapezoid(dtype: torch.dtype) -> None:
    """Shares need not be equally spaced, and curves come in any number."""
    shares = [0, 0.05, 0.1, 0.4, 0.9, 1]
    values = draw(2, 3, 6).to(dtype)
    found = area(values, shares)
    assert found.shape == (2, 3)
    assert found.dtype == dtype
    expected = np.trapezoid(values.numpy(), shares, axis=-1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_area_of_what_does_not_change_is_its_value() -> None:
    """A probability that no cell changes is the area."""
    assert float(area(torch.full((4,), 0.3), SHARES)) == pytest.approx(0.3)


def hand_made() -> pd.DataFrame:
    """Curves of three clips and two methods, of no model."""
    rng = np.random.default_rng(0)
    rows = [
        {"id": clip, "method": method, "share": share}
        for method in ("two", "one")
        for share in SHARES
        for clip in ("c", "a", "b")
    ]
    table = pd.DataFrame(rows)
    return table.assign(insertion=rng.random(24), deletion=rng.random(24))


@pytest.mark.parametrize("shuffled", [False, True])
def test_areas_are_those_of_each_clip(shuffled: bool) -> None:
    """A row a clip and method, whatever the order of the curves' rows."""
    curves = hand_made()
    found = areas(curves.sample(frac=1, random_state=0) if shuffled else curves)
    assert list(found) == ["method", "id", "insertion", "deletion"]
    assert len(found) == 6
    assert not found.duplicated(["method", "id"]).any()
    for _, row in found.iterrows():
        own = curves[(curves.method == row.method) & (curves.id == row.id)]
        for name in ("insertion", "deletion"):
            expected = np.trapezoid(own[name], own.share)
            assert row[name] == pytest.approx(expected, rel=1e-9)


# --- curves -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(tiny_clap: FrozenClap) -> dict[str, Any]:
    """Two clips of noise, one of which begins later and is short of low bands."""
    samples = tiny_clap.front_end.max_samples
    noise = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    noise[1] = noise[1].diff(prepend=noise[1, :1]) * (torch.arange(samples) > 60000)
    return default_collate(
        [
            {"id": name, "wav": wav, "samples": samples}
            for name, wav in zip(("first", "second"), noise, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def class_text(tiny_clap: FrozenClap) -> Tensor:
    """Embeddings of the class prompts."""
    return tiny_clap.encode_text([f"This is a sound of {x}." for x in LABELS])


def suite_of(clap: FrozenClap, domain: Domain) -> ExplainerSuite:
    """A decoder, chance and energy; on the STFT, where sorts are slow, one mask."""
    if domain == "mel":
        torch.manual_seed(0)
        decoder = MaskDecoder(clap, domain, width=8)
        torch.nn.init.zeros_(decoder.draw.bias)
        rest = chosen(["random patches", "random bins", "energy", KEEP_ALL])
        return ExplainerSuite(clap, {MAIN: decoder}, domain, rest)

    def explain(batch: ExplainerInput) -> Tensor:
        return draw(*batch.spectrum.shape, levels=5, seed=batch.seed)

    own = {"drawn": Method("drawn", explain), KEEP_ALL: EXPLAINERS[KEEP_ALL]}
    return ExplainerSuite(clap, {}, domain, own)


@pytest.fixture(scope="module")
def curves_of(tiny_clap: FrozenClap, class_text: Tensor, batch: dict[str, Any]) -> Any:
    """Function that draws the curves of a domain, once for all tests."""

    @cache
    def drawn(domain: Domain) -> pd.DataFrame:
        explained = explain_predicted(
            suite_of(tiny_clap, domain), class_text, batch, SEED
        )
        return insertion_deletion(explained, SHARES)

    return drawn


@torch.no_grad()
def certainty(
    clap: FrozenClap, class_text: Tensor, log_mel: Tensor, of: Tensor
) -> list[float]:
    """Probability of one class of each clip."""
    logits = clap.logit_scale * clap.audio_embedding(log_mel) @ class_text.T
    return logits.softmax(1)[range(len(of)), of].tolist()


def predicted_of(clap: FrozenClap, class_text: Tensor, log_mel: Tensor) -> Tensor:
    """Likeliest class of each clip."""
    return (clap.audio_embedding(log_mel) @ class_text.T).argmax(1)


def test_curves_have_a_row_a_clip_method_and_share(
    tiny_clap: FrozenClap, curves_of: Any
) -> None:
    """Keep-all ranks nothing and is left out."""
    table = curves_of("mel")
    assert list(table) == ["id", "method", "share", "insertion", "deletion"]
    names = suite_of(tiny_clap, "mel").names
    expected = [
        (clip, name, share)
        for name in names
        if name != KEEP_ALL
        for share in SHARES
        for clip in ("first", "second")
    ]
    found = zip(table.id, table.method, table["share"], strict=True)
    assert list(found) == expected
    assert table[["insertion", "deletion"]].min(axis=None) >= 0
    assert table[["insertion", "deletion"]].max(axis=None) <= 1


@pytest.mark.parametrize("domain", ["mel", "stft"])
def test_curves_begin_and_end_with_the_clip_or_silence(
    tiny_clap: FrozenClap,
    class_text: Tensor,
    batch: dict[str, Any],
    curves_of: Any,
    domain: Domain,
) -> None:
    """All cells are the clip, none is silence, whichever method ranks them."""
    log_mel = tiny_clap.front_end.log_mel(batch["wav"])
    silence = tiny_clap.front_end.log_mel(torch.zeros_like(batch["wav"]))
    best = predicted_of(tiny_clap, class_text, log_mel)
    whole = certainty(tiny_clap, class_text, log_mel, best)
    nothing = certainty(tiny_clap, class_text, silence, best)
    assert np.abs(np.subtract(whole, nothing)).min() > 1e-3
    for _, rows in curves_of(domain).groupby("method"):
        ends = rows.set_index("share")
        assert ends.insertion[1].tolist() == pytest.approx(whole, abs=1e-4)
        assert ends.deletion[0].tolist() == pytest.approx(whole, abs=1e-4)
        assert ends.insertion[0].tolist() == pytest.approx(nothing, abs=1e-4)
        assert ends.deletion[1].tolist() == pytest.approx(nothing, abs=1e-4)


@pytest.mark.parametrize("domain", ["mel", "stft"])
def test_curves_between_are_of_the_first_cells(
    tiny_clap: FrozenClap,
    class_text: Tensor,
    batch: dict[str, Any],
    curves_of: Any,
    domain: Domain,
) -> None:
    """Insertion is the clip under the cells ranked first, deletion without them."""
    front_end = tiny_clap.front_end
    spectrum = front_end.stft(batch["wav"]).contiguous()
    log_mel = front_end.stft_to_log_mel(spectrum)
    best = predicted_of(tiny_clap, class_text, log_mel)
    text = class_text[best]
    given = ExplainerInput(
        tiny_clap, spectrum, log_mel, text, batch["samples"], domain, SEED
    )
    cells = power(spectrum)
    cells = front_end.mel_power(cells) if domain == "mel" else cells
    table = curves_of(domain)
    values = set()
    for name, (mask, _) in suite_of(tiny_clap, domain)(given).items():
        if name == KEEP_ALL:
            continue
        rows = table[(table.method == name) & (table["share"] == 0.1)]
        kept = top_cells(cell_ranks(mask, cells), 0.1)
        for column, heard in (("insertion", kept), ("deletion", 1 - kept)):
            masked = front_end.input_tf(spectrum, heard, domain)
            expected = certainty(tiny_clap, class_text, masked, best)
            assert rows[column].tolist() == pytest.approx(expected, abs=1e-4)
            values.update(round(value, 2) for value in expected)
    assert len(values) > 3
