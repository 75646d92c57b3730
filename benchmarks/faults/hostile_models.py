"""Model folders of somebody who means harm: what loading them does.

    python benchmarks/faults/hostile_models.py --json hostile_models.json

Each folder is a copy of the embedded model in which one thing is hostile, and is loaded
in a process of its own, where `$CANARY` names a file that code of the folder would
make. A folder is safe if that file is not there, and loading ended with one sentence of
this package or with a model, within `SECONDS` of a processor and `MIB` more memory.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lmaczs import ZeroShotInterpreter, default_source
from lmaczs.utils.errors import LmaczsError

SECONDS, MIB = 10, 1024
KILLED = 120  # seconds, however little of the processor it got
ROOM = 4 << 30  # bytes that a process may allocate before it is refused more
SAFE = ("refused", "loaded")

YAML = """\
source_folder: .
clap_source: clap
model_name: hostile
domain: stft
width: 32
template: This is a sound of {}.
clap: !apply:lmaczs.clap.FrozenClap.from_pretrained
    source: !ref <clap_source>
    relative_to: !ref <source_folder>
decoder: !new:lmaczs.decoder.MaskDecoder
    clap: !ref <clap>
    domain: !ref <domain>
    width: !ref <width>
modules:
    clap: !ref <clap>
    decoder: !ref <decoder>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        decoder: !ref <decoder>
    custom_hooks:
        decoder: !name:lmaczs.decoder.load_decoder
"""
JSON = {
    "clap_source": "clap",
    "model_name": "hostile",
    "domain": "stft",
    "width": 32,
    "template": "This is a sound of {}.",
    "decoder": "lmaczs.decoder.MaskDecoder",
}
POPEN = "!new:subprocess.Popen [[sh, -c, touch $CANARY]]"
CODE = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n"

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One hostile folder: its kind, what is hostile in it, and how it is loaded."""

    kind: str
    name: str
    change: Change
    overrides: Any = None
    by_clap: bool = False


@dataclass(frozen=True)
class Outcome:
    """What loading it did."""

    case: Case
    end: str
    """refused, loaded, error, killed"""
    ran: bool
    seconds: float
    mib: float
    sentence: str

    @property
    def is_safe(self) -> bool:
        """Whether nothing was run, and it ended well, soon and small."""
        bounded = self.seconds <= SECONDS and self.mib <= MIB
        return self.end in SAFE and not self.ran and bounded


class Runs:
    """Unpickling it makes the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch $CANARY",)


# --- what can be hostile ------------------------------------------------------------


def text(name: str, content: str | bytes) -> Change:
    """Write a file."""
    data = content.encode() if isinstance(content, str) else content

    def change(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)  # it is a hard link
        path.write_bytes(data)

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""
    return lambda folder: [change(folder) for change in changes]


def more_yaml(line: str, with_json: bool = False) -> Change:
    """Add to hyperparams.yaml; beside an interpreter.json without harm, or alone."""
    file = text("hyperparams.yaml", YAML + line + "\n")
    innocent = text("interpreter.json", json.dumps(JSON))
    return both(file, innocent) if with_json else file


def replaced(old: str, new: str) -> Change:
    """Replace something in hyperparams.yaml."""
    assert old in YAML
    return text("hyperparams.yaml", YAML.replace(old, new))


def values(name: str, *keys: Any, value: Any) -> Change:
    """Set a value in a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        text(name, json.dumps(content))(folder)

    return change


def interpreter_json(**changed: Any) -> Change:
    """interpreter.json with other values, alone."""

    def change(folder: Path) -> None:
        (folder / "hyperparams.yaml").unlink()
        text("interpreter.json", json.dumps({**JSON, **changed}))(folder)

    return change


def files(name: str) -> tuple[str, ...]:
    """A file, and for a decoder's weights that in which older versions have them."""
    return (name, "decoder.ckpt") if name == "decoder.safetensors" else (name,)


