"""The YAML files: every name in them exists, and those of decoders agree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("hparams/*.yaml"), *ROOT.glob("pretrained/**/*.yaml")])
DECODERS = ("esc50", "urbansound8k", "captions", "finetune", "adapt")
PAPER = ("esc50_paper", "paper")
# What a YAML has of its own; every other key has one value in all that have it.
OWN = {
    *("output_folder", "model_name", "number_of_epochs", "batch_size", "lr"),
    *("data_folder", "manifest", "prepare_data", "read_splits", "keep_in_memory"),
    *("train_folds", "valid_folds", "test_folds"),
    # fine-tuning starts from a decoder, and has fewer clips
    *("clap_source", "clap", "decoder", "domain", "width", "templates"),
    *("examples_every", "example_clips", "build_datasets"),
}
# What the paper has otherwise: its objective, clips as they are, Adam at one rate, the
# last epoch.
PAPERS = {
    *("objective", "negatives_per_clip", "predicted_prob", "choices_prob"),
    *("mixing", "augment"),
    *("opt_class", "lr_decay_epochs", "ema_decay"),
    *("checkpoint_metric", "checkpoint_mode"),
}
LMAC = ("esc50_lmac",)


def nodes(tree: Any) -> Iterator[tuple[str, str, Any]]:
    """Tag, name and arguments of everything in a YAML that is made or called."""
    tag = getattr(getattr(tree, "tag", None), "value", None) or ""
    for kind in ("!new:", "!name:", "!apply:"):
        if tag.startswith(kind):
            yield kind, tag.removeprefix(kind), tree
    values = tree.values() if isinstance(tree, dict) else tree
    if isinstance(tree, dict | list):
        for value in values:
            yield from nodes(value)


def load(path: Path) -> dict[str, Any]:
    """Read a YAML without making anything."""
    return YAML().load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_exists_and_takes_its_arguments(path: Path) -> None:
    """What a YAML makes or calls can be imported, and its arguments fit, without data.

    Arguments that a recipe gives later may be missing; unknown ones may not.
    """
    for kind, name, arguments in nodes(load(path)):
        found = locate(name)
        assert callable(found), f"{path.name}: {kind}{name}"
        given = arguments if isinstance(arguments, dict) else {}
        inspect.signature(found).bind_partial(**given)


def plain(node: Any) -> Any:
    """A value with its tags, as text."""
    tag = getattr(getattr(node, "tag", None), "value", None) or ""
    if isinstance(node, dict):
        return tag, {key: plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return tag, [plain(value) for value in node]
    return tag, str(getattr(node, "value", node))


def differing_keys(trees: dict[str, dict[str, Any]]) -> set[str]:
    """Keys that have several values in those of some YAMLs that have them."""
    differing = set()
    for key in {key for tree in trees.values() for key in tree}:
        found = [plain(tree[key]) for tree in trees.values() if key in tree]
        if any(one != found[0] for one in found):
            differing.add(key)
    return differing


@pytest.mark.parametrize("names", [DECODERS, PAPER])
def test_keys_that_decoder_yamls_share_have_one_value(names: tuple[str, ...]) -> None:
    """Ours, and the paper's, differ in what their data need and is listed."""
    trees = {name: load(ROOT / f"hparams/{name}.yaml") for name in names}
    assert differing_keys(trees) <= OWN
    everywhere = set.intersection(*(set(tree) for tree in trees.values()))
    assert {"mixing", "augment", "build_datasets", "read_splits"} <= everywhere


def test_yamls_of_papers_differ_in_what_papers_have_otherwise() -> None:
    """In everything else a value is that of ours; all that is listed does differ."""
    names = (*DECODERS, *PAPER, *LMAC)
    trees = {name: load(ROOT / f"hparams/{name}.yaml") for name in names}
    differing = differing_keys(trees)
    assert differing <= OWN | PAPERS
    assert differing >= PAPERS


def test_decoder_yamls_give_all_that_data_are_made_of() -> None:
    """What one of them passes to `build_datasets`, the others pass by the same keys."""
    for name in (*DECODERS, *PAPER, *LMAC):
        block = load(ROOT / f"hparams/{name}.yaml")["build_datasets"]
        for key, value in block.items():
            wanted = "clap.front_end" if key == "front_end" else key
            assert value.value == f"<{wanted}>"


def test_every_yaml_that_names_a_model_can_trust_it() -> None:
    """And what loads one by it is given what the key says."""
    loaders = {"FrozenClap.from_pretrained", "load_pretrained_decoder", "start_from"}
    for path in ROOT.glob("hparams/*.yaml"):
        tree = load(path)
        if not {"clap_source", "source"} & set(tree):
            continue
        assert tree["trust_remote_code"] is False, path.name
        for _, name, arguments in nodes(tree):
            if any(name.endswith(f".{one}") for one in loaders):
                assert arguments["trust_remote_code"].value == "<trust_remote_code>"
