"""Command lines of recipes: what SpeechBrain accepts, with strict checks.

SpeechBrain takes `FILE.yaml --key=value`: keys of the YAML, and its own run options
(--device, --debug, ...). Unknown keys, abbreviations of run options and values that are
no YAML raise one sentence with the fix.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from lmaczs.utils.devices import device_reason
from lmaczs.utils.errors import OptionError
from lmaczs.utils.option_values import is_open, override_of

if TYPE_CHECKING:
    from speechbrain.utils.run_opts import RunOptions

RENAMED: dict[str, str] = {
    "weights": "loss_weights",
    "criterion": "objective",
    "rate_epochs": "lr_decay_epochs",
    "average_decay": "ema_decay",
    "best_metric": "checkpoint_metric",
    "best_mode": "checkpoint_mode",
    "peak_lr": "lr",
    "saliency": "explainers",
    "mixture_share": "mix_prob",
    "mixture_db": "mix_snr_db",
    "sequence_share": "concat_prob",
    "gain_db": "max_attenuation_db",
    "disturb": "augment",
    "speed_share": "speed_prob",
    "noise_share": "noise_prob",
    "band_share": "band_prob",
    "predicted_share": "predicted_prob",
    "other_labels": "extra_labels",
    "dataloader": "train_dataloader_opts",
    "share": "contamination_snr_db",
    "curve_shares": "insertion_fractions",
    "cascade_clips": "randomisation_clips",
    "hardest": "augment_strength",
    "scale_limit": "max_logit_scale",
    "silent_share": "silent_prob",
    "source": "clap_source",
    "absent_cosine": "absent_presence",
}
"""Former names of keys in `hparams/*.yaml`, with the names that they have now."""


def parse_options(argv: Sequence[str]) -> tuple[str, RunOptions, str]:
    """Check a recipe's command line and split it as `speechbrain.parse_arguments` does.

    Parameters
    ----------
    argv : sequence of str
        Command line without the program's name.

    Returns
    -------
    hparams_file : str
        The YAML.
    run_opts : RunOptions
        SpeechBrain's own options.
    overrides : str
        YAML of the keys to replace, for `load_hyperpyyaml`.

    Raises
    ------
    OptionError
        See `check_options`; also for what SpeechBrain would silently misread.
    """
    from speechbrain.utils.run_opts import RunOptions

    own, others = _divided(argv)
    hparams_file, run_opts, stray = RunOptions.from_command_line_args(others)
    tree = _read(hparams_file)
    lines = [override_of(name, _given(name, value, tree), tree) for name, value in own]
    overrides = "\n".join([*lines, stray]).strip()
    check_options(hparams_file, overrides)
    if run_opts.device is not None:
        require_device(run_opts.device)
    if run_opts.max_grad_norm < 0:
        raise OptionError(
            "--max_grad_norm must not be negative, which would train away from the "
            "objective: give --max_grad_norm=1e9 for no limit"
        )
    if run_opts.optimizer_step_limit is not None:  # SpeechBrain leaves it a text
        limit = int(run_opts.optimizer_step_limit)
        run_opts = replace(run_opts, optimizer_step_limit=limit)
    return hparams_file, run_opts, overrides


def require_device(name: str) -> None:
    """Raise OptionError if torch has no such device here, or cannot use it."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = device_reason(error)
        raise OptionError(
            f"--device={name} cannot be used here: {reason}; leave --device out for "
            "the CPU, `lmaczs doctor` lists what there is"
        ) from error


def check_options(hparams_file: str | Path, overrides: str = "") -> None:
    """Refuse overrides that a YAML has no place for, before it is loaded.

    `OptionError` if the file is missing or no YAML, a key is unknown, renamed or nested
    in another one, the overrides are no YAML mapping, or a value is missing that the
    file leaves open (``!PLACEHOLDER``).
    """
    tree = _read(hparams_file)
    given = _parse(overrides)
    for key in given:
        if key not in tree:
            raise OptionError(_unknown(str(key), tree, hparams_file))
    needed = [key for key in tree if is_open(tree[key]) and key not in given]
    if needed:
        options = " and ".join(f"--{key}=VALUE" for key in needed)
        raise OptionError(f"{hparams_file} needs {options}: see the comments there")


def plain_values(hparams_file: str | Path, overrides: str = "") -> dict[str, Any]:
    """Keys and values of a YAML with its overrides; tags stay, nothing is built."""
    tree = _read(hparams_file)
    _update(tree, _parse(overrides))
    return dict(tree)


def _update(tree: MutableMapping[str, Any], given: Mapping[str, Any]) -> None:
    """Replace values of a tree; those within a mapping of it one by one."""
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), Mapping):
            _update(tree[key], value)
        else:
            tree[key] = value


def load_hparams(hparams_file: str | Path, overrides: str = "") -> dict[str, Any]:
    """Build a YAML with its overrides, as `load_hyperpyyaml` does.

    An override may be a mapping where the YAML has a single value.
    """
    from hyperpyyaml import load_hyperpyyaml

    return load_hyperpyyaml(_dumped(plain_values(hparams_file, overrides)))


