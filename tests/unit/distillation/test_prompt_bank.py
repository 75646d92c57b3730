"""Texts in templates."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from lmaczs.clap import FrozenClap
from lmaczs.distillation.clip_cache import ClipFeatures
from lmaczs.distillation.prompt_bank import embed_prompts

TEMPLATES = ["This is a sound of {}.", "{}", "I can hear {}"]


@pytest.fixture
def clips() -> ClipFeatures:
    """Two captions and a label, and a tagger of two classes; without sound."""
    nothing = torch.zeros(0)
    texts, captions = ["A {dog} barks.", "Rain", "siren"], [True, False, False]
    table = pd.DataFrame({"split": []})
    classes = ["Animal", "Vehicle"]
    return ClipFeatures(table, nothing, nothing, texts, captions, nothing, classes, 5.0)


def test_texts_are_put_into_every_template(
    tiny_clap: FrozenClap, clips: ClipFeatures
) -> None:
    """Labels, classes and silence in lower case; captions are taken as they are."""
    bank = embed_prompts(tiny_clap, clips, TEMPLATES)
    assert len(bank.labels) == len(bank.classes) == len(bank.silence) == len(TEMPLATES)
    for index, template in enumerate(TEMPLATES):

        def filled(*names: str, template: str = template) -> list[str]:
            return [template.format(name) for name in names]

        labels = ["A {dog} barks.", *filled("rain", "siren")]
        for found, texts in (
            (bank.labels[index], labels),
            (bank.classes[index], filled("animal", "vehicle")),
            (bank.silence[index : index + 1], filled("silence")),
        ):
            torch.testing.assert_close(found, tiny_clap.encode_text(texts))
