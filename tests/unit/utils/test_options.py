import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lmaczs.utils import options
from lmaczs.utils.errors import OptionError
from lmaczs.utils.options import (
    check_options,
    load_hparams,
    load_part,
    parse_options,
    plain_values,
)

YAML_TEXT = """
seed: 1
data_folder: !PLACEHOLDER
number_of_epochs: 3
optimizer: !name:torch.optim.Adam
    lr: 0.1
weights:
    lmaczs: {sparsity: 1}
"""


@pytest.fixture
def hparams(tmp_path: Path) -> str:
    """Write a YAML with what YAMLs of recipes hold."""
    path = tmp_path / "recipe.yaml"
    path.write_text(YAML_TEXT)
    return str(path)


def test_keys_and_run_options_are_accepted(hparams: str) -> None:
    """Keys of the YAML, whole nested values and SpeechBrain's own options pass."""
    weights = "--weights={lmaczs: {sparsity: 3}}"
    words = ["--data_folder=x", "--seed", "2", weights, "--device", "cpu", "--debug"]
    file, run_opts, overrides = parse_options([hparams, *words])
    assert file == hparams
    assert run_opts.debug
    assert run_opts.device == "cpu"
    given = YAML(typ="safe").load(overrides)
    assert given["seed"] == 2
    assert given["weights"] == {"lmaczs": {"sparsity": 3}}


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["--number_of_epoch=1"], "did you mean --number_of_epochs?"),
        (["--sparsity=3"], "--weights='{lmaczs: {sparsity: VALUE}}'"),
        (["--weights.lmaczs.sparsity=3"], "--weights='{lmaczs: {sparsity: VALUE}}'"),
        (["--lr", "3"], "--optimizer='{lr: VALUE}'"),
        (["--nothing_like_it=3"], "the file lists what there is"),
        (["--seed=1", "--seed=2"], "each option once"),
        (["--seed=a: b"], "--seed=a: b: give a number"),
        (["stray"], "write --KEY=VALUE"),
        (["--opt=3"], "--optimizer_step_limit"),
        (["--dev", "cpu"], "--device"),
        (["--seed=a=b"], "--seed=a=b: give a number"),
        (["--weights=[a #1]"], "'#1' begins a comment"),
        (["--number_of_epochs"], "--number_of_epochs=VALUE"),
        (["--max_grad_norm=-1"], "--max_grad_norm=1e9"),
    ],
)
def test_mistyped_options_get_one_sentence(
    hparams: str, words: list[str], fix: str
) -> None:
    """What the YAML has no place for or SpeechBrain misreads is named with its fix."""
    with pytest.raises(OptionError, match=re.escape(fix)) as caught:
        parse_options([hparams, *words, "--data_folder=x"])
    assert "\n" not in str(caught.value)


def test_plain_values_are_the_yamls_with_its_overrides(hparams: str) -> None:
    """Nothing is built; a nested override keeps what stands beside it."""
    values = plain_values(hparams, "seed: 2\noptimizer: {momentum: 0.5}")
    assert values["seed"] == 2
    assert values["number_of_epochs"] == 3
    assert dict(values["optimizer"]) == {"lr": 0.1, "momentum": 0.5}
    assert plain_values(hparams)["seed"] == 1


def test_missing_value_is_named(hparams: str) -> None:
    """A key that the YAML leaves open is named when it is not given."""
    with pytest.raises(OptionError, match="--data_folder=VALUE"):
        parse_options([hparams])


