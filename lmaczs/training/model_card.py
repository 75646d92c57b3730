"""The README.md of an exported decoder: use, metrics, training, licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lmaczs import __version__
from lmaczs.metrics.faithfulness import MEANINGS
from lmaczs.metrics.metric import legend
from lmaczs.objectives.terms import TERMS
from lmaczs.training.held_out import HELD_OUT_FILE, SHOWN, held_out_table

FOLDS = {"train_folds": "training", "valid_folds": "validation", "test_folds": "test"}
NO_METRIC = {"unixtime", "end-of-epoch", "epoch"}
TAGS = ["audio", "clap", "interpretability", "lmac-zs", "speechbrain"]

# Jinja, as ModelCard.from_template reads it.
MODEL_CARD = """\
---
{{ card_data }}
---

# {{ model_name }}

A mask decoder for the CLAP model {{ clap }}, {{ method }}.
Given a recording and a text prompt it masks the recording's spectrogram, and what is
left is what the CLAP model listened to.

    from lmaczs import ZeroShotInterpreter

    interpreter = ZeroShotInterpreter.from_hparams(source="<this folder>")
    explanation = interpreter.interpret_file("street.wav", "a dog barking")

Masks are in the {{ domain }} domain; a bare label is put into "{{ template }}".
Loading it so runs no code of this folder. SpeechBrain's own loaders run what its
hyperparams.yaml names.

## Metrics

Of {{ chosen }}{{ folds }}:

{{ metrics }}
{{ held_out }}
## Training

Trained with `{{ command }}` of lmaczs {{ version }}{{ recipe }}.{{ clips }}
Values, without paths:

```yaml
{{ hyperparameters }}```

## Licence

{{ licence }}
"""
LMAC_ZS_PLUS = (
    "trained as LMAC-ZS+: the method is that of\nLMAC-ZS (arXiv 2405.17615), the "
    "objective and the decoder's layers are those of lmaczs"
)
LMAC_ZS = "trained by the objective of\nLMAC-ZS (arXiv 2405.17615, eqs. 6 and 7)"
LMAC = (
    "trained with the terms of\nL-MAC (arXiv 2403.13086) on class prompts; the "
    "decoder's layers are those of lmaczs"
)
LMAC_FINETUNED = f"{LMAC},\nin its fine-tuning stage (SpeechBrain's recipe of L-MAC)"
METHODS = {
    "lmaczs": LMAC_ZS_PLUS,
    "lmaczs_paper": LMAC_ZS,
    "lmac": LMAC,
    "lmac_finetuning": LMAC_FINETUNED,
}
COPIED_CLAP = (
    "`clap/` is a copy of that CLAP model and keeps its licence (see `clap/README.md` "
    "where there is one)."
)
HUB_CLAP = "The CLAP model is fetched from the Hub and has its own licence there."
DECODER_LICENCE = (
    "The decoder's weights were learned from that CLAP model and from the training\n"
    "data: what their licences say of derived works holds for this folder, too. The\n"
    "code of lmaczs is under Apache-2.0."
)


def model_card(
    run_folder: str | Path,
    run_card: Mapping[str, Any],
    meta: Mapping[str, Any],
    clap_is_copied: bool,
) -> str:
    """Model card of an exported decoder: Markdown below the Hub's metadata block.

    Parameters
    ----------
    run_folder : str or Path
        `output_folder` of the run. Its hyperparams.yaml and test.json, if present, are
        parsed, never executed.
    run_card : Mapping
        From `lmaczs.training.export.write_run_card`.
    meta : Mapping
        Metadata of the exported checkpoint.
    clap_is_copied : bool
        Whether the CLAP is in the same folder, or on the Hub.

    Returns
    -------
    str
    """
    run_folder = Path(run_folder)
    recipe, values = _training_values(run_folder / "hyperparams.yaml")
    values = _as_split(values, run_card.get("split", ""))
    test = _metrics_of(run_folder / "test.json", meta)
    held_out = _metrics_of(run_folder / HELD_OUT_FILE, meta)
    data = ModelCardData(
        library_name="lmaczs",
        tags=TAGS,
        model_name=run_card["model_name"],
        eval_results=_results(test, values) or _held_out_results(held_out),
    )
    card = ModelCard.from_template(
        data,
        template_str=MODEL_CARD,
        **{name: run_card[name] for name in ("model_name", "domain", "template")},
        clap="in `clap/`" if clap_is_copied else f"`{run_card['clap_source']}`",
        method=METHODS.get(str(values.get("objective")), LMAC_ZS_PLUS),
        chosen=_which_checkpoint(
            run_card["checkpoint_metric"], run_card["checkpoint_mode"]
        ),
        folds=_which_folds(values),
        held_out=_held_out(held_out),
        command="lmaczs adapt" if held_out else "recipes/train.py",
        metrics=_metric_table(meta, test, run_card.get("clips", {})),
        version=__version__,
        recipe=recipe,
        clips=_which_clips(values) + _which_sounds(held_out),
        hyperparameters=yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        licence=f"{COPIED_CLAP if clap_is_copied else HUB_CLAP}\n{DECODER_LICENCE}",
    )
    return str(card)


def _results(
    test: Mapping[str, Any], values: Mapping[str, Any]
) -> list[EvalResult] | None:
    """Metrics of the test split as the Hub shows them; None without such metrics."""
    name = values.get("dataset", "own recordings")
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type=name,
            dataset_name=name,
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in test.items()
    ] or None


def _held_out_results(found: Mapping[str, Any]) -> list[EvalResult] | None:
    """Metrics of the decoder's masks on held-out clips; None without such metrics."""
    if not found:
        return None
    name = "sounds made by lmaczs" if found["made"] else "recordings without labels"
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type="held-out",
            dataset_name=name,
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in found["rows"]["decoder"].items()
        if metric in SHOWN
    ]


