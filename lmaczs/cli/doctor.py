"""Checks an installation and says how to fix what is wrong.

Packages are tried in a child process (`lmaczs.cli.probe`): this module needs the
standard library alone.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from lmaczs import __version__
from lmaczs.cli.probe import ProbeResult, probe
from lmaczs.hub import default_source
from lmaczs.utils.extras import pip

FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")
"""Formats that lmaczs supports, in libsndfile's names."""

BUILDS = {
    f"{name} build": (
        f"from lmaczs.cli.doctor import build_of; info = build_of({name!r})"
    )
    for name in ("torch", "torchaudio")
}
# A package comes after those that it imports.
IMPORTS = {
    "numpy": "import numpy",
    "pandas": "import pandas",
    "matplotlib": "import matplotlib.figure",
    "torch": "import torch",
    "torchaudio": "import torchaudio",
    "transformers": "from transformers import ClapFeatureExtractor, ClapModel",
    "speechbrain": "import speechbrain.inference",
}
NEEDS = {
    "torchaudio": ("torch",),
    "transformers": ("torch", "torchaudio"),
    "speechbrain": ("torch", "torchaudio"),
}
NOTEBOOK = {"JPY_PARENT_PID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}
"""Variables of the environment that a shell in a notebook's kernel has."""

DEVICES = """
import torch
cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})"
        for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
mps = ["mps"] if torch.backends.mps.is_available() else []
info = [f"cpu ({torch.get_num_threads()} threads)", *cuda, *mps]
"""
SOUNDFILE = """
import soundfile
info = {"library": soundfile.__libsndfile_version__,
        "formats": list(soundfile.available_formats())}
"""
MODEL = """
from time import perf_counter
import torch
from lmaczs.clap import COLLAPSED_COSINE
from lmaczs.interpreter import ZeroShotInterpreter
start = perf_counter()
interpreter = ZeroShotInterpreter.from_hparams(
    {source!r}, run_opts={run_opts!r}, trust_remote_code={trusted!r}
)
loaded = perf_counter() - start
rate = interpreter.sample_rate
noise = torch.randn(rate, generator=torch.manual_seed(0))
times = []
for _ in range(4):  # the first call warms up, another program may slow some down
    start = perf_counter()
    explanation = interpreter.interpret_waveform(noise, rate, "rain")
    times.append(perf_counter() - start)
info = {{"load": loaded, "interpret": min(times[1:]),
        "spread": interpreter.clap.text_spread, "alike": COLLAPSED_COSINE,
        "finite": bool(explanation.waveform.isfinite().all())}}
"""


@dataclass(frozen=True)
class Check:
    """Finding about one part of an installation."""

    subject: str
    finding: str
    fix: str = ""
    """How to fix it; empty where nothing is wrong."""


def examine(
    source: str | Path | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
) -> list[Check]:
    """Check everything that lmaczs needs; a check with a fix is a problem.

    The model `source`, a folder or a Hub id (default: the embedded one), is tried on
    `device`; `trust_remote_code` as in `ZeroShotInterpreter.from_hparams`.
    """
    model = str(default_source() if source is None else source)
    codes = {**BUILDS, **IMPORTS, "devices": DEVICES, "soundfile": SOUNDFILE}
    run_opts = {} if device is None else {"device": device}
    codes["model"] = MODEL.format(
        source=model, run_opts=run_opts, trusted=trust_remote_code
    )
    results = probe(codes)
    torch_build, torchaudio_build = (results[name].info for name in BUILDS)
    wanted = _requirements()
    return [
        Check("python", f"{platform.python_version()} on {platform.platform()}"),
        Check("lmaczs", f"{__version__} in {Path(__file__).parents[1]}"),
        *(_check_package(name, text, results) for name, text in wanted.items()),
        diagnose_pair(torch_build, torchaudio_build, results["torchaudio"].error),
        _check_devices(results["devices"]),
        _check_formats(results["soundfile"]),
        _check_model(model, results, source is not None),
    ]


# --- packages -----------------------------------------------------------------------


def _requirements() -> dict[str, str]:
    """Requirements without extras: "torch" -> "torch>=2.11,<2.12"."""
    try:
        texts = metadata.requires("lmaczs") or []
    except metadata.PackageNotFoundError:  # run from a folder, without installation
        texts = [*IMPORTS, "soundfile"]
    plain = [text.split(";")[0].strip() for text in texts if "extra ==" not in text]
    return {re.split(r"[^\w.-]", text, maxsplit=1)[0]: text for text in plain}


def _check_package(
    name: str, requirement: str, results: Mapping[str, ProbeResult]
) -> Check:
    """Check that a package has the required version and can be imported."""
    install = pip(f'install "{requirement}"')
    if name in ("torch", "torchaudio"):
        install = _install_pair()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, f"not installed, {requirement} is needed", install)
    if not _satisfies(version, requirement):
        return Check(name, f"{version}, but {requirement} is needed", install)
    error = results.get(name, ProbeResult()).error
    if not error:
        return Check(name, version)
    broken = [need for need in NEEDS.get(name, ()) if results[need].error]
    fix = f"fix {broken[0]} first" if broken else install
    if name == "torchaudio" and not broken:
        fix = "see the pair of torch and torchaudio below"
    return Check(name, f"{version} cannot be imported: {error}", fix)