def load_part(
    hparams_file: str | Path, overrides: str, keys: Sequence[str]
) -> dict[str, Any]:
    """Build some keys of a YAML, and nothing but what they refer to.

    So a bad input is refused before a model is loaded or a folder is made. Keys that
    the file does not have are left out; the result is as that of `load_hyperpyyaml`.
    """
    from hyperpyyaml import load_hyperpyyaml

    tree, part, queue = plain_values(hparams_file, overrides), {}, list(keys)
    while queue:
        key = queue.pop()
        if key in tree and key not in part:
            part[key] = tree[key]
            queue += re.findall(r"<(\w+)", _dumped({key: tree[key]}))
    return load_hyperpyyaml(_dumped(part))


def _dumped(tree: Mapping[str, Any]) -> str:
    text = io.StringIO()
    _put_keys_on_lines(tree)
    YAML().dump(tree, text)
    return text.getvalue()


def _put_keys_on_lines(node: Any) -> None:
    """A key inside {...} with a blank in it may be broken, and cannot be read again."""
    if isinstance(node, CommentedMap) and node:
        node.fa.set_block_style()
    inside = node.values() if isinstance(node, Mapping) else node
    if isinstance(node, (Mapping, list)):
        for value in inside:
            _put_keys_on_lines(value)


def _divided(argv: Sequence[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Options of the YAML with what was typed as their values, and all other words."""
    from speechbrain.utils.run_opts import HELP_TEXTS

    run_options = {*HELP_TEXTS, "jit_module_keys", "compile_module_keys", "help"}
    own: dict[str, str | None] = {}
    others, words = list[str](), list(argv)
    while words:
        word = words.pop(0)
        typed, equals, value = word.removeprefix("--").partition("=")
        name = typed.replace("-", "_")
        if not word.startswith("--") or typed in run_options:
            others.append(word)
            # so that a value is not taken for an option of the YAML
            if not equals and words and not words[0].startswith("--"):
                others.append(words.pop(0))
            continue
        if meant := sorted(o for o in run_options if o.startswith(name)):
            raise OptionError(
                f"--{name} would be taken for --{meant[0]}, an option of SpeechBrain: "
                "write options in full"
            )
        if name in own:
            raise OptionError(f"--{name} is given twice: give each option once")
        has_next = bool(words) and not words[0].startswith("--")
        own[name] = value if equals else words.pop(0) if has_next else None
    return list(own.items()), others


def _given(name: str, value: str | None, tree: Mapping[str, Any]) -> str:
    """What was typed as an option's value; true for a switch without one."""
    if value is None and not isinstance(tree.get(name), bool):
        raise OptionError(f"--{name} has no value: write --{name}=VALUE")
    return "true" if value is None else value


def _read(path: str | Path) -> MutableMapping[str, Any]:
    try:
        tree = YAML().load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OptionError(
            f"{path}: {reason}; the first argument is a YAML, e.g. hparams/esc50.yaml"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise OptionError(f"{path} is no YAML: {reason}") from error
    if not isinstance(tree, MutableMapping):
        raise OptionError(f"{path} is no YAML with keys: hparams/ has examples")
    return tree


def _parse(overrides: str) -> Mapping[str, Any]:
    try:
        given = YAML().load(overrides) if overrides.strip() else {}
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise OptionError(
            f"the options are no YAML ({reason}): write --KEY=VALUE, each one once, "
            "and values with ': ' or '#' in quotes, e.g. --model_name='\"a: b\"'"
        ) from error
    if not isinstance(given, Mapping):
        raise OptionError(f"{overrides.strip()!r} is no option: write --KEY=VALUE")
    return given


def _unknown(key: str, tree: Mapping[str, Any], path: str | Path) -> str:
    """Message with the key to use in place of one that a YAML does not have."""
    if RENAMED.get(key) in tree:
        return f"--{key} is now called --{RENAMED[key]}"
    parts = key.split(".")
    if parts[0] not in tree:
        parts[0] = RENAMED.get(parts[0], parts[0])
    if len(parts) > 1 and parts[0] in tree:
        return f"--{key}: write {_nested(parts)}"
    names = {key, RENAMED.get(key)}
    inside = next((place for place in _places(tree) if place[-1] in names), None)
    if inside:
        return f"--{key} is a part of --{inside[0]}: write {_nested(inside)}"
    near = difflib.get_close_matches(key, map(str, tree), n=1)
    fix = f"did you mean --{near[0]}?" if near else "the file lists what there is"
    return f"{path} has no key {key}: {fix}"


def _nested(place: Sequence[str]) -> str:
    """How to set a nested key: [a, b, c] -> --a='{b: {c: VALUE}}'."""
    value = "VALUE"
    for key in reversed(place[1:]):
        value = f"{{{key}: {value}}}"
    return f"--{place[0]}='{value}'"


def _places(tree: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every nested key."""
    for key, value in tree.items():
        if above:
            yield (*above, str(key))
        if isinstance(value, Mapping):
            yield from _places(value, *above, str(key))
