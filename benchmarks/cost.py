"""What an explanation costs, beside a classification and beside other explainers.

    python benchmarks/cost.py [--clap small full] [--device cpu] [--quick]
    python benchmarks/cost.py --device cuda --compile --json cost.json
    python benchmarks/cost.py --history benchmarks/history.csv

Groups of cases, each timed in turns, with its ratio to the first case of its group:

stages    of an explanation of n clips: front end, encoder, decoder, a masked pass of
          the encoder, 8 steps of refinement, a fitted mask, the inverse STFT; encoder
          and decoder in bf16, and with --compile compiled
onnx...   with --onnx: encoder, decoder and masked pass by onnxruntime, on a CPU
files     a 5 s clip at 44.1 kHz read, resampled; results and their picture saved
calls     classified, explained, verified, refined, fitted, for 1 to 50 prompts; Hugging
          Face's pipeline and the bare ClapModel
batches   1 to 64 clips in one call
peers     from log-mel to mask: Grad-CAM++, Integrated Gradients, RISE
60 s      a minute of sound; --long: an hour
shell     processes: ``lmaczs --help``, imports, a first explanation

``small`` is the embedded default, ``full`` of the public checkpoints' size with random
weights, on which time does not depend. On a CPU the process's processor time is taken,
so that a busy machine counts little; on a GPU wall-clock time until the work is done.
--history compares ratios with those of the same machine before, and keeps the new ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

# numpy's threads spin on after their work, in the processor time of the next case
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import soundfile
import torch
from common.models import SIZES, Subject, load
from common.timing import (
    Case,
    Row,
    children_seconds,
    history_rows,
    machine,
    markdown,
    measure,
    read_history,
    regressions,
    rows_of,
    write_history,
)
from torch import Tensor
from transformers import pipeline

from lmaczs.audio.resampling import resample
from lmaczs.demo.scenes import SCENES, render_scene
from lmaczs.evaluation.explainer import ExplainerInput
from lmaczs.evaluation.explainers import EXPLAINERS, MAIN, decoder_method
from lmaczs.explanation import explain_batch, similarities
from lmaczs.frontend import power
from lmaczs.onnx_export import export_onnx
from lmaczs.presence import reference_names, reference_text
from lmaczs.refinement import RefinementOptions, refine
from lmaczs.report.picture import save_png

FILE_RATE = 44100
PEERS = ("Grad-CAM++", "Integrated Gradients", "RISE")
QUOTED = {"explain", "explain, 5 prompts", "verify", "HF pipeline, 1 label"}
STEPS = RefinementOptions(steps=8, until_met=False)


class Material:
    """A clip, prompts and what is computed of them before a stage is timed.

    Parameters
    ----------
    subject : Subject
        The model.
    folder : Path
        For files.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject, self.folder = subject, folder
        self.interpreter = subject.interpreter
        self.clap = self.interpreter.clap
        self.decoder = self.interpreter.mods["decoder"]
        rate = self.interpreter.sample_rate
        self.path, self.path_44 = folder / "clip.wav", folder / "clip_44100.wav"
        self.wav = torch.as_tensor(render_scene(SCENES[0], rate)).sum(0).float()
        soundfile.write(self.path, self.wav.numpy(), rate)
        high = resample(self.wav[None], rate, FILE_RATE)[0]
        soundfile.write(self.path_44, high.numpy(), FILE_RATE)

    @cached_property
    def prompts(self) -> list[str]:
        """Fifty names, those of which the model recognises most first.

        Returns
        -------
        list of str
        """
        clap = self.clap
        references = reference_text(clap, self.interpreter.hparams.template)
        found = similarities(clap, self.wav.to(clap.device), references)
        names = reference_names()
        return [names[row] for row in found.argsort(descending=True)[:50].tolist()]

    def clips(self, count: int) -> Tensor:
        """Clips that differ.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        Tensor [count, samples]
        """
        shifted = [self.wav.roll(1000 * shift) for shift in range(count)]
        return torch.stack(shifted)

    def minute(self, minutes: int) -> Tensor:
        """A long clip.

        Parameters
        ----------
        minutes : int
            Its length.

        Returns
        -------
        Tensor [samples]
        """
        length = 60 * minutes * self.interpreter.sample_rate
        return self.wav.repeat(-(-length // len(self.wav)))[:length]

    def batch(self, count: int) -> ExplainerInput:
        """Explainers' input.

        Parameters
        ----------
        count : int
            Clips.

        Returns
        -------
        ExplainerInput
        """
        clap, fe = self.clap, self.clap.front_end
        wavs = fe.fit_length(self.clips(count).to(clap.device))
        spectrum = fe.stft(wavs)[..., : fe.n_frames]
        template = self.interpreter.hparams.template
        text = clap.encode_text([template.format(self.prompts[0])])
        samples = torch.full((count,), len(self.wav), device=clap.device)
        log_mel = fe.stft_to_log_mel(spectrum)
        text = text.expand(count, -1)
        batch = ExplainerInput(clap, spectrum, log_mel, text, samples)
        masks = decoder_method(MAIN, self.decoder)(batch)
        return replace(batch, reference=masks)


def in_bf16(work: Callable[[], object], device: str) -> Callable[[], object]:
    """The same under autocast.

    Parameters
    ----------
    work : callable
        A stage.
    device : str
        cpu or cuda.

    Returns
    -------
    callable
    """

    def cast() -> object:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return work()

    return cast


def stages(material: Material, count: int, compiled: bool) -> list[Case]:
    """Stages of an explanation of some clips; the encoder first.

    Parameters
    ----------
    material : Material
        Of a model.
    count : int
        Clips in a batch.
    compiled : bool
        Whether a compiled encoder is timed, too.

    Returns
    -------
    list of Case
    """
    clap, decoder = material.clap, material.decoder
    front_end, device = clap.front_end, str(clap.device)
    batch = material.batch(count)
    encoding = clap.audio_features(batch.log_mel)
    references = reference_text(clap, material.interpreter.hparams.template)
    wavs = material.clips(count).to(clap.device)
    spectra, five = front_end.stft(wavs), batch.text[:, None].expand(-1, 5, -1)
    masks = front_end.crop_mask(batch.like, len(material.wav))
    given = clap, batch.spectrum, encoding, batch.text, references, batch.samples
    encode = partial(clap.audio_features, batch.log_mel)
    decode = partial(decoder, five[:, :1], encoding.features, batch.log_mel)
    works: dict[str, Callable[[], object]] = {
        "audio encoder": encode,
        "front end: log-mel": lambda: front_end.log_mel(wavs),
        "STFT": lambda: front_end.stft(wavs),
        "embedding without features": lambda: clap.audio_embedding(batch.log_mel),
        "decoder, 1 prompt": decode,
        "decoder, 5 prompts": lambda: decoder(five, encoding.features, batch.log_mel),
        "masked pass": lambda: clap.audio_embedding(
            front_end.input_tf(batch.spectrum, batch.like)
        ),
        "inverse STFT": lambda: front_end.istft(masks * spectra, len(material.wav)),
        "audio encoder, bf16": in_bf16(encode, device),
        "decoder, 1 prompt, bf16": in_bf16(decode, device),
    }
    if count <= 8:
        refined = partial(refine, *given, options=STEPS)
        works["refinement, 8 steps"] = partial(refined, batch.like)
        works["fitted, 8 steps"] = refined
    if compiled:
        fast = partial(torch.compile(clap.audio_features), batch.log_mel)
        works["audio encoder, compiled"] = fast
        works["audio encoder, compiled, bf16"] = in_bf16(fast, device)
    return [Case(name, work, count) for name, work in works.items()]


def by_onnxruntime(material: Material) -> list[Case]:
    """The same stages of one clip, by torch and by onnxruntime on as many threads.

    Parameters
    ----------
    material : Material
        Of a model on the CPU.

    Returns
    -------
    list of Case
    """
    import onnxruntime

    clap, decoder, template = material.clap, material.decoder, "{}"
    folder = export_onnx(clap, decoder, material.folder / "onnx", template)
    batch, options = material.batch(1), onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    text, cells = batch.text[:, None], power(batch.spectrum).contiguous()
    encoding = clap.audio_features(batch.log_mel)
    masks, fe = batch.like[:, None], clap.front_end
    inputs = {
        "encoder": (cells,),
        "decoder": (text, batch.log_mel, *encoding.features),
        "masked": (cells, masks, text),
    }
    works: dict[str, Callable[[], object]] = {
        "encoder": lambda: clap.audio_features(fe.to_log_mel(fe.mel_power(cells))),
        "decoder": lambda: decoder(text, encoding.features, batch.log_mel),
        "masked": lambda: clap.audio_embedding(fe.input_tf(batch.spectrum, masks)),
    }
    for name, given in inputs.items():
        session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options)
        names = [one.name for one in session.get_inputs()]
        feed = {key: one.numpy() for key, one in zip(names, given, strict=True)}
        works[f"{name}, onnxruntime"] = partial(session.run, None, feed)
    return [Case(name, work) for name, work in works.items()]


def files(material: Material) -> list[Case]:
    """Reading and writing.

    Parameters
    ----------
    material : Material
        Of a model.

    Returns
    -------
    list of Case
    """
    interpreter = material.interpreter
    one = interpreter.interpret_file(material.path, material.prompts[0], refine=0)
    picture = partial(save_png, material.folder / "picture.png", one.stft, one.mask)
    seconds = len(material.wav) / interpreter.sample_rate
    return [
        Case("read", lambda: interpreter.load_audio(material.path)),
        Case(
            "read 44.1 kHz, resample", lambda: interpreter.load_audio(material.path_44)
        ),
        Case("picture", lambda: picture(interpreter.sample_rate, seconds, "clip")),
        Case("save everything", lambda: one.save(material.folder / "saved")),
    ]


def calls(material: Material) -> list[Case]:
    """What a user calls on a file, and the same question put to Hugging Face.

    Parameters
    ----------
    material : Material
        Of a model.

    Returns
    -------
    list of Case
    """
    interpreter, path, prompts = material.interpreter, material.path, material.prompts
    explain = partial(interpreter.interpret_file, path, refine=0)
    refined, fitting = interpreter.interpret_file, material.subject.fitting
    works: dict[str, Callable[[], object]] = {
        "classify": lambda: interpreter.classify_file(path, prompts[:1]),
        "explain": lambda: explain(prompts[0], verify=False),
        "explain, 5 prompts": lambda: explain(prompts[:5], verify=False),
        "explain, 50 prompts": lambda: explain(prompts, verify=False),
        "verify": lambda: explain(prompts[0]),
        "verify, 5 prompts": lambda: explain(prompts[:5]),
        "refine where not faithful": lambda: refined(path, prompts[0]),
        "refine, 8 steps": lambda: refined(path, prompts[0], refine=8),
        "fitted": lambda: fitting.interpret_file(path, prompts[0]),
        **of_hugging_face(material),
    }
    return [Case(name, work) for name, work in works.items()]


def of_hugging_face(material: Material) -> dict[str, Callable[[], object]]:
    """Classification of the same clip, read before, by transformers alone.

    Parameters
    ----------
    material : Material
        Of a model.

    Returns
    -------
    dict of str to callable
    """
    clap, wav = material.clap, material.wav.numpy()
    classify = pipeline(
        "zero-shot-audio-classification",
        model=clap.model,
        feature_extractor=clap.feature_extractor,
        tokenizer=clap.tokenizer,
        device=clap.device,
    )
    rate = clap.front_end.sample_rate

    def bare() -> object:
        given = clap.feature_extractor(wav, sampling_rate=rate, return_tensors="pt")
        return clap.model.get_audio_features(**given.to(clap.device))

    labels = material.prompts
    return {
        "HF pipeline, 1 label": lambda: classify(wav, candidate_labels=labels[:1]),
        "HF pipeline, 5 labels": lambda: classify(wav, candidate_labels=labels[:5]),
        "bare ClapModel, no text": bare,
    }


def batches(material: Material, counts: tuple[int, ...]) -> list[Case]:
    """One clip and several in one call, explained and verified.

    Parameters
    ----------
    material : Material
        Of a model.
    counts : tuple of int
        Clips in one call; the first is 1.

    Returns
    -------
    list of Case
    """
    interpreter, prompt = material.interpreter, material.prompts[0]
    clap, decoder = material.clap, material.decoder
    template = interpreter.hparams.template
    text = clap.encode_text([template.format(prompt)])
    references = reference_text(clap, template)
    cases = []
    for count in counts:
        wavs, prompts = material.clips(count), [[prompt]] * count
        rate = interpreter.sample_rate
        call = partial(
            interpreter.interpret_batch, wavs, prompt, refine=0, sample_rate=rate
        )
        cases.append(Case(f"{count} clips", call, count))
    many = partial(explain_batch, clap, decoder, list(wavs), prompts, [text] * count)
    at_once = partial(many, windows_at_once=count, references=references)
    return [*cases, Case(f"{count} clips, all windows at once", at_once, count)]


def peers(material: Material) -> list[Case]:
    """Explainers of one clip, from log-mel to mask.

    Parameters
    ----------
    material : Material
        Of a model.

    Returns
    -------
    list of Case
    """
    batch = material.batch(1)
    methods = [decoder_method(MAIN, material.decoder)]
    methods += [EXPLAINERS[name] for name in PEERS]
    return [Case(method.name, partial(method, batch)) for method in methods]


def long_clips(material: Material, minutes: int) -> list[Case]:
    """A long recording, from samples.

    Parameters
    ----------
    material : Material
        Of a model.
    minutes : int
        Its length.

    Returns
    -------
    list of Case
    """
    interpreter, prompt = material.interpreter, material.prompts[0]
    wav, rate = material.minute(minutes), interpreter.sample_rate
    explain = partial(interpreter.interpret_waveform, wav, rate, prompt, refine=0)
    return [
        Case("classify", lambda: interpreter.classify_waveform(wav, rate, [prompt])),
        Case("explain", lambda: explain(verify=False)),
        Case("verify", explain),
    ]


def shell(material: Material, repeats: int) -> list[Row]:
    """Processes: their processor time; wall-clock time is printed beside it.

    Parameters
    ----------
    material : Material
        For the file that is explained.
    repeats : int
        Turns.

    Returns
    -------
    list of Row
    """
    command = [sys.executable, "-m", "lmaczs.cli"]
    given = [str(material.path), "--prompt", "dog", "--device", "cpu"]
    out = ["--out", str(material.folder / "out")]
    argvs = {
        "python": [sys.executable, "-c", ""],
        "lmaczs --help": [*command, "--help"],
        "import torch, transformers": [
            sys.executable,
            "-c",
            "import torch, transformers; transformers.ClapModel",
        ],
        "import the interpreter": [
            sys.executable,
            "-c",
            "from lmaczs import ZeroShotInterpreter",
        ],
        "lmaczs interpret --refine off": [
            *command, "interpret", *given, *out, "--refine", "off",
        ],
        "lmaczs interpret": [*command, "interpret", *given, *out],
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in argvs}
    walls: dict[str, list[float]] = {name: [] for name in argvs}
    for _ in range(repeats):
        for name, argv in argvs.items():
            start, wall = children_seconds(), time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True)
            times[name].append(children_seconds() - start)
            walls[name].append(time.perf_counter() - wall)
    for name, found in walls.items():
        print(f"{name}: {statistics.median(found):.2f} s wall-clock", file=sys.stderr)
    cases = [Case(name, partial(list)) for name in argvs]
    return rows_of("shell", cases, times, {})


