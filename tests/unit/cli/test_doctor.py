"""Properties of the doctor: it passes what works, and explains what is broken."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import lmaczs
from lmaczs.clap import FrozenClap
from lmaczs.cli.doctor import Check, build_of, diagnose_pair, examine
from lmaczs.decoder import MaskDecoder
from lmaczs.training.export import inference_yaml
from lmaczs.utils.extras import pip

TEMPLATE = "This is a sound of {}."
# Requirements of lmaczs in the broken installation.
METADATA = """\
Metadata-Version: 2.1
Name: lmaczs
Version: 0.0.1
Requires-Dist: torch
Requires-Dist: torchaudio>=2
Requires-Dist: transformers
Requires-Dist: speechbrain
Requires-Dist: pandas>=2.2
Requires-Dist: soundfile>=0.13
Requires-Dist: no-such-package>=7
Requires-Dist: quantus; extra == "eval"
"""
BROKEN_TORCHAUDIO = "raise OSError('libc10_cuda.so: cannot open shared object file')"
OLD_SOUNDFILE = """
__libsndfile_version__ = "1.0.28"
def available_formats():
    return {"WAV": "WAV", "FLAC": "FLAC", "OGG": "OGG", "AIFF": "AIFF"}
"""


@pytest.fixture(scope="module")
def model(
    tiny_clap: FrozenClap,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Model folder with a random decoder."""
    folder = tmp_path_factory.mktemp("model")
    save_file(
        MaskDecoder(tiny_clap, width=8).state_dict(), folder / "decoder.safetensors"
    )
    text = inference_yaml(str(tiny_clap_folder), "tiny", "stft", 8, TEMPLATE)
    (folder / "hyperparams.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def broken_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that shadow the real ones: broken, too old, or wanted and not there."""
    folder = tmp_path_factory.mktemp("site-packages")
    files = {
        "lmaczs-0.0.1.dist-info/METADATA": METADATA,
        "pandas-0.1.dist-info/METADATA": "Name: pandas\nVersion: 0.1\n",
        "torchaudio/__init__.py": BROKEN_TORCHAUDIO,
        "torchaudio/version.py": "__version__ = '2.11.0+cu999'",
        "soundfile.py": OLD_SOUNDFILE,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def by_subject(checks: list[Check]) -> dict[str, Check]:
    """Checks by what they are about, each subject once."""
    found = {check.subject: check for check in checks}
    assert len(found) == len(checks)
    return found


@pytest.fixture(scope="module")
def healthy(model: Path) -> dict[str, Check]:
    """Checks of this installation with a model that works."""
    return by_subject(examine(model))


@pytest.fixture(scope="module")
def broken(broken_packages: Path, model: Path) -> dict[str, Check]:
    """Checks of the broken installation with the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(broken_packages)
        return by_subject(examine(model))


@pytest.mark.slow
def test_installation_that_works_needs_no_fix(healthy: dict[str, Check]) -> None:
    """Where the tests run nothing is wrong, so nothing may be called wrong."""
    assert [check for check in healthy.values() if check.fix] == []


@pytest.mark.slow
def test_versions_are_those_installed(healthy: dict[str, Check]) -> None:
    """Every requirement that is no extra is listed with its version."""
    lines = [line for line in metadata.requires("lmaczs") if "extra ==" not in line]
    names = {re.match(r"[\w.-]+", line).group() for line in lines}
    assert {name: healthy[name].finding for name in names} == {
        name: metadata.version(name) for name in names
    }
    assert not {"pytest", "ruff"} & healthy.keys()
    assert healthy["lmaczs"].finding == (
        f"{lmaczs.__version__} in {Path(lmaczs.__file__).parent}"
    )


@pytest.mark.slow
def test_pair_devices_and_formats_are_named(healthy: dict[str, Check]) -> None:
    """Builds with their variant, the CPU at least, the formats that are promised."""
    assert f"torch {torch.__version__}, " in healthy["torch and torchaudio"].finding
    assert healthy["devices"].finding.startswith("cpu (")
    assert healthy["sound formats"].finding.startswith("WAV, FLAC, OGG, MP3, AIFF")


@pytest.mark.slow
def test_model_is_loaded_and_measured(
    healthy: dict[str, Check], tiny_clap: FrozenClap, model: Path
) -> None:
    """Where it is, seconds, and the spread of its text embeddings."""
    pattern = r"loads in \d+\.\d s and interprets 1 s of sound in \d+\.\d\d s"
    finding = healthy["--source"].finding
    assert finding.startswith(str(model))
    assert re.search(pattern, finding)
    assert finding.endswith(f"unrelated prompts {tiny_clap.text_spread:.2f}")


@pytest.mark.slow
def test_broken_torchaudio_is_explained(broken: dict[str, Check]) -> None:
    """The error, the two builds and a command that installs both are given."""
    assert "OSError: libc10_cuda.so" in broken["torchaudio"].finding
    pair = broken["torch and torchaudio"]
    assert f"torch {torch.__version__}, torchaudio 2.11.0+cu999: " in pair.finding
    assert "torchaudio for CUDA 99.9" in pair.finding
    assert 'pip install "torch" "torchaudio>=2"' in pair.fix


@pytest.mark.slow
def test_what_breaks_with_torchaudio_points_to_it(broken: dict[str, Check]) -> None:
    """Packages that import it are not to be installed again for its sake."""
    for name in ("transformers", "speechbrain"):
        assert "cannot be imported: " in broken[name].finding
        assert broken[name].fix == "fix torchaudio first"
    assert broken["torch"].fix == ""
    assert "libc10_cuda.so" in broken["--source"].finding


@pytest.mark.slow
def test_version_and_absence_are_compared_with_the_requirements(
    broken: dict[str, Check],
) -> None:
    """Too old and not installed are distinguished, each with its command."""
    assert broken["pandas"] == Check(
        "pandas", "0.1, but pandas>=2.2 is needed", pip('install "pandas>=2.2"')
    )
    assert broken["no-such-package"] == Check(
        "no-such-package",
        "not installed, no-such-package>=7 is needed",
        pip('install "no-such-package>=7"'),
    )


@pytest.mark.slow
def test_format_that_libsndfile_lacks_is_named(broken: dict[str, Check]) -> None:
    """An old libsndfile reads no MP3."""
    check = broken["sound formats"]
    assert check.finding == "libsndfile 1.0.28 does not read MP3"
    assert check.fix == pip('install --force-reinstall "soundfile>=0.13"')


@pytest.mark.parametrize(
    ("torch_build", "torchaudio_build", "reason"),
    [
        (
            "2.11.0+cpu",
            "2.11.0+cu130",
            "built for the CPU alone, torchaudio for CUDA 13.0",
        ),
        (
            "2.15.0+cu132",
            "2.11.0+cu130",
            "built for CUDA 13.2, torchaudio for CUDA 13.0",
        ),
        ("2.11.0+rocm6.4", "2.11.0+cpu", "built for rocm6.4, torchaudio for the CPU"),
        ("2.13.0", "2.11.0", "torchaudio cannot be imported beside this torch"),
        ("2.13.0+cu130", "2.11.0+cu130", "cannot be imported beside this torch"),
    ],
)
def test_pair_that_fails_is_told_by_its_variants(
    torch_build: str, torchaudio_build: str, reason: str
) -> None:
    """Where the variants differ they are the reason."""
    error = "RuntimeError: compiled with different CUDA versions"
    check = diagnose_pair(torch_build, torchaudio_build, error)
    assert reason in check.finding
    assert "pip uninstall -y torch torchaudio" in check.fix
    assert re.search(
        r'pip install "torch[<>=][^ ]*" "torchaudio[<>=][^ ]*"$', check.fix
    )


def test_a_kernel_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook what was imported stays; elsewhere there is no kernel."""
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    pair = "2.13.0", "2.11.0", "RuntimeError"
    assert "kernel" not in diagnose_pair(*pair).fix
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20261101")
    assert "restart the kernel" in diagnose_pair(*pair).fix


def test_conda_removes_what_conda_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip leaves conda's packages where they are."""
    pair = "2.13.0", "2.11.0", "RuntimeError"
    assert "conda remove" not in diagnose_pair(*pair).fix
    info = tmp_path / "torch-2.13.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: torch\nVersion: 2.13.0\n")
    (info / "INSTALLER").write_text("conda\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "remove both (conda remove pytorch torchaudio, " in diagnose_pair(*pair).fix


def test_pair_that_imports_is_fine_whatever_its_variants() -> None:
    """What works is not wrong: torchaudio 2.11.1 accepts other minor versions."""
    assert diagnose_pair("2.12.0+cu132", "2.11.1+cu130", "").fix == ""


def test_pair_of_which_one_is_missing_is_wrong() -> None:
    """Both are needed."""
    check = diagnose_pair("2.11.0", None, "ModuleNotFoundError")
    assert check.finding == "not both are installed"
    assert check.fix.startswith(pip("install "))


def test_build_has_the_variant_and_needs_no_import() -> None:
    """As the package itself says; nothing for what is not installed."""
    assert build_of("torch") == torch.__version__
    assert build_of("no_such_package") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("damaged", "hyperparams.yaml"),
        ("nobody/nothing", "the Hub gives no repository"),
    ],
)
def test_model_that_does_not_load_has_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    """It is one check, not a crash; a Hub id is one of a model, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "hyperparams.yaml").write_text("modules: {}")
    check = by_subject(examine(name))["--source"]
    assert check.finding.startswith(f"{name}: ")
    assert problem in check.finding
    assert "export it again, or name another folder" in check.fix