def _satisfies(version: str, requirement: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # transformers and speechbrain bring it; they report it missing
        return True
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def diagnose_pair(
    torch_build: str | None, torchaudio_build: str | None, error: str
) -> Check:
    """Check whether torch and torchaudio fit one another.

    torchaudio is compiled for one build of torch. Where the two differ its import
    fails, with an OSError or a RuntimeError, and with it that of speechbrain and of
    transformers' CLAP.

    Parameters
    ----------
    torch_build : str or None
        Version with its variant, e.g. ``2.11.0+cu130``; None if it is not installed.
    torchaudio_build : str or None
        The same of torchaudio.
    error : str
        Error of torchaudio's import, or empty.

    Returns
    -------
    Check
    """
    subject = "torch and torchaudio"
    if not (torch_build and torchaudio_build):
        return Check(subject, "not both are installed", _install_pair())
    both = f"torch {torch_build}, torchaudio {torchaudio_build}"
    if not error:
        return Check(subject, f"{both}: they fit")
    variants = [_variant(build) for build in (torch_build, torchaudio_build)]
    if None not in variants and variants[0] != variants[1]:
        reason = f"torch is built for {variants[0]}, torchaudio for {variants[1]}"
    else:
        reason = "torchaudio cannot be imported beside this torch"
    remove = pip("uninstall -y torch torchaudio")
    if "conda" in map(_installer, ("torch", "torchaudio")):
        # pip removes its own packages alone
        remove = "conda remove pytorch torchaudio, " + remove
    fix = (
        f"remove both ({remove}), then install both with one command and from one "
        f"package index: {_install_pair()}"
    )
    if NOTEBOOK & os.environ.keys():
        fix += "; then restart the kernel, which keeps what it has imported"
    return Check(subject, f"{both}: {reason}", fix)


def _installer(package: str) -> str:
    """Which program installed a package: pip, conda, uv; empty if it is not known."""
    try:
        text = metadata.distribution(package).read_text("INSTALLER")
    except metadata.PackageNotFoundError:
        return ""
    return (text or "").strip()


def _variant(build: str) -> str | None:
    """Platform of a build: "2.11.0+cu130" -> "CUDA 13.0"; None if unstated."""
    local = build.partition("+")[2]
    if cuda := re.fullmatch(r"cu(\d+)(\d)", local):
        return f"CUDA {cuda[1]}.{cuda[2]}"
    return {"": None, "cpu": "the CPU alone"}.get(local, local)


def build_of(package: str) -> str | None:
    """Version with variant (``2.11.0+cu130``) of a package that is not imported.

    From its version.py, as torch and torchaudio have it; None if it is not installed.
    """
    spec = util.find_spec(package)
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).with_name("version.py")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    stated = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", text)
    return stated[1] if stated else metadata.version(package)


def _install_pair() -> str:
    wanted = _requirements()
    names: Sequence[str] = ("torch", "torchaudio")
    quoted = (f'"{wanted.get(name, name)}"' for name in names)
    return pip(" ".join(("install", *quoted)))


# --- devices, formats, model --------------------------------------------------------


def _check_devices(result: ProbeResult) -> Check:
    if result.error:
        return Check("devices", f"unknown: {result.error}", "fix torch first")
    return Check("devices", ", ".join(result.info))


def _check_formats(result: ProbeResult) -> Check:
    wanted = _requirements().get("soundfile", "soundfile")
    install = pip(f'install --force-reinstall "{wanted}"')
    if result.error:
        return Check("sound formats", f"no soundfile: {result.error}", install)
    library, readable = result.info["library"], result.info["formats"]
    missing = [name for name in FORMATS if name not in readable]
    if missing:
        finding = f"libsndfile {library} does not read {', '.join(missing)}"
        return Check("sound formats", finding, install)
    others = sorted(set(readable) - set(FORMATS))
    finding = f"{', '.join(FORMATS)}; also {', '.join(others)} (libsndfile {library})"
    return Check("sound formats", finding)


def _check_model(
    model: str, results: Mapping[str, ProbeResult], is_given: bool
) -> Check:
    """Check that the model loads and distinguishes prompts."""
    result = results["model"]
    subject = "default model"
    again = 'install lmaczs again (in a checkout: "git checkout -- pretrained")'
    if is_given:
        subject, again = "--source", "export it again, or name another folder"
    if result.error:
        broken = any(results[name].error for name in IMPORTS)
        fix = "fix the packages above first" if broken else again
        return Check(subject, f"{model}: {result.error}", fix)
    info = result.info
    finding = (
        f"{model} loads in {info['load']:.1f} s and interprets 1 s of sound "
        f"in {info['interpret']:.2f} s; mean cosine of unrelated prompts "
        f"{info['spread']:.2f}"
    )
    if info["spread"] > info["alike"] or not info["finite"]:
        reason = (
            "all prompts look alike" if info["finite"] else "its sound is not finite"
        )
        return Check(subject, f"{finding}: {reason}", again)
    return Check(subject, finding)