def weights(name: str, alter: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Change the tensors of a safetensors file."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / name)
        alter(tensors)
        for one in files(name):
            (folder / one).unlink()
        save_file(tensors, folder / name, metadata={"format": "pt"})
        if len(files(name)) > 1:
            torch.save(tensors, folder / "decoder.ckpt")

    return change


def pickled(name: str, instead_of: str) -> Change:
    """A pickle that runs code, in place of weights."""

    def change(folder: Path) -> None:
        (folder / instead_of).unlink()
        (folder / name).unlink(missing_ok=True)
        torch.save({"a": Runs()}, folder / name)

    return change


def link(name: str, target: str) -> Change:
    """A link in place of a file."""

    def change(folder: Path) -> None:
        for one in files(name):
            (folder / one).unlink(missing_ok=True)
            (folder / one).symlink_to(target)

    return change


def pipe(name: str) -> Change:
    """A pipe that nobody writes to, in place of a file."""

    def change(folder: Path) -> None:
        for one in files(name):
            (folder / one).unlink(missing_ok=True)
            os.mkfifo(folder / one)

    return change


def holes(name: str, size: int) -> Change:
    """A file of zeros that takes no room of the disk, in place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return change


def cut(name: str, share: float) -> Change:
    """The first part of a file."""

    def change(folder: Path) -> None:
        for one in files(name):
            data = (folder / one).read_bytes()
            text(one, data[: int(share * len(data))])(folder)

    return change


def long_header(folder: Path) -> None:
    """A safetensors file whose header claims to be of 10^18 bytes."""
    text("decoder.safetensors", (10**18).to_bytes(8, "little") + b"{}")(folder)


def vocabulary_elsewhere(folder: Path) -> None:
    """A tokenizer whose words are in a pipe of another name."""
    (folder / "clap/tokenizer.json").unlink()
    os.mkfifo(folder / "clap/pipe")
    content = json.loads((folder / "clap/tokenizer_config.json").read_text())
    content |= {"tokenizer_class": "BertTokenizer", "vocab": str(folder / "clap/pipe")}
    text("clap/tokenizer_config.json", json.dumps(content))(folder)


def million_names(folder: Path) -> None:
    """A safetensors file of a million tensors without a number."""
    one = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = "{" + ",".join(map(one.format, range(10**6))) + "}"
    data = len(header).to_bytes(8, "little") + header.encode()
    text("decoder.safetensors", data)(folder)


def sparse(name: str, size: int) -> Change:
    """A safetensors file of one tensor that takes no room of the disk."""

    def change(folder: Path) -> None:
        one = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
        header = json.dumps({"a": one}).encode()
        text(name, len(header).to_bytes(8, "little") + header)(folder)
        os.truncate(folder / name, 8 + len(header) + size)

    return change


def bomb(levels: int) -> str:
    """Lists of nine aliases each, a level of them after the other."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{inner}]")
    return "\n".join(lines)


