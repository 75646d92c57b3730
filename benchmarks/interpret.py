"""Cost of an explanation relative to a classification, with the embedded default.

    python benchmarks/interpret.py [--threads 1] [--repeats 15]

Times one 5 s clip, read from a file: classified, explained, explained and verified,
with four more prompts; and a batch of 16 such clips against single ones, all in one
pass of the decoder. What refinement adds (refine="auto": where a mask is not faithful)
depends on clip and prompt. The cases are timed in turns, so that a busy machine slows
all of them equally, and CPU time of the whole process is compared. Prints medians in ms
and these ratios:

    explained / classified                      at most 1.4
    explained and verified / classified         at most 2.5
    each further prompt / classified            at most 0.2
    a clip of a batch of 16 / a single clip     at most 0.75
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from lmaczs import ZeroShotInterpreter
from lmaczs.audio.io import save_audio
from lmaczs.demo.scenes import SCENES, render_scene

PROMPTS = ["a siren wailing", "a dog barking", "heavy rain", "a fire", "church bells"]
BATCH = 16


def in_turns(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor time of each case, ms; all cases once a turn, after one more."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats + 1):
        for name, work in cases.items():
            start = time.process_time()
            work()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def whole_calls(
    interpreter: ZeroShotInterpreter, path: Path
) -> dict[str, Callable[[], object]]:
    """What a user calls, on a file and on batches of its clip."""
    wav = interpreter.load_audio(path)
    clips = torch.stack([wav.roll(1000 * shift) for shift in range(BATCH)])
    one = PROMPTS[0]
    explain = partial(interpreter.interpret_file, path, refine=0)
    batch = partial(interpreter.interpret_batch, prompts=one, refine=0)
    return {
        "classify": lambda: interpreter.classify_file(path, [one], "{}"),
        "explain": lambda: explain(one, verify=False),
        "explain, 5 prompts": lambda: explain(PROMPTS, verify=False),
        "verify": lambda: explain(one),
        "verify, 5 prompts": lambda: explain(PROMPTS),
        "refine, 5 prompts": lambda: interpreter.interpret_file(path, PROMPTS),
        "single clip": lambda: batch(clips[:1]),
        "batch of 16": lambda: batch(clips),
    }


def stages(
    interpreter: ZeroShotInterpreter, path: Path, folder: Path
) -> dict[str, Callable[[], object]]:
    """Every stage of an interpretation as a call."""
    clap, decoder = interpreter.clap, interpreter.mods["decoder"]
    front_end = clap.front_end
    wav = interpreter.load_audio(path)
    log_mel = front_end.log_mel(wav[None])
    features = clap.audio_features(log_mel).features
    text = clap.encode_text(PROMPTS[:1])[None]
    spectrum = front_end.stft(wav)
    result = interpreter.interpret_file(path, PROMPTS[0])
    return {
        "read and resample": lambda: interpreter.load_audio(path),
        "STFT": lambda: front_end.stft(wav),
        "log-mel": lambda: front_end.log_mel(wav[None]),
        "audio encoder": lambda: clap.audio_features(log_mel),
        "decoder": lambda: decoder(text, features, log_mel),
        "ISTFT": lambda: front_end.istft(spectrum, len(wav)),
        "save: sounds, picture, numbers": lambda: result.save(folder),
    }


def ratios(ms: dict[str, float]) -> dict[str, float]:
    """The four ratios of the module's docstring, and what verification adds."""
    classify = ms["classify"]
    more = len(PROMPTS) - 1
    return {
        "explained / classified": ms["explain"] / classify,
        "explained and verified / classified": ms["verify"] / classify,
        "each further prompt / classified": (ms["explain, 5 prompts"] - ms["explain"])
        / more
        / classify,
        "each further prompt, verified / classified": (
            ms["verify, 5 prompts"] - ms["verify"]
        )
        / more
        / classify,
        "a clip of a batch of 16 / a single clip": ms["batch of 16"]
        / BATCH
        / ms["single clip"],
    }


@torch.no_grad()
def main() -> None:
    """Time every stage and call, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    interpreter = ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "scene.wav")
        rate = interpreter.sample_rate
        scene = torch.as_tensor(render_scene(SCENES[0], rate)).sum(0)
        save_audio(path, scene, rate)
        parts = in_turns(stages(interpreter, path, Path(name)), options.repeats)
        whole = in_turns(whole_calls(interpreter, path), options.repeats)
    for title, values in (("ms", parts), ("ms", whole), ("ratio", ratios(whole))):
        print(title)
        for label, value in values.items():
            print(f"    {label:44s}{value:8.2f}")


if __name__ == "__main__":
    main()
