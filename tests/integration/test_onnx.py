"""`lmaczs export --onnx`, and docs/onnx_explain.py, which needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lmaczs import ZeroShotInterpreter
from lmaczs.cli import main
from lmaczs.demo.scenes import SCENES, render_scene

SCRIPT = Path(__file__).parents[2] / "docs" / "onnx_explain.py"
ALONE = """
import runpy, sys
script, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(script)
print(sorted({"torch", "transformers", "lmaczs", "scipy"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_example_explains_as_the_model_does(tmp_path: Path) -> None:
    """The embedded default's sound and similarities, by numpy and onnxruntime alone.

    With a prompt of the command line, and one of the reference prompts.
    """
    folder = tmp_path / "onnx"
    command = ["export", "default", str(folder), "--onnx", "--prompt", "a dog barking"]
    assert main(command) == 0
    interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
    rate, path = interpreter.sample_rate, tmp_path / "scene.wav"
    wav = render_scene(SCENES[0], rate).sum(0)[: interpreter.clap.front_end.max_samples]
    soundfile.write(path, wav, rate, subtype="FLOAT")
    for prompt in ("a dog barking", "Rain"):
        own = interpreter.interpret_file(path, prompt, refine=0)
        out = tmp_path / "explanation.wav"
        words = [str(folder), str(path), prompt, str(out)]
        done = subprocess.run(
            [sys.executable, "-c", ALONE, str(SCRIPT), *words],
            capture_output=True,
            text=True,
            check=True,
        )
        scores, modules = done.stdout.splitlines()
        assert modules == "[]"
        before, _, after = scores.split()
        assert float(before) == pytest.approx(own.similarity, abs=1e-4)
        assert float(after) == pytest.approx(own.masked_similarity, abs=1e-3)
        sound, sound_rate = soundfile.read(out, dtype="float32")
        assert sound_rate == rate
        difference = np.abs(sound - own.waveform.numpy())
        assert difference.mean() < 1e-5
    refused(folder, path, "a zebra", "'a zebra' is not in ")
    soundfile.write(path, wav[:0], rate)
    refused(folder, path, "Rain", f"{path}: it has no samples")


def refused(folder: Path, path: Path, prompt: str, reason: str) -> None:
    """The example ends with a sentence."""
    words = [sys.executable, str(SCRIPT), str(folder), str(path), prompt, "out.wav"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(reason)