YAML_CODE = {
    "!new": f"x: {POPEN}",
    "!new in a list": f"x: [1, {{y: {POPEN}}}]",
    "!name": "x: !name:own.Own",
    "!name, called": "x: !name:own.Own {a: 1}",
    "!apply": "x: !apply:os.system [touch $CANARY]",
    "!applyref": "x: !applyref:os.system [touch $CANARY]",
    "!apply, by a string": "x: !apply:builtins.exec [import own]",
    "!module": "x: !module:own",
    "!include": "x: !include:more.yaml",
    "!!python/object/apply": "x: !!python/object/apply:os.system [touch $CANARY]",
    "!!python/object/new": f"x: {POPEN}".replace("!new:", "!!python/object/new:"),
    "!!python/module": "x: !!python/module:own",
    "verbatim tag": "x: !<!apply:os.system> [touch $CANARY]",
    "escaped tag": "x: !apply:os%2Esystem [touch $CANARY]",
    "a key": "? !apply:os.system [touch $CANARY]\n: 1",
    "getattr": "x: !apply:getattr\n  - !name:own.Own\n  - __doc__",
    "!ref to an attribute": "x: !ref <clap.__class__.__init__>",
    "!copy of code": "y: !apply:os.system [touch $CANARY]\nx: !copy <y>",
    "run option": "device: !apply:os.system [touch $CANARY]",
    "audio_normalizer": "audio_normalizer: !apply:os.system [touch $CANARY]",
}
HOOK, SYSTEM = "!name:lmaczs.decoder.load_decoder", "!apply:os.system [touch $CANARY]"
HOOKS = "    custom_hooks"
DECODER = YAML[YAML.index("!new:lmaczs") : YAML.index("modules:")]
IN_PLACE = (
    (DECODER, SYSTEM + "\n"),
    (HOOK, "!name:os.system"),
    (HOOK, SYSTEM),
    (HOOKS, f"    paths: {{decoder: /etc/passwd}}\n{HOOKS}"),
    (HOOKS, f"    conditions: {{decoder: {SYSTEM}}}\n{HOOKS}"),
    ("clap_source: clap", f"clap_source: {SYSTEM}"),
)
OWN_FILES = both(
    text("own.py", CODE + "class Own: pass\n"),
    text("more.yaml", "a: !apply:os.system [touch $CANARY]\n"),
)


def yaml_cases() -> Iterator[Case]:
    """Code named by hyperparams.yaml, alone and beside an innocent interpreter.json."""
    for name, line in YAML_CODE.items():
        for with_json in (False, True):
            where = f"{name}{', beside interpreter.json' if with_json else ''}"
            change = both(OWN_FILES, more_yaml(line, with_json))
            yield Case("hyperparams.yaml names code", where, change)
    hidden = f"%TAG !e! !apply:os.\n---\n{YAML}x: !e!system [touch $CANARY]\n"
    yield Case("hyperparams.yaml names code", "%TAG", text("hyperparams.yaml", hidden))
    kind = "hyperparams.yaml names code in place of a part"
    for old, new in IN_PLACE:
        yield Case(kind, f"{old.split()[0]} {new.split()[0]}", replaced(old, new))


def json_cases() -> Iterator[Case]:
    """What interpreter.json and overrides can say."""
    kind = "interpreter.json"
    for name in ("subprocess.Popen", "own.Own", "lmaczs.training.export.export_run"):
        change = both(OWN_FILES, interpreter_json(decoder=name))
        yield Case(kind, f"decoder {name}", change)
    for key, value in {
        "arguments": {"clap": "x"},
        "decoder": ["lmaczs.decoder.MaskDecoder"],
        "model_name": "\x1b]0;title\x07",
        "clap_source": "/proc/self",
        "template": "{0.__class__.__init__.__globals__}",
    }.items():
        yield Case(kind, key, interpreter_json(**{key: value}))
    deep = both(text("interpreter.json", "[" * 60_000))
    yield Case(kind, "60,000 levels", deep)
    kind = "overrides"
    code = "x: !apply:os.system [touch $CANARY]"
    for name, given in {"text": code, "object": {"width": os.system}}.items():
        yield Case(kind, name, more_yaml(""), overrides=given)


def file_cases() -> Iterator[Case]:
    """Links, pipes, devices and files without an end, in place of each file."""
    names = (
        *("hyperparams.yaml", "interpreter.json", "decoder.safetensors"),
        *("clap/config.json", "clap/model.safetensors", "clap/tokenizer.json"),
        *("clap/tokenizer_config.json", "clap/processor_config.json"),
    )
    for name in names:
        kind = "links, pipes, devices, sizes"
        yield Case(kind, f"{name}: a link to /etc/passwd", link(name, "/etc/passwd"))
        yield Case(kind, f"{name}: /dev/zero", link(name, "/dev/zero"))
        yield Case(kind, f"{name}: a pipe", pipe(name))
        if "safetensors" not in name:
            yield Case(kind, f"{name}: 1 TB of holes", holes(name, 1 << 40))


