"""Agreement of a prompt and places, against loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lmaczs.evaluation.agreement import agreement, agreement_less_class_mean
from lmaczs.evaluation.explainer import ExplainerInput

PROMPTS = ["a tone", "white noise", "a click"]


@pytest.fixture(scope="module")
def batch(short_and_long: ExplainerInput) -> ExplainerInput:
    """Clips with prompts and all classes."""
    classes = short_and_long.clap.encode_text(PROMPTS)
    return replace(short_and_long, text=classes[[2, 0, 1]], classes=classes)


def test_agreement_is_a_cosine_per_place(batch: ExplainerInput) -> None:
    """Of the place's projection and the prompt; its class mean is subtracted."""
    clap = batch.clap
    last = clap.audio_features(batch.log_mel).last
    plain, centred = agreement(batch), agreement_less_class_mean(batch)
    assert plain.shape == centred.shape == (3, *clap.feature_shapes[-1][1:])
    assert not plain.requires_grad and not centred.requires_grad
    assert batch.classes is not None
    for row in range(3):
        for f in range(plain.shape[1]):
            for t in range(plain.shape[2]):
                place = clap.model.audio_projection(last[row, :, f, t])
                cosines = [
                    float(torch.cosine_similarity(place, text, dim=0))
                    for text in (batch.text[row], *batch.classes)
                ]
                mean = sum(cosines[1:]) / 3
                assert float(plain[row, f, t]) == pytest.approx(cosines[0], abs=1e-5)
                assert float(centred[row, f, t]) == pytest.approx(
                    cosines[0] - mean, abs=1e-5
                )


def test_agreements_less_their_mean_cancel(batch: ExplainerInput) -> None:
    """Over all classes they sum to zero at every place; a clip alone has the same."""
    assert batch.classes is not None
    one = batch.with_prompts(1, batch.classes)
    found = agreement_less_class_mean(one)
    torch.testing.assert_close(
        found.sum(0), torch.zeros_like(found[0]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found[0], agreement_less_class_mean(batch)[1])


def test_class_mean_needs_the_classes(batch: ExplainerInput) -> None:
    """Without them there is nothing to subtract."""
    with pytest.raises(ValueError, match="needs the prompts of all classes"):
        agreement_less_class_mean(replace(batch, classes=None))


def test_maps_follow_the_prompt(one_after_the_other: ExplainerInput) -> None:
    """The dog lies more in its half than the church bells do."""
    given = replace(one_after_the_other, classes=one_after_the_other.text)
    for method in (agreement, agreement_less_class_mean):
        found = method(given).relu()
        share = found[..., : found.shape[2] // 2].sum((1, 2)) / found.sum((1, 2))
        assert share[0] > share[1] + 0.2
