"""A decoder for any CLAP: values taken from the model, and folders that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lmaczs.clap import FrozenClap
from lmaczs.data.lists import MissingDataError
from lmaczs.hub import default_source
from lmaczs.training.adapt import (
    AdaptOptions,
    adapt,
    objective_values,
    recipe,
    same_prompt_cosine,
)
from lmaczs.training.export import ExportError
from lmaczs.utils.errors import InputError, OptionError
from lmaczs.utils.options import plain_values

Refused = Callable[..., None]


@pytest.fixture
def refused(tmp_path: Path, tiny_clap_folder: Path) -> Refused:
    """Function that sees `adapt` refuse options, and leave everything as it is."""

    def see(
        reason: str,
        clap: str | Path | None = None,
        dest: str = "dest",
        error: type[Exception] = InputError,
        **options: object,
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(error, match=reason) as raised:
            chosen = AdaptOptions(**{"device": "cpu", **options})  # type: ignore[arg-type]
            adapt(clap or tiny_clap_folder, tmp_path / dest, chosen)
        assert len(str(raised.value).splitlines()) == 1
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert after == before

    return see


def test_prompts_mean_the_same_from_halfway_to_the_nearest() -> None:
    """By a loop over the reference prompts, for embeddings of any spread."""
    rng = torch.Generator().manual_seed(3)
    for shift in (0.0, 3.0):
        text = torch.randn(31, 8, generator=rng) + shift
        text = nn.functional.normalize(text, dim=1)
        nearest = sorted(
            max(float(one @ other) for j, other in enumerate(text) if j != i)
            for i, one in enumerate(text)
        )
        expected = (1 + nearest[15]) / 2
        assert same_prompt_cosine(text) == pytest.approx(expected, abs=1e-3)


def test_a_nat_has_one_weight_for_every_model(tiny_clap: FrozenClap) -> None:
    """The embedded default has the YAML's own values; another scale, other weights."""
    plain = plain_values(recipe())
    weights = plain["loss_weights"]["lmaczs"]
    default = FrozenClap.from_pretrained(default_source().with_name("clap_small"))
    own = objective_values(default)
    assert own["margin"] == pytest.approx(plain["margin"], rel=2e-3)
    for name, value in own["loss_weights"]["lmaczs"].items():
        assert value == pytest.approx(weights[name], rel=2e-3)
    other = objective_values(tiny_clap)
    assert other["logit_scale"] != own["logit_scale"]
    for name in ("similarity", "masked_out_similarity", "leakage"):
        nat = other["loss_weights"]["lmaczs"][name] / tiny_clap.logit_scale
        assert nat == pytest.approx(weights[name] / default.logit_scale, rel=1e-2)
    nats = other["margin"] * tiny_clap.logit_scale
    assert nats == pytest.approx(plain["margin"] * default.logit_scale, rel=1e-2)


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [
        ("epochs", 0, 1),
        ("clips", 5, 12),
        ("batch_size", 0, 1),
        ("width", 4, 8),
        ("seed", -1, 0),
    ],
)
def test_numbers_that_are_too_small_are_refused(
    option: str, value: int, least: int
) -> None:
    """By the name that the option has on the command line."""
    name = option.replace("_", "-")
    with pytest.raises(InputError, match=f"--{name} is {value}: give {least} or more"):
        AdaptOptions(**{option: value})  # type: ignore[arg-type]


def test_a_decoder_is_never_replaced_unasked(refused: Refused, tmp_path: Path) -> None:
    """Not even before the training: who asks for it gives --force."""
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "hyperparams.yaml").touch()
    refused("holds a decoder already: .* or add --force", error=ExportError)
    (dest / "thesis.txt").touch()
    refused("something else than an earlier export", error=ExportError, force=True)


def test_folders_that_are_inputs_are_not_written_in(
    refused: Refused, tmp_path: Path
) -> None:
    """Neither the decoder nor what is half-done lies among the sounds."""
    (tmp_path / "sounds").mkdir()
    refused("in the folder of --data", dest="sounds/new", data=tmp_path / "sounds")
    run = tmp_path / "sounds" / "run"
    refused("in the folder of --data", data=tmp_path / "sounds", run_folder=run)
    refused("contain one another", run_folder=tmp_path / "dest" / "run")


def test_folders_have_no_revision(refused: Refused) -> None:
    """One that is given is not left out silently."""
    refused("only a repository of the Hub has revisions", revision="1234567")


def test_a_run_folder_with_something_else_is_refused(
    refused: Refused, tmp_path: Path
) -> None:
    """A folder that holds a file of somebody is not filled with checkpoints."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused("something else than a run of", run_folder=tmp_path / "mine")


def test_what_is_not_there_is_named(refused: Refused, tmp_path: Path) -> None:
    """Device, vocabulary, sounds and CLAP: before anything is written."""
    refused("--device=nowhere cannot be used", error=OptionError, device="nowhere")
    refused("none.txt cannot be read", prompts=tmp_path / "none.txt")
    refused("neither a folder nor a", error=MissingDataError, data=tmp_path / "none")
    missing = tmp_path / "no_clap"
    refused("there is no folder", clap=missing, error=FileNotFoundError)
