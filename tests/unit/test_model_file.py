"""What a folder says of its model is read, whoever wrote it; nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmaczs.model_file import ForeignCodeError, read_model_file
from lmaczs.training.export import inference_yaml
from lmaczs.utils.errors import InputError

YAML = inference_yaml("clap", "tiny", "stft", 8, "I hear {}.")
JSON = {
    "clap_source": "clap",
    "model_name": "tiny",
    "domain": "stft",
    "width": 8,
    "template": "I hear {}.",
    "decoder": "lmaczs.decoder.MaskDecoder",
}
LAST = YAML.count("\n") + 1

RUNS = {
    "new": "x: !new:subprocess.Popen [touch CANARY]",
    "name": "x: !name:os.system",
    "apply": "x: !apply:os.system [touch CANARY]",
    "applyref": "x: !applyref:os.system [touch CANARY]",
    "module": "x: !module:antigravity",
    "include": "x: !include:other.yaml",
    "python": "x: !!python/object/apply:os.system [touch CANARY]",
    "python name": "x: !!python/name:os.system",
    "verbatim": "x: !<!new:os.system> []",
    "escaped": "x: !new:os%2Esystem []",
    "nested": "x: [{y: [!apply:os.system [touch CANARY]]}]",
    "in a key": "? !apply:os.system [touch CANARY]\n: 1",
    "copy": "x: !copy <clap>",
    "arithmetic": "x: !ref <width> ** 9",
    "attribute": "x: !ref <clap.__class__>",
    "part": "x: !ref <modules[clap]>",
    "placeholder": "x: !PLACEHOLDER",
    "tuple": "x: !tuple (1, 2)",
    "alias": "x: &a [1]\ny: *a",
    "reference to a list": "x: !ref [width]",
    "reference to a mapping": "x: !ref {width: 1}",
    "ours, but no export's": "x: !apply:lmaczs.training.export.export_run [a, b]",
}


def write(folder: Path, text: str = YAML, values: object = None) -> Path:
    """A folder with hyperparams.yaml and, if there are values, interpreter.json."""
    (folder / "hyperparams.yaml").write_text(text)
    if values is not None:
        (folder / "interpreter.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("values", [None, JSON])
def test_what_an_export_says_is_read(values: object, tmp_path: Path) -> None:
    """The same of both files: plain values, the class, and its arguments."""
    found = read_model_file(write(tmp_path, values=values))
    assert found.decoder == "lmaczs.decoder.MaskDecoder"
    assert found.arguments == {"domain": "stft", "width": 8}
    expected = {k: v for k, v in JSON.items() if k != "decoder"}
    assert found.values == {**expected, "source_folder": "."}


@pytest.mark.parametrize("line", RUNS.values(), ids=list(RUNS))
def test_what_exports_do_not_name_is_refused_with_its_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside interpreter.json, which alone would be read first."""
    monkeypatch.chdir(tmp_path)
    for values in (None, JSON):
        with pytest.raises(ForeignCodeError) as refused:
            read_model_file(write(tmp_path, f"{YAML}{line}\n", values))
        message = str(refused.value)
        assert f"hyperparams.yaml, line {LAST}: " in message
        assert "--trust-remote-code" in message and "\n" not in message
    assert not (tmp_path / "CANARY").exists()


