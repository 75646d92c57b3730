"""Figures' data: which clips and prompts, and what is computed of their masks."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import decoder_method
from lmaczs.evaluation.figure_data import (
    FIGURE_LABELS,
    LabelledClips,
    decoded_masks,
    labels_of_figures,
    prompt_masks,
    randomisation_table,
    similarity_table,
)
from lmaczs.utils.errors import InputError

RATE, TEMPLATE = 32000, "A sound of {}."
LABELS = ["dog", "rain", "siren"]
OWN = ["rain", "dog", "rain", "siren"]
MakeClips = Callable[..., LabelledClips]


@pytest.fixture(scope="module")
def decoder(tiny_clap: FrozenClap) -> MaskDecoder:
    """A random decoder whose masks depend on the prompt."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=8)
    with torch.no_grad():
        decoder.draw.weight.mul_(5)
    return decoder.eval()


@pytest.fixture(scope="module")
def make_clips(
    tiny_clap: FrozenClap, tmp_path_factory: pytest.TempPathFactory
) -> MakeClips:
    """Function that makes the set of four clips of 1 to 4 s, with options."""
    folder = tmp_path_factory.mktemp("clips")
    rng, rows = torch.Generator().manual_seed(0), []
    for number, label in enumerate(OWN):
        wav = 0.3 * torch.randn((1 + number) * RATE, generator=rng)
        path = save_audio(folder / f"{number}.wav", wav, RATE)
        rows.append({"id": f"clip{number}", "path": str(path), "label": label})

    def make(**options: int) -> LabelledClips:
        return LabelledClips(tiny_clap, pd.DataFrame(rows), LABELS, TEMPLATE, **options)

    return make


@pytest.fixture(scope="module")
def clips(make_clips: MakeClips) -> LabelledClips:
    """The set as it is used."""
    return make_clips()


def test_sounds_are_the_recordings_themselves(clips: LabelledClips) -> None:
    """In the order of the table, without what fills the encoder's input."""
    found = list(clips.sounds())
    assert [(name, label) for name, label, _ in found] == [
        (f"clip{number}", label) for number, label in enumerate(OWN)
    ]
    for (_, _, wav), path in zip(found, clips.table.path, strict=True):
        assert torch.equal(wav, load_audio(path, RATE))


def test_the_first_clip_of_each_label_is_shown(clips: LabelledClips) -> None:
    """In the order of the labels; one without clips is named."""
    assert clips.first_of(["dog", "rain", "siren"]) == [1, 0, 3]
    assert clips.first_of(["siren"]) == [3]
    with pytest.raises(InputError, match="figure_labels: .* 'clock tick'; there are"):
        clips.first_of(["dog", "clock tick"])


def test_labels_of_figures(clips: LabelledClips) -> None:
    """Those given; else the four of the examples, or the first four of the clips."""
    table = clips.table
    assert labels_of_figures(table, ["siren", "dog"]) == ["siren", "dog"]
    with pytest.raises(InputError, match="'sirene': did you mean 'siren'"):
        labels_of_figures(table, ["sirene"])
    assert labels_of_figures(table) == sorted(set(OWN))[:4]
    many = pd.DataFrame({"label": [*FIGURE_LABELS, "airplane", "cat"]})
    assert labels_of_figures(many) == list(FIGURE_LABELS)
    assert labels_of_figures(many[1:]) == ["airplane", "cat", "clock tick", "rain"]


def test_masks_do_not_depend_on_the_batch_size(
    make_clips: MakeClips, decoder: MaskDecoder
) -> None:
    """Every clip with every prompt, one pair at a time or all at once."""
    explain = decoder_method("own", decoder)
    whole, single = make_clips(batch_size=16), make_clips(batch_size=1)
    batch = whole.batch([3, 0])
    text = whole.embed(LABELS)
    expected = torch.stack(
        [
            torch.stack(
                [explain(batch.with_prompts(row, one[None]))[0] for one in text]
            )
            for row in range(2)
        ]
    )
    for clips in (whole, single):
        torch.testing.assert_close(
            clips.masks(explain, batch, text), expected, atol=1e-3, rtol=0
        )


def test_two_ways_to_explain_a_clip_agree(
    clips: LabelledClips, tiny_clap: FrozenClap, decoder: MaskDecoder
) -> None:
    """As an explainer of a batch, and encoded once for all prompts."""
    _, _, wav = next(clips.sounds())
    text = clips.embed(LABELS)
    by_batch = clips.clip_masks(decoder_method("own", decoder))(wav, text)
    at_once = decoded_masks(tiny_clap, decoder)(wav, text)
    assert by_batch.shape == (3, 1025, tiny_clap.front_end.clip_frames(len(wav)))
    torch.testing.assert_close(by_batch, at_once, atol=1e-3, rtol=0)