def pickle_cases() -> Iterator[Case]:
    """Pickles that run code, under every name that is read."""
    kind = "pickles"
    yield Case(kind, "decoder.ckpt", pickled("decoder.ckpt", "decoder.safetensors"))
    name = "decoder.safetensors"
    yield Case(kind, name, pickled(name, name))
    bad = pickle.dumps(Runs())
    yield Case(kind, "plain, as safetensors", text(name, bad))
    name = "clap/model.safetensors"
    yield Case(kind, "clap/pytorch_model.bin", pickled("clap/pytorch_model.bin", name))
    yield Case(kind, name, pickled(name, name))


def clap_cases() -> Iterator[Case]:
    """Code and other places that a CLAP's files name."""
    kind = "a CLAP names code"
    auto = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoModelForX": "own.Own"}
    own = text("clap/own.py", CODE + "class Own: pass\n")
    for file, key, value in (
        ("config.json", "auto_map", auto),
        ("config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
        ("config.json", "attn_implementation", "evil/kernel"),
        ("config.json", "_name_or_path", "evil/model"),
        ("config.json", "model_type", "own"),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["own.Own", None]}),
        ("tokenizer_config.json", "tokenizer_class", "Own"),
        ("tokenizer_config.json", "tokenizer_file", "/dev/zero"),
        ("processor_config.json", "auto_map", {"AutoFeatureExtractor": "own.Own"}),
    ):
        change = both(own, values(f"clap/{file}", key, value=value))
        yield Case(kind, f"{file}: {key}", change)
    adapter = {"base_model_name_or_path": "evil/model", "peft_type": "LORA"}
    file = "clap/adapter_config.json"
    yield Case(kind, "adapter_config.json", text(file, json.dumps(adapter)))
    for name in ("custom.py", "__init__.py", "sitecustomize.py", "conftest.py"):
        yield Case(kind, f"{name} in the folder", text(name, CODE))


def size_cases() -> Iterator[Case]:
    """Sizes without proportion, and bombs."""
    kind = "bombs and sizes"
    yield Case(kind, "alias bomb of 9^9", more_yaml(bomb(9)))
    yield Case(kind, "9 ** 9 ** 9", more_yaml("x: !ref <width> ** 9 ** 9 ** 9"))
    yield Case(kind, "30,000 levels of YAML", more_yaml("x: " + "[" * 30_000))
    for width in (10**6, 10**12):
        yield Case(kind, f"width {width}", replaced("width: 32", f"width: {width}"))
    template = "template: '{:>4000000000}'"
    change = replaced("template: This is a sound of {}.", template)
    yield Case(kind, "a template of 4 GB", change)
    config, processor = "clap/config.json", "clap/processor_config.json"
    for tower, key, value in (
        ("text_config", "vocab_size", 10**10),
        ("text_config", "hidden_size", 12 * 10**5),
        ("text_config", "num_hidden_layers", 10**6),
        ("text_config", "max_position_embeddings", 10**11),
        ("audio_config", "patch_embeds_hidden_size", 10**6),
        ("audio_config", "depths", [10**6, 2, 4]),
        ("audio_config", "spec_size", 1 << 20),
        ("audio_config", "window_size", 10**6),
    ):
        change = values(config, tower, key, value=value)
        yield Case(kind, f"config.json: {key} {value}", change)
    for key, value in (
        ("sampling_rate", 10**9),
        ("fft_window_size", 1 << 30),
        ("feature_size", 10**8),
        ("max_length_s", 10**9),
        ("hop_length", 0),
    ):
        change = values(processor, "feature_extractor", key, value=value)
        yield Case(kind, f"processor_config.json: {key} {value}", change)
    twice = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40
    bad = {"type": "Sequence", "normalizers": twice}
    change = values("clap/tokenizer.json", "normalizer", value=bad)
    yield Case(kind, "tokenizer.json: doubled 40 times", change)
    yield Case(kind, "a header of 10^18 bytes", long_header)


