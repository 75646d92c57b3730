"""Explain a recording without torch: with numpy, soundfile and onnxruntime alone.

    lmaczs export default portable --onnx --prompt "church bells"
    python docs/onnx_explain.py portable bells.wav "church bells" explanation.wav

A longer recording than the model's input is cut.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

if len(sys.argv) != 5:
    sys.exit("usage: python onnx_explain.py FOLDER RECORDING PROMPT OUT.wav")
folder, recording, prompt, out = Path(sys.argv[1]), *sys.argv[2:]
model = json.loads((folder / "model.json").read_text("utf-8"))
rate, n_fft, hop, size = (
    model[name] for name in ("sample_rate", "n_fft", "hop_length", "max_samples")
)
window = np.hanning(n_fft + 1)[:-1]


def run(graph: str, *inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx")
    names = [one.name for one in session.get_inputs()]
    return session.run(None, dict(zip(names, map(np.float32, inputs), strict=True)))


def stft(wav: np.ndarray) -> np.ndarray:  # repeated or padded to the model's length
    whole = size // len(wav)
    copies = {"pad": 1, "repeatpad": whole, "repeat": whole + 1}[model["padding"]]
    tiled = np.tile(wav, copies)[:size]
    padded = np.pad(np.pad(tiled, (0, size - len(tiled))), n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.fft.rfft(frames * window).T


def istft(spectrum: np.ndarray) -> np.ndarray:
    total, weight = np.zeros(size + 2 * n_fft), np.full(size + 2 * n_fft, 1e-9)
    for number, frame in enumerate(np.fft.irfft(spectrum.T, n_fft)):
        total[number * hop :][:n_fft] += window * frame
        weight[number * hop :][:n_fft] += window**2
    return (total / weight)[n_fft // 2 :]


with soundfile.SoundFile(recording) as file:
    own_rate = file.samplerate
    wav = file.read(-(-size * own_rate // rate), always_2d=True).mean(1)
samples = min(size, round(len(wav) * rate / own_rate))
if not samples:
    sys.exit(f"{recording}: it has no samples")
wav = np.fft.irfft(np.fft.rfft(wav), samples) * rate / own_rate  # resampled
texts = np.load(folder / "prompts.npz")
known = dict(zip(texts["references"], texts["reference_embeddings"], strict=True))
known |= dict(zip(texts["prompts"], texts["prompt_embeddings"], strict=True))
if prompt not in known:
    sys.exit(f"{prompt!r} is not in {folder}: export it again with --prompt {prompt!r}")
text, spectrum = known[prompt], stft(wav)

embedding, log_mel, *features = run("encoder", abs(spectrum[None]) ** 2)
(mask,) = run("decoder", text[None, None], log_mel, *features)
explanation = istft(mask[0, 0] * spectrum)[: len(wav)]
masked, *_ = run("encoder", abs(stft(explanation)[None]) ** 2)
soundfile.write(out, explanation, rate, subtype="FLOAT")
print(f"{embedding[0] @ text:.4f} -> {masked[0] @ text:.4f}")
