"""One training: what it is made of, and what it refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import constants

from lmaczs.decoder import MaskDecoder
from lmaczs.hub import default_source
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.training.distributed import TrainingError
from lmaczs.training.learnt import learnt_by, write_learnt
from lmaczs.training.run import (
    decoders_at_start,
    import_path,
    objective_of,
    readers_that_end,
    require_a_batch,
)
from lmaczs.utils.errors import InputError


def test_a_class_is_named_by_where_it_is_imported_from() -> None:
    """An exported decoder's hyperparams.yaml has this name."""
    assert import_path(MaskDecoder) == "lmaczs.decoder.MaskDecoder"
    assert import_path(PaperDecoder) == "lmaczs.paper_decoder.PaperDecoder"


def test_an_epoch_without_a_step_is_refused() -> None:
    """Fewer clips than a batch: the option and the fix are named."""
    values: dict[str, Any] = {"train_data": range(7), "batch_size": 8}
    with pytest.raises(InputError, match="batch_size is 8, but there are 7 clips"):
        require_a_batch(values)
    require_a_batch({**values, "batch_size": 7})


def test_the_objective_takes_its_own_keys_of_a_yaml() -> None:
    """Other keys are no options of it, and weights are those of its block."""
    values = {
        "objective": "lmaczs",
        "loss_weights": {"lmaczs": {"similarity": 2.0}, "lmac": {"masked_in": 1.0}},
        "present_prompts": "one-sided",
        "margin": 0.2,
        "absent_presence": 0.9,
        "same_prompt_cosine": 0.8,
        "lr": 0.1,
        "output_folder": str(Path("anywhere")),
        "table": pd.DataFrame(),
    }
    objective = objective_of(values)
    assert objective.weights == {"similarity": 2.0}
    assert objective.options.margin == 0.2


def test_a_reader_that_was_killed_is_one_sentence() -> None:
    """Other errors stay as they are."""
    text = "DataLoader worker (pid(s) 31) exited unexpectedly"
    with pytest.raises(TrainingError, match="fewer --num_workers"), readers_that_end():
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="^another$"), readers_that_end():
        raise RuntimeError("another")


def test_the_decoders_that_a_training_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded one, a folder, or one of the Hub: each has what it learnt."""
    finetune, lmac = "hparams/finetune.yaml", "hparams/esc50_lmac.yaml"
    monkeypatch.chdir(Path(__file__).parents[3])
    assert decoders_at_start(finetune, "manifest: a.csv") == [default_source()]
    assert decoders_at_start(lmac, "") == []
    assert decoders_at_start("hparams/esc50.yaml", "") == []
    folder = f"decoder_source: {tmp_path}"
    assert decoders_at_start(lmac, folder) == [tmp_path]
    repository = tmp_path / "models--owner--name"
    downloaded = repository / "snapshots" / ("a" * 40)
    write_learnt(downloaded, {"1": [[0.0, 1.0]]})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (found,) = decoders_at_start(finetune, "manifest: a.csv\nsource: owner/name")
    assert learnt_by(found) == {"1": [[0.0, 1.0]]}
    with pytest.raises(FileNotFoundError, match="owner/other"):
        decoders_at_start(finetune, "manifest: a.csv\nsource: owner/other")