def groups(
    material: Material, options: argparse.Namespace
) -> Iterator[tuple[str, list[Case]]]:
    """Groups of cases of a model, each made when its turn comes.

    Parameters
    ----------
    material : Material
        Of a model.
    options : Namespace
        Command line.

    Yields
    ------
    tuple of str and list of Case
        Name and cases.
    """
    on_gpu = material.clap.device.type == "cuda"
    for count in (1, 8, 64) if on_gpu else (1, 8):
        yield f"stages, {count} clips", stages(material, count, options.compile)
    if options.onnx and not on_gpu:
        yield "onnxruntime", by_onnxruntime(material)
    yield "files", files(material)
    yield "calls", calls(material)
    few = options.quick and not on_gpu
    yield "batches", batches(material, (1, 8) if few else (1, 8, 16, 64))
    if not few:
        yield "60 s", long_clips(material, 1)
        yield "peers", peers(material)
    if options.long:
        yield "1 h", long_clips(material, 60)


def targets(rows: list[Row]) -> dict[str, float]:
    """Ratios that are quoted.

    Parameters
    ----------
    rows : list of Row
        Of one model.

    Returns
    -------
    dict of str to float
        By what they are.
    """
    ms = {(row.group, row.name): row.ms for row in rows}
    one = {name: value for (group, name), value in ms.items() if group == "calls"}
    found: dict[str, float] = {}
    if QUOTED <= set(one):
        base = one["classify"]
        found["explained / classified"] = one["explain"] / base
        found["explained / classified by HF"] = (
            one["explain"] / one["HF pipeline, 1 label"]
        )
        found["verified / classified"] = one["verify"] / base
        more = one["explain, 5 prompts"] - one["explain"]
        found["each further prompt / classified"] = more / 4 / base
        if "verify, 5 prompts" in one:
            more = one["verify, 5 prompts"] - one["verify"]
            found["each further prompt, verified / classified"] = more / 4 / base
    for (group, name), value in ms.items():
        if group == "batches" and name != "1 clips":
            found[f"{name}, each / 1 clip"] = value / ms[group, "1 clips"]
    return found