def number_cases() -> Iterator[Case]:
    """Numbers that do not fit one another, or make figures NaN."""
    kind = "numbers that do not fit"
    for file, keys, value in (
        ("config.json", ("text_config", "layer_norm_eps"), -1.0),
        ("config.json", ("audio_config", "layer_norm_eps"), float("nan")),
        ("config.json", ("text_config", "pad_token_id"), 10**5),
        ("config.json", ("text_config", "num_attention_heads"), 0),
        ("config.json", ("text_config", "hidden_act"), "own"),
        ("config.json", ("audio_config", "patch_stride"), [0, 0]),
        ("config.json", ("audio_config", "num_mel_bins"), 63),
        ("config.json", ("audio_config", "enable_fusion"), True),
        ("config.json", ("projection_dim",), 64),
        ("tokenizer_config.json", ("model_max_length",), -1),
        ("tokenizer_config.json", ("model_max_length",), "own"),
        ("tokenizer_config.json", ("pad_token",), "own"),
        ("tokenizer.json", ("padding", "strategy"), {"Fixed": 10**10}),
        ("tokenizer.json", ("truncation", "max_length"), 0),
        ("processor_config.json", ("feature_extractor", "frequency_min"), 15_000),
        ("processor_config.json", ("feature_extractor", "frequency_max"), float("nan")),
        ("processor_config.json", ("feature_extractor", "max_length_s"), -5),
        ("processor_config.json", ("feature_extractor", "truncation"), "own"),
        ("processor_config.json", ("feature_extractor",), [1]),
    ):
        name = f"{file}: {keys[-1]} {value}"
        yield Case(kind, name, values(f"clap/{file}", *keys, value=value))
    for line in ("compile: true", "device: own", "precision: own", "jit: true"):
        yield Case(kind, line, more_yaml(line))
    for source in ("//host/share", "../../../../etc", "/dev", "/proc/self/fd"):
        change = replaced("clap_source: clap", f"clap_source: {source}")
        yield Case(kind, f"clap_source {source}", change)


def weight_cases() -> Iterator[Case]:
    """Weights that are missing, misshapen, not finite or cut."""
    kind = "weights that are none"
    for name in ("decoder.safetensors", "clap/model.safetensors"):
        key = "draw.bias" if name[0] == "d" else "audio_projection.linear1.bias"

        def missing(tensors: dict[str, torch.Tensor], key: str = key) -> None:
            del tensors[key]

        def reshaped(tensors: dict[str, torch.Tensor], key: str = key) -> None:
            tensors[key] = tensors[key][:1].clone()

        def nan(tensors: dict[str, torch.Tensor], key: str = key) -> None:
            tensors[key][0] = torch.nan

        def infinite(tensors: dict[str, torch.Tensor], key: str = key) -> None:
            tensors[key][0] = torch.inf

        for alter in (missing, reshaped, nan, infinite):
            yield Case(kind, f"{name}: {alter.__name__}", weights(name, alter))
        yield Case(kind, f"{name}: cut", cut(name, 0.7))


