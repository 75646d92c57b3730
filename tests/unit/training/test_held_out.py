"""A decoder beside fitted masks: the same clips, prompts and metrics."""

from __future__ import annotations

import pandas as pd
import pytest
import soundfile
import torch

from lmaczs.clap import FrozenClap
from lmaczs.data.clip_reader import FileReader
from lmaczs.data.clip_texts import PromptSampler, texts_of
from lmaczs.data.prompted_dataset import PromptedDataset, collate
from lmaczs.decoder import MaskDecoder
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.training.held_out import SHOWN, compare, held_out_table, held_out_text

LABELS = ["bell", "cat", "dog", "rain"]
RATE = 32000


@pytest.fixture(scope="module")
def clips(
    tiny_clap: FrozenClap, tmp_path_factory: pytest.TempPathFactory
) -> PromptedDataset:
    """Three clips of 2, 3 and 6 s."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    for number, seconds in enumerate((2, 3, 6)):
        rng = torch.Generator().manual_seed(number)
        wav = 0.2 * torch.randn(seconds * RATE, generator=rng)
        path = folder / f"{number}.wav"
        soundfile.write(path, wav.numpy(), RATE)
        rows.append({"id": str(number), "path": str(path), "label": LABELS[number]})
    table = pd.DataFrame(rows)
    reader, texts = FileReader(table, RATE), texts_of(table)
    prompts = PromptSampler(texts, ["This is a sound of {}."], LABELS)
    return PromptedDataset(table, tiny_clap.front_end, reader, prompts)


@pytest.mark.slow
def test_rows_are_what_a_user_gets(
    tiny_clap: FrozenClap, clips: PromptedDataset
) -> None:
    """The mean mask and AI of the decoder are those of its interpreter's masks."""
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=8).eval()
    classes = tiny_clap.encode_text(list(clips.classes.values()))
    batches = [collate([clips[0], clips[1]]), collate([clips[2]])]
    rows = compare(tiny_clap, decoder, batches, classes)
    assert list(rows) == ["decoder", "decoder, refined", "fitted"]

    interpreter = ZeroShotInterpreter(
        modules={"clap": tiny_clap, "decoder": decoder},
        hparams={"template": "This is a sound of {}.", "model_name": "tiny"},
    )
    means = []
    for item in (clips[0], clips[1], clips[2]):
        wav = item["wav"][: item["samples"]]
        best = interpreter.classify_waveform(wav, RATE, LABELS).label[0]
        one = interpreter.interpret_waveform(wav, RATE, best, refine=0)
        means.append(float(one.mask.mean()))
    # a short clip's last repetition is cut off, so it has a little less weight
    assert rows["decoder"]["MM"] == pytest.approx(sum(means) / 3, abs=0.01)
    for row in rows.values():
        assert set(SHOWN) < set(row)
        assert row["s a clip"] > 0


def test_tables_have_every_row_and_a_legend() -> None:
    """In the card and on a terminal: methods, figures, and what they mean."""
    row = dict.fromkeys([*SHOWN, "s a clip"], 0.123456)
    rows = {"decoder": row, "fitted": {**row, "AI": 71.25}}
    markdown, text = held_out_table(rows, 7, 31), held_out_text(rows, 7, 31)
    assert "| fitted | 71.2 | 0.123 | 0.123 |" in markdown
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["decoder", "fitted"]
    for shown in (markdown, " ".join(text.split())):
        assert "7 held-out clips" in shown
        assert "ranks first of 31" in shown
        assert "Fid-In: how often" in shown
