"""What was typed is what a key gets, whatever YAML would take it for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hyperpyyaml import load_hyperpyyaml

from lmaczs.utils.errors import OptionError
from lmaczs.utils.options import load_hparams, parse_options

TEXT = """\
output_folder: results/x
save_folder: !ref <output_folder>/save
manifest: !PLACEHOLDER
source: null
methods: null
test_folds: null
decoders: null
archive_url: https://a.b
batch_size: 8
seed: 1
lr: 0.1
mix_prob: 0.5
without: []
templates: [a]
areas: [0.1, 0.2]
level: 3
rate: 0.5
epochs: 16
again: !ref <epochs>
weights: {ours: {sparsity: 1.5}}
quick: False
mixing: !new:collections.OrderedDict
    prob: 0.5
    kind: x
"""


@pytest.fixture
def value(tmp_path: Path) -> Any:
    """Function that gives a key's value after a command line, built both ways."""
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)

    def of(option: str, key: str | None = None) -> Any:
        more = [] if option.startswith("--manifest") else ["--manifest=x.csv"]
        _, _, overrides = parse_options([str(path), option, *more])
        name = key or option[2:].partition("=")[0]
        built = load_hparams(path, overrides)[name]
        try:
            text = path.read_text()
            assert load_hyperpyyaml(text, overrides)[name] == built
        except ValueError as error:  # it takes no mapping for a single value
            assert "structure of the overrides" in str(error)
        return built

    return of


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026-11-25",
            "20261125",
            "1e3",
            "runs/exp #1",
            "runs/lr=0.01",
            "true",
            "1:30",
        ),
        *(
            "a: b",
            "[x]/y",
            "{x",
            "007",
            "0x10",
            "1_000",
            "日本 😀",
            "it's",
            "*a",
            "- b",
        ),
        *("%x", "@x", "C:\\runs\\new", 'a "b"', "12.50", "inf", "x!"),
    ],
)
def test_a_place_is_the_text_that_was_typed(value: Any, text: str) -> None:
    """For keys with a text in the file, and what refers to them."""
    assert value(f"--output_folder={text}") == text
    assert value(f"--output_folder={text}", "save_folder") == f"{text}/save"


@pytest.mark.parametrize(
    "text", ["clips #2.csv", "2026-11-25", "20261125", "a=b=c", "1e3"]
)
@pytest.mark.parametrize("key", ["manifest", "source"])
def test_a_place_that_the_file_leaves_open(value: Any, key: str, text: str) -> None:
    """As well; in quotes, too."""
    assert value(f"--{key}={text}") == text
    assert value(f'--{key}="{text}"') == text


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--level=1e3", 1000),
        ("--level=12.04", 12.04),
        ("--rate=1", 1),
        ("--rate=1.0", 1.0),
        ("--rate=inf", float("inf")),
        ("--rate=-.inf", float("-inf")),
        ("--again=3", 3),
        ("--level={white noise: 6.5, clean: 010}", {"white noise": 6.5, "clean": 10}),
        ("--quick=no", False),
        ("--quick=Yes", True),
        ("--quick", True),
        ("--source=", None),
        ("--source=null", None),
        ("--archive_url=null", None),
        ("--output_folder=null", "null"),
        ("--output_folder=!x", "!x"),
        ("--without=", []),
        ("--templates=null", []),
        ("--batch_size=1e2", 100),
        ("--seed=0", 0),
        ("--lr=0", 0),
        ("--mix_prob=1", 1),
        ("--methods=Grad-CAM", ["Grad-CAM"]),
        (
            "--methods=[Grad-CAM, 1e3, 007, 2026-11-25, no]",
            ["Grad-CAM", "1e3", "007", "2026-11-25", "no"],
        ),
        ("--methods=['LMAC-ZS #1', \"b, c\"]", ["LMAC-ZS #1", "b, c"]),
        ("--without=energy", ["energy"]),
        ("--without=[1, 2.50]", ["1", "2.50"]),
        ("--templates={}", {}),
        ("--templates=['{}']", ["{}"]),
        ("--areas=0.35", [0.35]),
        ("--areas=[0.10, 1]", [0.1, 1]),
        ("--test_folds=2", [2]),
        ("--test_folds=[1, 2]", [1, 2]),
        (
            "--decoders={LMAC-ZS: [run 1, 2026], other: 1e3}",
            {"LMAC-ZS": ["run 1", "2026"], "other": "1e3"},
        ),
        ("--mixing={prob: 1, kind: 1e3}", {"prob": 1, "kind": "1e3"}),
        (
            "--weights={sparsity: 2, other: 3, name: 2026-11-25}",
            {
                "ours": {"sparsity": 1.5},
                "sparsity": 2,
                "other": 3,
                "name": "2026-11-25",
            },
        ),
        ("--source=!name:builtins.dict", dict),
    ],
)
def test_other_kinds(value: Any, option: str, wanted: Any) -> None:
    """Numbers, switches, lists and mappings, by what the file has there."""
    name = option[2:].partition("=")[0]
    found = value(option)
    if name == "mixing":
        found = dict(found)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("option", "fix"),
    [
        ("--epochs=ten", "--epochs=ten: give a number"),
        ("--test_folds=a", "--test_folds=a: give a number"),
        ("--quick=2", "--quick=2: give true or false"),
        ("--methods=[LMAC-ZS #1]", "'#1' begins a comment in YAML"),
        ("--methods=[a", "close every bracket"),
        ("--output_folder=2026 #3", "a number before '#'"),
        ("--output_folder=", "--output_folder is empty: write --output_folder=VALUE"),
        ("--manifest=", "--manifest is empty: write --manifest=VALUE"),
        ("--epochs=", "--epochs=: give a number"),
        ("--quick=", "--quick=: give true or false"),
        ("--batch_size=0", "--batch_size=0: give a whole number, 1 or more"),
        ("--batch_size=2.5", "--batch_size=2.5: give a whole number, 1 or more"),
        ("--seed=-1", "--seed=-1: give a whole number, 0 or more"),
        ("--seed=nan", "--seed=nan: give a whole number, 0 or more"),
        ("--lr=nan", "--lr=nan: give 0 or more"),
        ("--lr=-0.1", "--lr=-0.1: give 0 or more"),
        ("--mix_prob=3", "--mix_prob=3: give a number between 0 and 1"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    value: Any, option: str, fix: str
) -> None:
    """It names the option and what was typed."""
    with pytest.raises(OptionError, match=re.escape(fix)) as refusal:
        value(option)
    assert "\n" not in str(refusal.value)