def value_cases() -> Iterator[Case]:
    """Values and files that readers did not expect."""
    kind = "values that are none"
    for line in (
        *("x: !ref [width]", "x: !ref {width: 1}", "x: !!bool maybe"),
        *("x: !!int ''", "x: !!float ''", "x: !!int _"),
    ):
        yield Case(kind, line, more_yaml(line))
    for name in ("hyperparams.yaml", "interpreter.json"):
        yield Case(kind, f"{name}: a link to itself", link(name, name))
    for key, value in {
        "clap_source": f"{'a' * 5000}/b",
        "domain": 3,
        "template": "\ud800 {}",
    }.items():
        yield Case(kind, f"{key} {str(value)[:9]!a}", interpreter_json(**{key: value}))
    keys, file = ("model", "continuing_subword_prefix"), "clap/tokenizer.json"
    change = values(file, *keys, value="a" * 1000)
    yield Case(kind, "tokenizer.json: continuing_subword_prefix", change)
    yield Case(kind, "a vocabulary elsewhere", vocabulary_elsewhere)
    yield Case(kind, "a million tensors", million_names)
    for file in ("decoder.safetensors", "clap/model.safetensors"):
        yield Case(kind, f"{file}: 1 TB of holes", sparse(file, 1 << 40))

    def infinite_scale(tensors: dict[str, torch.Tensor]) -> None:
        tensors["logit_scale_a"] = torch.tensor(1000.0)

    change = weights("clap/model.safetensors", infinite_scale)
    yield Case(kind, "clap/model.safetensors: an infinite scale", change)


def cases() -> list[Case]:
    """All of them; those of a CLAP once more as a CLAP without a decoder."""
    kinds = (
        *(yaml_cases, json_cases, file_cases, pickle_cases, clap_cases),
        *(size_cases, number_cases, weight_cases, value_cases),
    )
    found = [case for kind in kinds for case in kind()]
    of_clap = ("clap/", "config.json:", "tokenizer.json:")
    again = [
        replace(case, name=f"{case.name}, by from_clap", by_clap=True)
        for case in found
        if any(part in case.name for part in of_clap)
    ]
    return found + again


# --- trying them --------------------------------------------------------------------


def make_base(folder: Path) -> Path:
    """A model folder without harm, of which the others are copies."""
    shutil.copytree(default_source(), folder)
    shutil.copytree(default_source().with_name("clap_small"), folder / "clap")
    (folder / "interpreter.json").unlink(missing_ok=True)
    (folder / "hyperparams.yaml").write_text(YAML)
    if not (folder / "decoder.safetensors").exists():  # of an older version
        state = torch.load(folder / "decoder.ckpt", weights_only=True)
        save_file(state, folder / "decoder.safetensors")
    elif not (folder / "decoder.ckpt").exists():
        torch.save(load_file(folder / "decoder.safetensors"), folder / "decoder.ckpt")
    return folder