def test_renamed_key_names_its_new_name(
    hparams: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A former name is refused with the present one, where the YAML has that."""
    monkeypatch.setitem(options.RENAMED, "chance", "seed")
    with pytest.raises(OptionError, match="--chance is now called --seed"):
        check_options(hparams, "chance: 3\ndata_folder: x")
    monkeypatch.setitem(options.RENAMED, "terms", "weights")
    with pytest.raises(OptionError, match="--weights='{lmaczs: VALUE}'"):
        check_options(hparams, "terms.lmaczs: 3\ndata_folder: x")


@pytest.mark.parametrize("content", [None, b"[1, 2]", b"a: b: c", b"\xff\xfe\x00"])
def test_bad_yaml_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    """A file that is missing, is no YAML or holds no keys is named."""
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=re.escape(str(path))):
        check_options(path)


@pytest.mark.parametrize("name", ["cuda:97", "nonsense"])
def test_a_device_that_is_not_there_is_one_sentence(hparams: str, name: str) -> None:
    """Before anything is loaded."""
    given = [hparams, "--data_folder=DIR"]
    with pytest.raises(OptionError, match=f"--device={name} .*doctor") as caught:
        parse_options([*given, f"--device={name}"])
    assert "\n" not in str(caught.value)
    assert parse_options([*given, "--device=cpu"])[1].device == "cpu"


def test_step_limit_is_a_number(hparams: str) -> None:
    """SpeechBrain's step limit arrives as a number that steps can be compared with."""
    words = ["--data_folder=x", "--optimizer_step_limit=3"]
    _, run_opts, _ = parse_options([hparams, *words])
    assert run_opts.optimizer_step_limit == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mixture_share", "--mixing='{mix_prob: VALUE}'"),
        ("gain_db", "--mixing='{max_attenuation_db: VALUE}'"),
        ("speed_share", "--augment='{speed_prob: VALUE}'"),
        ("predicted_share", "--predicted_prob"),
        ("disturb", "--augment"),
        ("dataloader", "--train_dataloader_opts"),
    ],
)
def test_former_names_are_refused_with_the_new_one(old: str, new: str) -> None:
    """Also where the key is now inside another one."""
    file = Path(__file__).parents[3] / "hparams/esc50.yaml"
    with pytest.raises(OptionError) as refusal:
        check_options(file, f"{old}: 0")
    assert f"--{old} is " in str(refusal.value)
    assert str(refusal.value).endswith(new)


def test_a_part_of_a_yaml_is_built_alone(tmp_path: Path) -> None:
    """With what it refers to and the overrides; the rest is not made."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "folder: !PLACEHOLDER\n"
        "size: 3\n"
        "table: !name:builtins.dict\n    folder: !ref <folder>\n    n: !ref <size>\n"
        "model: !apply:builtins.open [!ref <folder>]\n"
    )
    part = load_part(file, "folder: nowhere", ["table", "other"])
    assert part["table"]() == {"folder": "nowhere", "n": 3}
    assert "model" not in part


def test_a_mapping_replaces_a_single_value(tmp_path: Path) -> None:
    """Within a mapping the other values stay; references see what was given."""
    file = tmp_path / "recipe.yaml"
    file.write_text("level: 3\nagain: !ref <level>\nweights: {a: 1, b: 2}\n")
    found = load_hparams(file, "level: {noise: 6}\nweights: {b: 3}")
    assert found["level"] == found["again"] == {"noise": 6}
    assert found["weights"] == {"a": 1, "b": 3}
    assert load_hparams(file) == {"level": 3, "again": 3, "weights": {"a": 1, "b": 2}}


def test_names_with_blanks_are_read_whatever_their_length(tmp_path: Path) -> None:
    """Rows of several words, as `--decoders` has them, beyond the width of a line."""
    path = tmp_path / "recipe.yaml"
    path.write_text("decoders: null\nother: {a: [1, {b: 2}], c: {}}\n")
    names = [f"a decoder of the kind number {n} of the data" for n in range(12)]
    value = "{" + ", ".join(f"{name}: [DIR {name}, x]" for name in names) + "}"
    found = load_hparams(path, f"decoders: {value}")
    assert found["decoders"] == {name: [f"DIR {name}", "x"] for name in names}
    assert found["other"] == {"a": [1, {"b": 2}], "c": {}}


def test_a_yaml_is_built_in_its_order(tmp_path: Path) -> None:
    """As by load_hyperpyyaml, so that a seed may come before what it is for."""
    file = tmp_path / "recipe.yaml"
    lines = ["count: !new:itertools.count", "z: !apply:next [!ref <count>]"]
    file.write_text("\n".join([*lines, "a: !apply:next [!ref <count>]", "n: 1", ""]))
    found = load_hparams(file, "n: 2")
    assert (found["z"], found["a"], found["n"]) == (0, 1, 2)


def test_no_argument_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The usage is shown, as by any command that lacks its first argument."""
    with pytest.raises(SystemExit) as end:
        parse_options([])
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err