def _which_checkpoint(metric: str, mode: str) -> str:
    if (metric, mode) == ("epoch", "max"):
        return "the last epoch"
    extreme = {"min": "lowest", "max": "highest"}[mode]
    return f"the checkpoint with the {extreme} {metric} on the validation split"


def _which_folds(values: Mapping[str, Any]) -> str:
    """Name the folds of the three splits, if folds chose them."""
    if not FOLDS.keys() <= values.keys():
        return ""
    named = [f"{FOLDS[key]}: {', '.join(map(str, values[key]))}" for key in FOLDS]
    return f" (folds, {'; '.join(named)})"


def _which_clips(values: Mapping[str, Any]) -> str:
    """State which of the training clips were left out, if any were."""
    fraction, left_out = values.get("train_fraction", 1), values.get("leave_out")
    found = ""
    if fraction != 1:
        found += (
            f"\nTrained on {fraction} of the training clips, drawn over the labels."
        )
    if left_out:
        found += f"\nNo clip of these labels was trained on: {', '.join(left_out)}."
    return found


def _metric_table(
    valid: Mapping[str, Any], test: Mapping[str, Any], clips: Mapping[str, int]
) -> str:
    """Metrics as a Markdown table with a legend; those of the test where there are any.

    `clips` are the numbers of clips by split; older runs have none.
    """
    rows = [f"| epoch | {valid['epoch']} |  |"] if "epoch" in valid else []
    rows += [
        f"| {key} | {_cell(valid[key])} | {_cell(test.get(key))} |"
        for key in valid
        if key not in NO_METRIC
    ]
    head = [
        f"{name}, {clips[split]} clips" if split in clips else name
        for split, name in (("valid", "validation"), ("test", "test"))
    ]
    table = [f"| metric | {' | '.join(head)} |", "|---|---|---|", *rows]
    meanings = {name: term.meaning for name, term in TERMS.items()} | MEANINGS
    return "\n".join([*table, "", f"Means over the clips. {legend(meanings, valid)}."])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metrics_of(path: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the run measured with this checkpoint and wrote to a file; else empty."""
    # a file older than the checkpoint is of another one
    if not path.is_file() or path.stat().st_mtime < meta.get("unixtime", 0):
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def _held_out(found: Mapping[str, Any]) -> str:
    """Section with the decoder beside masks that are fitted without one."""
    if not found:
        return ""
    table = held_out_table(found["rows"], found["clips"], found["classes"])
    return f"\n## Beside masks fitted without a decoder\n\n{table}\n"


def _which_sounds(found: Mapping[str, Any]) -> str:
    """State what a decoder was trained on that `lmaczs adapt` made."""
    if not found:
        return ""
    sounds = "sounds that were made by lmaczs" if found["made"] else "recordings"
    return (
        f"\nTrained on {sounds}, without labels: prompts are what the CLAP itself "
        "ranks high and low."
    )


class _PlainLoader(yaml.SafeLoader):
    """Reads HyperPyYAML without building anything: what has a tag becomes None."""


_PlainLoader.add_multi_constructor("", lambda loader, suffix, node: None)


def _training_values(path: Path) -> tuple[str, dict[str, Any]]:
    """Recipe file and plain values of a run, without this machine's paths."""
    if not path.is_file():
        return "", {}
    text = path.read_text(encoding="utf-8")
    # SpeechBrain's second line names the file that the run was started with
    origin = [line for line in text.splitlines()[1:2] if line.startswith("# ")]
    recipe = f" and `{Path(origin[0][2:]).name}`" if origin else ""
    values = yaml.load(text, Loader=_PlainLoader) or {}
    return recipe, {key: value for key, value in values.items() if _is_plain(value)}


def _as_split(values: dict[str, Any], split: str) -> dict[str, Any]:
    """Values with the split that was used; folds only where they chose it."""
    if not split:
        return values
    used = {**values, "split": split}
    if split == "folds":
        return used
    return {key: value for key, value in used.items() if key not in FOLDS}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return all(_is_plain(item) for item in items)
    if isinstance(value, str):
        return not Path(value).is_absolute()
    return isinstance(value, int | float)
