"""What a decoder's folder says of its model, read without running any of it.

hyperparams.yaml is a program: HyperPyYAML imports and calls whatever its tags name.
Here the file is only read. Its tags are compared with a list of what exports name, and
anything else is refused with its line. interpreter.json says the same without tags, and
comes first; where a folder has both, they have to agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lmaczs.utils.errors import InputError
from lmaczs.utils.plain_files import read_plain, read_plain_json

YAML_FILE, JSON_FILE = "hyperparams.yaml", "interpreter.json"
WEIGHTS = ("decoder.safetensors", "decoder.ckpt")
"""The file of a decoder's weights: the first that is there; the second is a pickle."""

RUN_FILE, LEARNT = "run.json", "learnt.json"
"""Of a training run: its digests, and what it learnt; also in what is exported."""

EXPORTED = {
    *(JSON_FILE, YAML_FILE, *WEIGHTS),  # the last is that of older exports
    *("clap", "README.md", RUN_FILE, LEARNT),
}
"""All that an export writes into a decoder's folder."""

MOST_BYTES, MOST_NESTED = 1 << 16, 16
"""Of either file: a hundred times an export's, and four times as deep."""

MOST_SHOWN = 40
"""Characters of a value that a sentence shows."""

FROM_PRETRAINED = "!apply:lmaczs.clap.FrozenClap.from_pretrained"
LOAD_DECODER = "!name:lmaczs.decoder.load_decoder"
PRETRAINERS = (
    "!new:speechbrain.utils.parameter_transfer.Pretrainer",
    "!new:lmaczs.decoder_file.DecoderPretrainer",
)
DECODERS = ("lmaczs.decoder.MaskDecoder", "lmaczs.paper_decoder.PaperDecoder")
NAMES = {
    *(FROM_PRETRAINED, LOAD_DECODER, "!ref"),
    *PRETRAINERS,
    *(f"!new:{decoder}" for decoder in DECODERS),
}
"""Everything that a file may name."""

NEEDED = ("clap_source", "model_name", "template")
PLAIN = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")
}
REFERENCE = re.compile(r"<(\w+)>")


class ForeignCodeError(InputError):
    """A model's folder that names what exports do not: where, and the way out."""


@dataclass(frozen=True)
class ModelFile:
    """A model, as its folder describes it.

    Attributes
    ----------
    values : dict
        Plain values by their names: `NEEDED`, and others.
    decoder : str
        Import path of the decoder's class, one of `DECODERS`.
    arguments : dict
        Plain arguments of that class, without the CLAP.
    """

    values: dict[str, Any]
    decoder: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Named:
    """What a tag names, with its arguments; not built."""

    tag: str
    arguments: Any
    line: int


def read_model_file(
    folder: str | Path, overrides: Mapping[str, Any] | None = None
) -> ModelFile:
    """Read interpreter.json or hyperparams.yaml of a folder.

    Parameters
    ----------
    folder : str or Path
        Of a decoder, whoever made it.
    overrides : mapping, optional
        Plain values that replace the file's.

    Returns
    -------
    ModelFile

    Raises
    ------
    FileNotFoundError
        If there is neither file.
    ForeignCodeError
        If a tag, an alias or an override names what exports do not.
    InputError
        If a file is damaged, lacks a value or contradicts the other one, or there is
        no such value to override.
    """
    folder = Path(folder)
    there = [name for name in (JSON_FILE, YAML_FILE) if _exists(folder / name)]
    if not there:
        raise FileNotFoundError(
            f"{folder} holds no hyperparams.yaml; `lmaczs export` writes a folder "
            "that can be loaded"
        )
    given = _plain_overrides(overrides or {})
    read = {JSON_FILE: _read_json, YAML_FILE: _read_yaml}
    found = [read[name](folder, given) for name in there]
    if len(found) > 1:
        _require_equal(found[0], found[1], folder)
    values = {key: one for file in reversed(found) for key, one in file.values.items()}
    missing = [name for name in NEEDED if not isinstance(values.get(name), str)]
    if missing:
        raise InputError(f"{folder / there[0]} names no {missing[0]}")
    if values["clap_source"].startswith(("//", "\\\\")):  # Windows would log in there
        raise InputError(f"{folder / there[0]}: clap_source is on another machine")
    for name in NEEDED:
        if not values[name].isprintable():
            raise InputError(f"{folder / there[0]}: {name} is not one line of text")
    return ModelFile(values, found[0].decoder, found[0].arguments)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _plain_overrides(overrides: Any) -> dict[str, Any]:
    if not isinstance(overrides, Mapping):
        raise InputError(
            f"overrides is a {type(overrides).__name__}: give a mapping of values"
        )
    for name, value in overrides.items():
        if not (_is_single(value) or isinstance(value, Path)):
            raise ForeignCodeError(
                f"overrides[{name!r}] is a {type(value).__name__}: give a number or a "
                "text, or add trust_remote_code=True"
            )
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in overrides.items()
    }