def attempt(case: Case, folder: Path, answer: int) -> None:
    """In a process of its own: load, and write how it ended."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as if the user worked in it
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    end, sentence = "loaded", ""
    try:
        if case.by_clap:
            ZeroShotInterpreter.from_clap(folder / "clap", run_opts={"device": "cpu"})
        else:
            ZeroShotInterpreter.from_hparams(
                folder, overrides=case.overrides, run_opts={"device": "cpu"}
            )
    except (LmaczsError, FileNotFoundError) as error:
        end, sentence = "refused", str(error)
    except BaseException as error:
        end, sentence = "error", f"{type(error).__name__}: {error}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"end": end, "sentence": sentence[:500], "mib": (peak - before) / 1024}
    os.write(answer, json.dumps(found).encode())


def tried(case: Case, base: Path, place: Path) -> Outcome:
    """Make the folder, load it in a child, and say what that did."""
    folder, canary = place / "model", place / "canary"
    shutil.copytree(base, folder, copy_function=os.link)
    case.change(folder)
    os.environ["CANARY"] = str(canary)
    reading, writing = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            attempt(case, folder, writing)
        finally:
            os._exit(0)
    os.close(writing)
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        if time.monotonic() - start > KILLED:
            os.kill(child, signal.SIGKILL)
            ended = os.wait4(child, 0)
            break
        time.sleep(0.01)
    seconds = ended[2].ru_utime + ended[2].ru_stime
    with os.fdopen(reading) as file:
        found = json.loads(file.read() or '{"end": "killed", "sentence": "", "mib": 0}')
    ran = canary.exists()
    shutil.rmtree(place)
    return Outcome(case, ran=ran, seconds=seconds, **found)


def try_all(chosen: list[Case], show: bool = False) -> list[Outcome]:
    """Outcomes of cases, in their order."""
    found = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        base = make_base(Path(name) / "base")
        for number, case in enumerate(chosen):
            place = Path(name) / str(number)
            place.mkdir()
            found.append(tried(case, base, place))
            if show:
                one = found[-1]
                print(
                    f"{'ok ' if one.is_safe else 'BAD'} {one.end:8}{one.seconds:6.2f} s"
                    f"{one.mib:7.0f} MiB  {case.kind}: {case.name}"
                    f"{'  CODE RAN' if one.ran else ''}  {one.sentence[:150]!r}"
                )
    return found


# --- the table ----------------------------------------------------------------------

BEFORE = {
    "hyperparams.yaml names code": "37 loaded, 4 tracebacks; code ran in 35",
    "hyperparams.yaml names code in place of a part": (
        "1 loaded, 5 tracebacks; code ran in 4"
    ),
    "interpreter.json": "there was no such file",
    "overrides": "2 tracebacks",
    "links, pipes, devices, sizes": (
        "36 refused, 8 loaded, 4 tracebacks, 1 killed after 20 s"
    ),
    "pickles": "4 refused, 2 loaded without them, 1 traceback; code ran in 0",
    "a CLAP names code": "2 refused, 21 loaded without it; code ran in 0",
    "bombs and sizes": (
        "14 refused, 8 loaded, 5 tracebacks, 8 killed after 20 s; up to 2.9 GB"
    ),
    "numbers that do not fit": "24 refused, 16 loaded, 6 tracebacks",
    "weights that are none": "12 refused, 2 loaded, 1 traceback",
    "values that are none": (
        "3 refused, 4 loaded, 12 tracebacks, 1 killed after 20 s; up to 1,055 MiB"
    ),
}
"""What this script measured at commit 749d64a, which read no interpreter.json and no
decoder.safetensors, but decoder.ckpt; the last kind at 6523a58."""


def summary(found: list[Outcome]) -> str:
    """What became of the folders of one kind, in a phrase."""
    ends = {
        end: [one.end for one in found].count(end) for end in (*SAFE, "error", "killed")
    }
    parts = [f"{count} {end}" for end, count in ends.items() if count]
    ran = sum(one.ran for one in found)
    slowest, largest = max(o.seconds for o in found), max(o.mib for o in found)
    return (
        f"{', '.join(parts)}; code ran in {ran}; at most {slowest:.1f} s of a "
        f"processor and {largest:.0f} MiB"
    )


def rows(found: list[Outcome]) -> list[dict[str, Any]]:
    """A row for each kind, for the table of faults."""
    kinds = list(dict.fromkeys(one.case.kind for one in found))
    table = []
    for kind in kinds:
        own = [one for one in found if one.case.kind == kind]
        names = ", ".join(one.case.name for one in own[:3])
        table.append(
            {
                "fault": f"a stranger's model: {kind}",
                "how": f"from_hparams on a folder with {names}, ...",
                "tried": len(own),
                "before": BEFORE.get(kind, "not measured"),
                "now": summary(own),
            }
        )
    return table


def main() -> None:
    """Try all, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the table is written")
    text = "only kinds and names with this in them, a regular expression"
    parser.add_argument("--only", default="", metavar="WORDS", help=text)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [one for one in cases() if re.search(args.only, f"{one.kind}: {one.name}")]
    found = try_all(chosen, show=True)
    table = rows(found)
    for row in table:
        print(f"{row['fault']} ({row['tried']}): {row['now']}")
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    unsafe = [one for one in found if not one.is_safe]
    print(f"{len(found)} folders, {len(unsafe)} unsafe")
    sys.exit(bool(unsafe))


if __name__ == "__main__":
    main()