def report(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a model, and print what is found as it comes.

    Parameters
    ----------
    size : str
        One of SIZES.
    options : Namespace
        Command line.

    Returns
    -------
    dict
        clap, device, rows and targets.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        material = Material(load(size, options.device, folder), Path(folder))
        print(f"\n{size} on {options.device}\n")
        for name, cases in groups(material, options):
            if options.groups and not name.startswith(tuple(options.groups)):
                continue
            if options.cases:
                kept = [one for one in cases[1:] if one.name in options.cases]
                cases = [cases[0], *kept]
            found = measure(
                name, cases, options.device, options.repeats, options.seconds
            )
            print(markdown(found), flush=True)
            rows += found
        if size == "small" and options.device == "cpu":
            if not options.groups or "shell" in options.groups:
                found = shell(material, min(3, options.repeats))
                print(markdown(found), flush=True)
                rows += found
    ratios = targets(rows)
    for name, ratio in ratios.items():
        print(f"{name:48}{ratio:6.2f}")
    shown = [asdict(row) for row in rows]
    return {"clap": size, "device": options.device, "rows": shown, "targets": ratios}


def compare(path: Path, facts: dict[str, Any], models: list[dict[str, Any]]) -> None:
    """Print what costs more than when it was last measured, and keep what was found.

    Parameters
    ----------
    path : Path
        The history.
    facts : dict
        The machine.
    models : list of dict
        From `report`.
    """
    now = []
    for one in models:
        rows = [Row(**row) for row in one["rows"]]
        now += history_rows(facts, one["clap"], one["device"], rows)
    earlier = read_history(path)
    for line in regressions(now, earlier):
        print(f"costs more: {line}")
    write_history(path, [*earlier, *now])


@torch.no_grad()
def main() -> None:
    """Measure, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clap", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--groups", nargs="+", help="only those that start so")
    parser.add_argument("--cases", nargs="+", help="only these, and a group's first")
    parser.add_argument("--compile", action="store_true", help="encoder, compiled")
    parser.add_argument("--onnx", action="store_true", help="onnxruntime, too")
    parser.add_argument("--long", action="store_true", help="an hour of sound, too")
    parser.add_argument("--quick", action="store_true", help="few turns, few cases")
    parser.add_argument("--repeats", type=int, help="most turns (15; 5 if quick)")
    parser.add_argument("--seconds", type=float, help="for a group (60; 2 if quick)")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--history", type=Path, help="CSV to compare with and add to")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    options.repeats = options.repeats or (5 if options.quick else 15)
    options.seconds = options.seconds or (2 if options.quick else 60)
    torch.set_num_threads(options.threads)
    facts = machine(options.device)
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value))
    models = [report(size, options) for size in options.clap]
    if options.history:
        compare(options.history, facts, models)
    if options.json:
        text = json.dumps({"machine": facts, "models": models}, indent=1)
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