def test_a_tag_by_another_name_is_the_tag(tmp_path: Path) -> None:
    """A %TAG directive hides nothing."""
    text = f"%TAG !e! !new:subprocess.\n---\n{YAML}x: !e!Popen [ls]\n"
    with pytest.raises(ForeignCodeError, match="line 24: !new:subprocess.Popen is"):
        read_model_file(write(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("MaskDecoder", "FiLMBlock", "!new:lmaczs.decoder.FiLMBlock"),
        ("    relative_to", "    cached_prompts: 9\n    relative_to", "cached_prompts"),
        ("    custom_hooks", "    paths: {a: /x}\n    custom_hooks", "pretrainer"),
        ("        decoder: !ref", "        other: !ref", "pretrainer"),
        ("    decoder: !ref <decoder>\np", "    decoder: !ref <clap>\np", "module"),
        ("width: !ref <width>", "width: !ref <decoder>", "width of !new:"),
    ],
)
def test_what_exports_name_is_used_as_they_use_it(
    old: str, new: str, reason: str, tmp_path: Path
) -> None:
    """An allowed name with other arguments or in another place is refused."""
    assert old in YAML
    with pytest.raises(ForeignCodeError, match=reason):
        read_model_file(write(tmp_path, YAML.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no mapping"),
        ("- 1\n", "holds no mapping"),
        (YAML + "width: 9\n", f"line {LAST}: 'width' twice"),
        (YAML + "x: {<<: {a: 1}}\n", "'<<' is to be quoted"),
        (YAML + "x: 2026-11-25\n", "'2026-11-25' is to be quoted"),
        (YAML + "x: !ref <x>\n", "references without an end"),
        (YAML + "x: !ref <gone>\n", "there is no 'gone'"),
        (YAML + "x: " + "[" * 99 + "]" * 99, "nested too deeply"),
        (YAML + "x: " + "1" * 5000, f"line {LAST}: '1{{40}}' is no int"),
        (YAML + "x: !!bool maybe\n", f"line {LAST}: 'maybe' is no bool"),
        (YAML + "x: !!int ''\n", f"line {LAST}: '' is no int"),
        (YAML + "x: !!float _\n", f"line {LAST}: '_' is no float"),
        (YAML + "x: {\n", "is damaged"),
        (YAML + "x: \0\n", "is damaged"),
        (YAML + "#" * 70_000, "has .* bytes"),
        (YAML.replace("template: ", "other: "), "names no template"),
        (YAML.replace("template: I hear", "template: 3 #"), "names no template"),
        (YAML.replace("model_name: tiny", 'model_name: "a\\eb"'), "one line of text"),
        (YAML.replace("clap_source: clap", 'clap_source: "a\\eb"'), "one line of text"),
    ],
)
def test_damage_is_one_sentence(text: str, reason: str, tmp_path: Path) -> None:
    """It names the file, and the line where there is one."""
    with pytest.raises(InputError, match=reason) as refused:
        read_model_file(write(tmp_path, text))
    assert "\n" not in str(refused.value) and "hyperparams.yaml" in str(refused.value)


@pytest.mark.parametrize("values", [None, JSON])
def test_values_can_be_replaced(values: object, tmp_path: Path) -> None:
    """A width is the decoder's, too; nothing that is built can be, nor a new name."""
    folder = write(tmp_path, values=values)
    found = read_model_file(folder, {"width": 16, "clap_source": Path("b")})
    assert found.arguments["width"] == found.values["width"] == 16
    assert found.values["clap_source"] == "b"
    for name in ("clap", "no_such_key"):
        with pytest.raises(InputError, match=f"no value '{name}'"):
            read_model_file(folder, {name: "x"})


@pytest.mark.parametrize("given", ["width: !apply:os.getpid", {"width": print}])
def test_overrides_are_values(given: object, tmp_path: Path) -> None:
    """A YAML text, or an object, is refused."""
    with pytest.raises(InputError, match="overrides"):
        read_model_file(write(tmp_path), given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 16}, "arguments is .* in interpreter.json and .* in hyperparams"),
        ({"template": "{}"}, "template is '{}' in interpreter.json and 'I hear {}.'"),
        ({"decoder": "lmaczs.paper_decoder.PaperDecoder"}, "decoder is"),
        ({"decoder": "subprocess.Popen"}, "'subprocess.Popen' is none of what"),
        ({"arguments": {"width": [1]}}, "no mapping of numbers"),
        ({"arguments": 3}, "no mapping of numbers"),
    ],
)
def test_two_files_that_differ_are_refused(
    change: dict, reason: str, tmp_path: Path
) -> None:
    """What they differ in is named; nothing else than exports name is built."""
    with pytest.raises(InputError, match=reason):
        read_model_file(write(tmp_path, values={**JSON, **change}))


def test_a_folder_without_either_file(tmp_path: Path) -> None:
    """The sentence says what writes one."""
    with pytest.raises(FileNotFoundError, match="lmaczs export"):
        read_model_file(tmp_path)
