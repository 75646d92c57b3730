"""Where the time of one interpretation goes, on the embedded default.

    python benchmarks/interpret.py [--threads 2] [--repeats 15]

Prints medians in ms for a 5 s clip and one prompt: each stage, the whole with and
without verification, and classification for comparison.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lmaczs import ZeroShotInterpreter
from lmaczs.audio.io import save_audio
from lmaczs.demo.scenes import SCENES, render_scene

PROMPT = "a siren wailing"


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call.

    Parameters
    ----------
    work : callable
        What is timed; called once more before, to warm up.
    repeats : int
        Timed calls.

    Returns
    -------
    float
        Milliseconds.
    """
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def stages(
    interpreter: ZeroShotInterpreter, path: Path, folder: Path
) -> dict[str, Callable[[], object]]:
    """Every stage of an interpretation as a call.

    Parameters
    ----------
    interpreter : ZeroShotInterpreter
        Loaded.
    path : Path
        A recording.
    folder : Path
        For what is written.

    Returns
    -------
    dict
        Name to call.
    """
    clap, decoder = interpreter.clap, interpreter.mods["decoder"]
    front_end = clap.front_end
    wav = interpreter.load_audio(path)
    log_mel = front_end.log_mel(wav[None])
    encoding = clap.audio_features(log_mel)
    text = clap.encode_text([PROMPT])
    mask = decoder(text[None], encoding.features, log_mel)[0, 0]
    spectrum = front_end.stft(wav[None])[0]
    result = interpreter.interpret_file(path, PROMPT)
    labels = [PROMPT]
    return {
        "read and resample": lambda: interpreter.load_audio(path),
        "text tower (once a prompt)": lambda: clap._embed_text(PROMPT),
        "log-mel": lambda: front_end.log_mel(wav[None]),
        "audio encoder": lambda: clap.audio_features(log_mel),
        "decoder": lambda: decoder(text[None], encoding.features, log_mel),
        "ISTFT, explanation": lambda: front_end.istft(mask * spectrum, len(wav)),
        "save: sounds, picture, numbers": lambda: result.save(folder),
        "= classify_file": lambda: interpreter.classify_file(path, labels, "{}"),
        "= interpret_file, verify=False": lambda: interpreter.interpret_file(
            path, PROMPT, verify=False
        ),
        "= interpret_file": lambda: interpreter.interpret_file(path, PROMPT),
    }


@torch.no_grad()
def main() -> None:
    """Time every stage and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
    print(f"{'load (imports apart)':32s}{1000 * (time.perf_counter() - start):8.1f} ms")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "scene.wav")
        rate = interpreter.sample_rate
        save_audio(path, render_scene(SCENES[0], rate).sum(0), rate)
        for label, work in stages(interpreter, path, Path(name)).items():
            print(f"{label:32s}{median_ms(work, options.repeats):8.1f} ms")


if __name__ == "__main__":
    main()
