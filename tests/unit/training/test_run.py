"""One training: what it is made of, and what it refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmaczs.decoder import MaskDecoder
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.training.distributed import TrainingError
from lmaczs.training.run import (
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