def _replace(values: dict[str, Any], given: Mapping[str, Any], path: Path) -> None:
    for name, value in given.items():
        if name not in values or isinstance(values[name], _Named):
            raise InputError(f"{path} has no value {name!r} that could be replaced")
        values[name] = value


# --- interpreter.json ---------------------------------------------------------------


def _read_json(folder: Path, given: Mapping[str, Any]) -> ModelFile:
    values = read_plain_json(folder, JSON_FILE, MOST_BYTES)
    path = folder / JSON_FILE
    decoder, arguments = values.pop("decoder", None), values.pop("arguments", {})
    if decoder not in DECODERS:
        raise ForeignCodeError(_refusal(f"{path}: the decoder {decoder!r}"))
    if not isinstance(arguments, dict) or not all(map(_is_single, arguments.values())):
        raise InputError(f"{path}: arguments is no mapping of numbers and texts")
    _replace(values, given, path)
    shared: dict[str, Any] = {k: values[k] for k in ("domain", "width") if k in values}
    return ModelFile(values, decoder, {**shared, **arguments})


def _require_equal(one: ModelFile, other: ModelFile, folder: Path) -> None:
    """Refuse two files of different exports."""
    pairs = {
        "decoder": (one.decoder, other.decoder),
        "the decoder's arguments": (one.arguments, other.arguments),
        **{name: (one.values[name], other.values.get(name)) for name in one.values},
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise InputError(
                f"{folder}: {name} is {ours!r} in {JSON_FILE} and {theirs!r} in "
                f"{YAML_FILE}: write the same into both, or export again"
            )


# --- hyperparams.yaml ---------------------------------------------------------------


def _read_yaml(folder: Path, given: Mapping[str, Any]) -> ModelFile:
    path = folder / YAML_FILE
    text = read_plain(folder, YAML_FILE, MOST_BYTES)
    try:
        _require_shallow(text, path)
        root = yaml.compose(text, yaml.SafeLoader)
        values = _value(root, path) if root else None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is damaged: it holds no mapping")
    _replace(values, given, path)
    return _described(values, path)


def _described(values: dict[str, Any], path: Path) -> ModelFile:
    """The model of a file's values: a CLAP and a decoder of it, and nothing more."""
    modules = values.get("modules")
    found = {k: _followed(v, values, path) for k, v in _entries(modules).items()}
    for name in ("clap", "decoder"):
        if not isinstance(found.get(name), _Named):
            raise InputError(f"{path} names no module {name!r}")
    clap, decoder = found.pop("clap"), found.pop("decoder")
    path_of_class = decoder.tag.removeprefix("!new:")
    if found or clap.tag != FROM_PRETRAINED or path_of_class not in DECODERS:
        raise ForeignCodeError(_refusal(f"{path}: a module {[*found, 'decoder'][0]!r}"))
    source = _arguments(clap, values, path, {"source", "relative_to"}).get("source")
    arguments = _arguments(decoder, values, path)
    if arguments.pop("clap", None) is not clap:
        raise InputError(f"{path}, line {decoder.line}: the decoder's clap is another")
    _require_pretrainer(values, decoder, path)
    followed = {k: _followed(v, values, path) for k, v in values.items()}
    plain = {key: one for key, one in followed.items() if _is_plain(one)}
    return ModelFile({**plain, "clap_source": source}, path_of_class, arguments)


def _entries(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _followed(value: Any, values: Mapping[str, Any], path: Path) -> Any:
    """What a reference refers to; any other value as it is."""
    for _ in range(MOST_NESTED):
        if not isinstance(value, _Named) or value.tag != "!ref":
            return value
        if value.arguments not in values:
            raise InputError(
                f"{path}, line {value.line}: there is no {value.arguments!r} to refer "
                "to"
            )
        value = values[value.arguments]
    raise InputError(f"{path}, line {value.line}: references without an end")


def _arguments(
    named: _Named,
    values: Mapping[str, Any],
    path: Path,
    allowed: set[str] | None = None,
) -> dict[str, Any]:
    """Arguments by their names, each a single value or the CLAP."""
    found = {}
    for name, value in _entries(named.arguments).items():
        found[name] = _followed(value, values, path)
        plain = _is_single(found[name]) or name == "clap"
        if not plain or (allowed is not None and name not in allowed):
            raise ForeignCodeError(
                _refusal(f"{path}, line {named.line}: {name} of {named.tag}")
            )
    return found


def _require_pretrainer(values: Mapping[str, Any], decoder: _Named, path: Path) -> None:
    """Refuse a pretrainer that loads anything but the decoder beside the file."""
    pretrainer = values.get("pretrainer")
    if pretrainer is None:
        return
    given = _entries(getattr(pretrainer, "arguments", None))
    loaded, hooks = (
        {k: _followed(v, values, path) for k, v in _entries(given.get(name)).items()}
        for name in ("loadables", "custom_hooks")
    )
    named = {key: getattr(hook, "tag", None) for key, hook in hooks.items()}
    if (
        set(given) - {"loadables", "custom_hooks"}
        or list(loaded) != ["decoder"]
        or loaded["decoder"] is not decoder
        or named != {"decoder": LOAD_DECODER}
    ):
        line = getattr(pretrainer, "line", 1)
        raise ForeignCodeError(_refusal(f"{path}, line {line}: the pretrainer"))


def _is_single(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for one in value.values())
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return not isinstance(value, _Named)


def _refusal(what: str) -> str:
    return (
        f"{what} is none of what an exported decoder names, and is not run: if you "
        "trust who made it, add --trust-remote-code (trust_remote_code=True in Python)"
    )


def _require_shallow(text: str, path: Path) -> None:
    """Refuse aliases, which may multiply, deep nesting and tags, event by event."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None):
            raise ForeignCodeError(
                _refusal(f"{path}, line {line}: the alias {event.anchor!r}")
            )
        tag = getattr(event, "tag", None)
        if tag and tag not in NAMES | PLAIN:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            raise ForeignCodeError(_refusal(f"{path}, line {line}: {shown}"))
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_NESTED:
            raise InputError(f"{path}, line {line}: nested too deeply")


def _value(node: yaml.Node, path: Path) -> Any:
    """Plain value of a node, in which `_Named` stands for what a tag names."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path, line)
    if isinstance(node, yaml.SequenceNode):
        content: Any = [_value(one, path) for one in node.value]
    else:
        content = {}
        for key_node, value_node in node.value:
            key = _value(key_node, path)
            if not isinstance(key, str) or key in content or key == "<<":
                line = key_node.start_mark.line + 1
                raise InputError(f"{path}, line {line}: {key!r} twice, or no name")
            content[key] = _value(value_node, path)
    if node.tag == "!ref":
        raise ForeignCodeError(_refusal(f"{path}, line {line}: !ref to several values"))
    is_plain = node.tag.startswith("tag:yaml.org,2002:")
    return content if is_plain else _Named(node.tag, content, line)


def _scalar(node: yaml.ScalarNode, path: Path, line: int) -> Any:
    if node.tag == "!ref":
        if not REFERENCE.fullmatch(node.value):  # arithmetic, an attribute, a part
            raise ForeignCodeError(
                _refusal(f"{path}, line {line}: !ref {node.value!r}")
            )
        return _Named("!ref", node.value[1:-1], line)
    if node.tag not in PLAIN:
        if node.tag.startswith("tag:"):
            raise InputError(f"{path}, line {line}: {node.value!r} is to be quoted")
        return _Named(node.tag, {}, line)
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, LookupError) as error:  # !!int of what is none
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        shown = node.value[:MOST_SHOWN]
        raise InputError(f"{path}, line {line}: {shown!r} is no {kind}") from error
