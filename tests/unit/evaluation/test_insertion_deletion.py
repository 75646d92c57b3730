"""Insertion and deletion curves, and the areas under them."""

from __future__ import annotations

from dataclasses import replace
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
from lmaczs.evaluation.explainers import MAIN, Explained, ExplainerSuite, Method, chosen
from lmaczs.evaluation.insertion_deletion import area, areas, insertion_deletion
from lmaczs.evaluation.scoring import predict
from lmaczs.evaluation.top_cells import top_cells
from lmaczs.frontend import Domain, power

LABELS = ["dog", "rain", "siren"]
SHARES = [0, 0.1, 0.4, 1]
SEED = 5


def draw(*shape: int, levels: int = 0, seed: int = 0) -> Tensor:
    """Random values in [0, 1), quantised to `levels` if given."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (values * levels).floor() / levels if levels else values


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
        rest = chosen(["random patches", "random bins", "energy"])
        return ExplainerSuite(clap, {MAIN: decoder}, domain, rest)

    def explain(batch: ExplainerInput) -> Tensor:
        return draw(*batch.spectrum.shape, levels=5, seed=batch.seed)

    own = {"drawn": Method("drawn", explain)}
    return ExplainerSuite(clap, {}, domain, own)


@pytest.fixture(scope="module")
def curves_of(tiny_clap: FrozenClap, class_text: Tensor, batch: dict[str, Any]) -> Any:
    """Function that draws the curves of a domain, once for all tests."""

    @cache
    def drawn(domain: Domain) -> pd.DataFrame:
        suite = suite_of(tiny_clap, domain)
        prompts = dict(zip(LABELS, class_text, strict=True))
        predicted = predict(tiny_clap, prompts, batch, domain, SEED)
        given = suite.with_reference(predicted.batch)
        parts = [
            insertion_deletion(predicted, name, suite.explain(name, given), SHARES)
            for name in suite.names
        ]
        return pd.concat(parts, ignore_index=True)

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
    """Method by method."""
    table = curves_of("mel")
    assert list(table) == ["id", "method", "share", "insertion", "deletion"]
    names = suite_of(tiny_clap, "mel").names
    expected = [
        (clip, name, share)
        for name in names
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
    given = replace(given, ids=batch["id"])
    cells = power(spectrum)
    cells = front_end.mel_power(cells) if domain == "mel" else cells
    table = curves_of(domain)
    values = set()
    suite = suite_of(tiny_clap, domain)
    given = suite.with_reference(given)
    count = torch.tensor([[round(0.1 * cells[0].numel())]]).expand(2, -1)
    for name in suite.names:
        rows = table[(table.method == name) & (table["share"] == 0.1)]
        kept = top_cells(suite.explain(name, given).masks, count, cells)[:, 0]
        for column, heard in (("insertion", kept), ("deletion", 1 - kept)):
            masked = front_end.input_tf(spectrum, heard, domain)
            expected = certainty(tiny_clap, class_text, masked, best)
            assert rows[column].tolist() == pytest.approx(expected, abs=1e-4)
            values.update(round(value, 2) for value in expected)
    assert len(values) > 3


def test_cells_come_in_the_order_of_the_mask(
    tiny_clap: FrozenClap, class_text: Tensor, batch: dict[str, Any]
) -> None:
    """Not in that of the map that it was made of: what is applied is measured."""
    prompts = dict(zip(LABELS, class_text, strict=True))
    predicted = predict(tiny_clap, prompts, batch, "mel", SEED)
    masks = draw(*predicted.batch.cells.shape, levels=5)
    one, other, turned = (
        insertion_deletion(predicted, "own", Explained(mask, ranking, 0.1), SHARES)
        for mask, ranking in ((masks, masks), (masks, 1 - masks), (1 - masks, masks))
    )
    pd.testing.assert_frame_equal(one, other)
    assert not one.equals(turned)
