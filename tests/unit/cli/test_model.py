"""model.py: the model that a command line names; its errors are in test_cli.py."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from lmaczs.cli.model import add_model, identity_of, load
from lmaczs.cli.terminal import CommandError


def test_options() -> None:
    """A CLAP without a decoder is offered where it can be used."""
    for clap in (True, False):
        parser = argparse.ArgumentParser()
        add_model(parser, clap)
        args = parser.parse_args(["--source", "a", "--device", "cpu"])
        assert (args.source, args.device, "clap" in args) == ("a", "cpu", clap)
        assert ("revision" in args) == clap


def test_a_revision_is_one_of_the_hubs(tiny_clap_folder: Path) -> None:
    """A folder has none, nor has the embedded default; it is named if it is missing."""
    folder = str(tiny_clap_folder)
    for source, clap, message in (
        (None, None, "--revision abc1234 is one of the Hub's repository"),
        (None, folder, f"--clap {folder}: revision 'abc1234': {folder} is a folder"),
        (folder, None, f"--source {folder}: revision 'abc1234': {folder} is a folder"),
        ("nobody/none", None, r"at revision abc1234 \("),
        (None, "nobody/none", "--clap nobody/none: "),
    ):
        with pytest.raises(CommandError, match=message):
            load(source, clap, "cpu", "abc1234")


def test_identity_tells_models_apart(tiny_clap_folder: Path) -> None:
    """By name, template and weights."""
    first, second = (load(None, str(tiny_clap_folder), "cpu") for _ in range(2))
    identity = identity_of(first)
    assert identity == identity_of(second)
    assert identity["model"] == first.hparams.model_name
    weight = next(second.mods.parameters())
    weight.data += 1
    assert identity_of(second)["weights"] != identity["weights"]
    with pytest.raises(CommandError, match="--source /no/such/folder: "):
        load("/no/such/folder", None, None)


@pytest.mark.slow
def test_what_training_alone_needs_is_imported_when_it_is_used() -> None:
    """No scipy.stats, which takes as long as the picture; its values are the same."""
    code = (
        "import sys\n"
        "from lmaczs.cli.model import load\n"
        "load(None, None, 'cpu')\n"
        "assert 'scipy.stats' not in sys.modules\n"
        "from speechbrain.dataio import sampler\n"
        "found = sampler.lognorm.ppf([0.25, 0.75], 1)\n"
        "from scipy.stats import lognorm\n"
        "assert (found == lognorm.ppf([0.25, 0.75], 1)).all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
