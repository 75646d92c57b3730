"""The wheel is complete, and works where there is no checkout."""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lmaczs

ROOT = Path(__file__).parents[2]
# In the checkout, and where it lies in a wheel.
FOLDERS = {
    "lmaczs": "lmaczs",
    "pretrained": "lmaczs/pretrained",
    "hparams": "lmaczs/hparams",
    "recipes": "lmaczs/recipes",
}

# What `lmaczs` on the command line does; see the entry point's own test.
COMMAND = "import sys; from lmaczs.cli import main; sys.exit(main(['--help']))"

INTERPRET = """
import torch
from lmaczs import ZeroShotInterpreter
interpreter = ZeroShotInterpreter.from_hparams()
(explanation,) = interpreter.interpret_batch(torch.randn(1, 16000), "rain")
print(explanation.prompt, len(explanation.waveform))
"""


def files_below(folder: Path) -> set[str]:
    """Return what belongs to `folder`, relative to it: no hidden file, no bytecode."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in paths
        if "__pycache__" not in path.parts
        and not any(part.startswith(".") for part in path.parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that no old build leaks in."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ["setup.cfg", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, source)
    options = ["--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "."],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = source.glob("lmaczs-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel, as an installer would, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def metadata(installed: Path) -> Message:
    """Read the wheel's METADATA."""
    (path,) = installed.glob("lmaczs-*.dist-info/METADATA")
    return email.message_from_string(path.read_text(encoding="utf-8"))


def run_installed(code: str, installed: Path, cwd: Path) -> str:
    """Run `code` in `cwd` with the unpacked wheel and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wheel_holds_every_file_and_no_other(installed: Path) -> None:
    """Library and embedded default are in the wheel, byte for byte."""
    sources = {
        f"{inside}/{name}": ROOT / folder / name
        for folder, inside in FOLDERS.items()
        for name in files_below(ROOT / folder)
    }
    packed = {f"lmaczs/{name}" for name in files_below(installed / "lmaczs")}
    assert packed == sources.keys()
    for name, source in sources.items():
        assert (installed / name).read_bytes() == source.read_bytes(), name


def test_wheel_has_the_default_decoder_and_its_clap(installed: Path) -> None:
    """Without these two files the embedded default does not load."""
    pretrained = files_below(installed / "lmaczs" / "pretrained")
    assert {"lmaczs_small/hyperparams.yaml", "clap_small/config.json"} <= pretrained


def test_wheel_installs_nothing_but_the_package(installed: Path) -> None:
    """No top-level tests, recipes or pretrained end up in site-packages."""
    (dist_info,) = installed.glob("lmaczs-*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"lmaczs", dist_info.name}


def test_wheel_has_the_parts_of_the_page(installed: Path) -> None:
    """Template, style and script lie beside the code that fills them in."""
    for name in ("page.html.j2", "notebook.html.j2", "page.css", "page.js"):
        assert (installed / "lmaczs" / "report" / name).is_file()


def test_wheel_names_the_console_script(installed: Path) -> None:
    """`lmaczs` is a command, and it is cli.main."""
    (path,) = installed.glob("lmaczs-*.dist-info/entry_points.txt")
    assert path.read_text().split() == [
        "[console_scripts]",
        *["lmaczs", "=", "lmaczs.cli:main"],
    ]


def test_torch_and_torchaudio_are_required_as_a_pair(metadata: Message) -> None:
    """Different releases of the two do not load together."""
    required = map(Requirement, metadata.get_all("Requires-Dist", []))
    ranges = {one.name: one.specifier for one in required if one.marker is None}
    assert ranges["torch"] == ranges["torchaudio"]
    assert "2.11.0" in ranges["torch"]
    assert "2.12.0" not in ranges["torch"]


def test_version_is_stated_alike_everywhere(metadata: Message) -> None:
    """Wheel, module, citation and the newest heading of the changelog agree."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    stated = [
        metadata["Version"],
        *re.findall(r"^version: (\S+)$", citation, re.MULTILINE),
        re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0],
    ]
    assert stated == [lmaczs.__version__] * 3


def test_installed_wheel_finds_its_own_default(installed: Path, tmp_path: Path) -> None:
    """From an empty folder, default_source is inside the installed package."""
    code = "import lmaczs; print(lmaczs.default_source())"
    found = run_installed(code, installed, cwd=tmp_path)
    assert Path(found) == installed / "lmaczs" / "pretrained" / "lmaczs_small"


@pytest.mark.slow
def test_installed_wheel_interprets(installed: Path, tmp_path: Path) -> None:
    """From an empty folder, without a network, the embedded default explains a clip."""
    found = run_installed(INTERPRET, installed, cwd=tmp_path)
    assert found.endswith("rain 16000")
    assert list(tmp_path.iterdir()) == []


def test_installed_command_prints_its_help(installed: Path, tmp_path: Path) -> None:
    """From an empty folder, the command names what it can do."""
    found = run_installed(COMMAND, installed, cwd=tmp_path)
    for command in ["interpret", "classify", "demo", "doctor", "export", "adapt"]:
        assert command in found


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train", "finetune", "--manifest=missing.csv"],
        ["evaluate", "evaluate", "--data_folder=missing"],
    ],
)
def test_installed_recipes_run(
    words: list[str], installed: Path, tmp_path: Path
) -> None:
    """They and their YAMLs are in the package; what they miss is the user's data."""
    done = subprocess.run(
        [sys.executable, "-m", "lmaczs.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{words[0]}.py: ") and "missing" in line


def test_checkout_finds_the_default_at_its_top() -> None:
    """In a checkout or an editable install there is one copy of the default."""
    assert lmaczs.default_source() == ROOT / "pretrained" / "lmaczs_small"


def test_import_leaves_torch_alone(tmp_path: Path) -> None:
    """`import lmaczs` is cheap: what takes seconds to import waits for its use."""
    code = "import sys, lmaczs; print({'torch', 'transformers'} & set(sys.modules))"
    assert run_installed(code, ROOT, cwd=tmp_path) == "set()"


def test_interpreter_is_imported_without_collections_and_tables(tmp_path: Path) -> None:
    """What takes a second of five is avoided: full collections; pandas comes later."""
    code = (
        "import gc, sys; found = []\n"
        "gc.callbacks.append(lambda phase, info: found.append(info['generation']))\n"
        "from lmaczs import ZeroShotInterpreter\n"
        "print(found.count(2), 'pandas' in sys.modules, gc.isenabled())"
    )
    assert run_installed(code, ROOT, cwd=tmp_path) == "0 False True"


def test_public_names_resolve() -> None:
    """Every public name is there, listed by dir, and the object that its module has."""
    from lmaczs import interpreter
    from lmaczs.audio import io as audio

    assert set(lmaczs.__all__) <= set(dir(lmaczs))
    assert lmaczs.AudioError is audio.AudioError
    assert lmaczs.Interpretation is interpreter.Interpretation
    assert lmaczs.ZeroShotInterpreter is interpreter.ZeroShotInterpreter


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as it does for any module."""
    with pytest.raises(AttributeError, match="lmaczs.*Interpreterr"):
        lmaczs.Interpreterr  # noqa: B018