def test_similarity_table_is_a_loop_over_clips_and_labels(
    clips: LabelledClips, tiny_clap: FrozenClap
) -> None:
    """A row for each clip, method and label, with mean and kept power of its mask."""
    front_end = tiny_clap.front_end

    def ramps(wav: Tensor, text: Tensor) -> Tensor:
        height = torch.linspace(0, 1, 1025)[:, None]
        steps = torch.arange(1, len(text) + 1)[:, None, None]
        return height.expand(-1, front_end.clip_frames(len(wav))) / steps

    methods = {"ramps": ramps, "all": lambda wav, text: 0 * ramps(wav, text) + 1}
    table = similarity_table(tiny_clap, methods, clips.sounds(), LABELS, TEMPLATE)
    rows = []
    for name, own, wav in clips.sounds():
        cells = front_end.stft(wav[None])[0].abs() ** 2
        embedding = tiny_clap.audio_embedding(front_end.log_mel(wav[None]))[0]
        for method, masks_of in methods.items():
            masks = masks_of(wav, clips.embed(LABELS))
            for label, mask in zip(LABELS, masks, strict=True):
                text = tiny_clap.encode_text([TEMPLATE.format(label)])[0]
                kept = float(((mask * cells.sqrt()) ** 2).sum() / cells.sum())
                values = float(text @ embedding), float(mask.mean()), kept
                rows.append((name, own, method, label, label == own, *values))
    expected = pd.DataFrame(rows, columns=table.columns)
    pd.testing.assert_frame_equal(table, expected, atol=1e-4)
    assert table.power_kept[table.method == "all"].tolist() == pytest.approx([1] * 12)


def test_similarity_after_masking_is_that_of_the_masked_clip(
    clips: LabelledClips, tiny_clap: FrozenClap
) -> None:
    """Kept whole it is the clip's own; under a mask that of what is left."""
    front_end = tiny_clap.front_end

    def whole(wav: Tensor, text: Tensor) -> Tensor:
        return torch.ones(len(text), 1025, front_end.clip_frames(len(wav)))

    def low(wav: Tensor, text: Tensor) -> Tensor:
        mask = whole(wav, text)
        mask[:, 300:] = 0
        return mask

    methods, every = {"whole": whole, "low": low}, list(clips.sounds())
    given = methods, every, LABELS, TEMPLATE
    table = similarity_table(tiny_clap, *given, with_masked=True)
    plain = similarity_table(tiny_clap, *given)
    pd.testing.assert_frame_equal(table[list(plain)], plain)
    kept = table[table.method == "whole"]
    assert kept.masked_similarity.tolist() == pytest.approx(
        kept.similarity.tolist(), abs=1e-4
    )
    name, _, wav = every[-1]
    spectrum = front_end.stft(front_end.fit_length(wav[None]))
    spectrum[:, 300:] = 0
    embedding = tiny_clap.audio_embedding(front_end.stft_to_log_mel(spectrum))[0]
    expected = (clips.embed(LABELS) @ embedding).tolist()
    found = table[(table.id == name) & (table.method == "low")].masked_similarity
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_each_label_is_explained_in_a_clip_of_each(
    clips: LabelledClips, decoder: MaskDecoder
) -> None:
    """Power of the clips, and masks of every label for each of them."""
    power, masks = prompt_masks(
        clips, {"own": decoder_method("own", decoder)}, LABELS[:2]
    )
    assert power.shape == (2, 1025, 251)
    assert masks["own"].shape == (2, 2, 1025, 251)
    batch = clips.batch([1, 0])
    torch.testing.assert_close(power, batch.cells)
    found = clips.masks(decoder_method("own", decoder), batch, clips.embed(LABELS[:2]))
    torch.testing.assert_close(masks["own"], found)


def coarse(batch: ExplainerInput) -> Tensor:
    """Masks [B, 16, 16] of the sound alone: quick to compare, equal at every stage."""
    cells = torch.nn.functional.adaptive_avg_pool2d(batch.cells, 16)
    return cells / cells.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_randomised_clips_are_numbered_throughout(
    make_clips: MakeClips, batch_size: int
) -> None:
    """However they are batched; the masks that are shown are the first clip's."""
    clips = make_clips(batch_size=batch_size)

    table, masks = randomisation_table(clips, {"coarse": coarse}, count=4)
    stages = table.stage.nunique()
    assert sorted(table["clip"]) == sorted([0, 1, 2, 3] * stages)
    assert torch.equal(masks["coarse", "trained"], coarse(clips.batch([0]))[0])
    assert table.ssim.tolist() == pytest.approx([1] * len(table), abs=1e-4)


def test_fewer_clips_are_spread_over_the_table(clips: LabelledClips) -> None:
    """As many as wanted, or all there are."""
    seen: list[Tensor] = []

    def watch(batch: ExplainerInput) -> Tensor:
        seen.append(batch.samples)
        return coarse(batch)

    randomisation_table(clips, {"watch": watch}, count=2)
    assert seen[0].tolist() == [RATE, 3 * RATE]
    table, _ = randomisation_table(clips, {"watch": watch}, count=9)
    assert table["clip"].nunique() == 4
