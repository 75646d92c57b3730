"""ZeroShotInterpreter: loading, files, batches, classification."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch import Tensor

import lmaczs.utils.shipped
from lmaczs import AudioError, Interpretation, ZeroShotInterpreter
from lmaczs.audio.io import convert_audio
from lmaczs.clap import FrozenClap
from lmaczs.decoder import MaskDecoder
from lmaczs.explanation import similarities
from lmaczs.model_file import ForeignCodeError
from lmaczs.presence import reference_names, reference_text
from lmaczs.training.export import inference_yaml
from lmaczs.utils.errors import AudioWarning, InputError

RATE = 32000
TEMPLATE = "I hear {}."
WIDTH = 8


@pytest.fixture(scope="module")
def source(
    tiny_clap: FrozenClap,
    tiny_clap_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder as `lmaczs export` writes it: a random decoder and its CLAP."""
    folder = tmp_path_factory.mktemp("interpreter")
    torch.manual_seed(0)
    decoder = MaskDecoder(tiny_clap, width=WIDTH)
    with torch.no_grad():
        decoder.draw.weight.mul_(5)
    save_file(decoder.state_dict(), folder / "decoder.safetensors")
    shutil.copytree(tiny_clap_folder, folder / "clap")
    yaml = inference_yaml("clap", "tiny", "stft", WIDTH, TEMPLATE)
    (folder / "hyperparams.yaml").write_text(yaml)
    return folder


@pytest.fixture(scope="module")
def interpreter(source: Path) -> ZeroShotInterpreter:
    """The random decoder, loaded."""
    return ZeroShotInterpreter.from_hparams(source)


@pytest.fixture
def broken(source: Path, tmp_path: Path) -> Callable[..., Path]:
    """Function that copies `source` with another hyperparams.yaml."""

    def make(old: str, new: str) -> Path:
        folder = tmp_path / "broken"
        shutil.copytree(source, folder)
        path = folder / "hyperparams.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return folder

    return make


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise [samples] or [samples, channels], float32."""
    shape = (samples, channels) if channels > 1 else (samples,)
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def write(
    path: Path, rate: int = RATE, seconds: float = 1.0, channels: int = 1
) -> Path:
    """Write noise as float WAV."""
    samples = noise(round(seconds * rate), channels)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def assert_same(one: Interpretation, other: Interpretation) -> None:
    """Check that two explanations are the same."""
    assert one.prompt == other.prompt
    for name, atol in (
        ("mask", 1e-4),
        ("masked_stft", 1e-3),  # of a window of 2048 samples
        ("waveform", 1e-5),
        ("residual", 1e-5),
    ):
        a, b = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(a, b, atol=atol, rtol=0)
    for name in ("similarity", "masked_similarity", "residual_similarity"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)


# --- files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"),
    [
        (RATE, 2, 1.1),
        (44100, 2, 0.7),
        (8000, 1, 0.05),
        (48000, 3, 5.3),
        (RATE, 1, 12.3),
    ],
)
def test_any_recording(
    interpreter: ZeroShotInterpreter,
    tmp_path: Path,
    rate: int,
    channels: int,
    seconds: float,
) -> None:
    """Channels are mixed, then resampled; the two parts sum to that, as long as it."""
    path = write(tmp_path / "a.wav", rate, seconds, channels)
    one = interpreter.interpret_file(path, "a dog barking")
    mono = noise(round(seconds * rate), channels).reshape(-1, channels).mean(1)
    expected = convert_audio(mono, rate, RATE)
    assert one.sample_rate == interpreter.sample_rate == RATE
    assert abs(len(one.waveform) - seconds * RATE) <= 1
    both = one.waveform + one.residual
    torch.testing.assert_close(both, expected, atol=1e-5, rtol=0)


def test_one_prompt_or_a_list(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """A string gives one explanation, a list or tuple a list in its order."""
    path = write(tmp_path / "a.wav")
    one = interpreter.interpret_file(str(path), "a dog")
    assert isinstance(one, Interpretation)
    for prompts in (["heavy rain", "a dog"], ("heavy rain", "a dog")):
        many = interpreter.interpret_file(path, prompts)
        assert [m.prompt for m in many] == list(prompts)
        assert_same(many[1], one)
    (single,) = interpreter.interpret_file(path, ["a dog"])
    assert_same(single, one)
    assert interpreter.interpret_file(path, []) == []


def test_audio_is_encoded_once(
    interpreter: ZeroShotInterpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many prompts there are, the recording goes through the encoder once."""
    calls: list[int] = []
    encode = FrozenClap.audio_features

    def spy(self: FrozenClap, log_mel: Tensor) -> object:
        calls.append(len(log_mel))
        return encode(self, log_mel)

    monkeypatch.setattr(FrozenClap, "audio_features", spy)
    path = write(tmp_path / "a.wav")
    interpreter.interpret_file(path, ["a dog", "a cat", "rain"], verify=False)
    assert calls == [1]


def test_bare_label_is_put_into_the_template(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """The template is hyperparams.yaml's; what is shown is the prompt as typed."""
    path = write(tmp_path / "a.wav")
    bare = interpreter.interpret_file(path, "dog")
    sentence = interpreter.interpret_file(path, "I hear dog.")
    other = interpreter.interpret_file(path, "This is a sound of dog.")
    assert bare.prompt == "dog"
    assert bare.similarity == pytest.approx(sentence.similarity, abs=1e-6)
    assert abs(bare.similarity - other.similarity) > 1e-4
    torch.testing.assert_close(bare.mask, sentence.mask)


def test_model_is_noted(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """Each explanation names its model."""
    one = interpreter.interpret_file(write(tmp_path / "a.wav"), "dog", verify=False)
    assert one.to_dict()["model"] == "tiny"
    assert one.masked_similarity is one.residual_similarity is None


def test_results_are_on_the_cpu_without_gradient(
    interpreter: ZeroShotInterpreter,
) -> None:
    """Tensors that come out are plain values."""
    (one,) = interpreter.interpret_batch(torch.rand(1, 9000), "a dog")
    for tensor in (one.mask, one.masked_stft, one.waveform, one.residual):
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad


def test_unreadable_recordings(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """A missing file and a file that is no audio are one AudioError that names them."""
    text = tmp_path / "a.wav"
    text.write_text("no audio")
    for path in (text, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError, match=path.name):
            interpreter.interpret_file(path, "a dog")
        with pytest.raises(AudioError, match=path.name):
            interpreter.classify_file(path, ["dog"])


def test_empty_prompt(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """An empty prompt among others is refused."""
    with pytest.raises(ValueError, match="prompt is empty"):
        interpreter.interpret_file(write(tmp_path / "a.wav"), ["a dog", " "])


# --- classification -----------------------------------------------------------------


def test_classify(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """Similarities are those of the labels in the template, most similar first."""
    path = write(tmp_path / "a.wav", seconds=2.0)
    labels = ["dog", "rain", "clock tick", "siren"]
    table = interpreter.classify_file(path, labels, template="the sound of {}")
    assert list(table.columns) == ["label", "similarity", "probability"]
    assert sorted(table.label) == sorted(labels)
    assert table.similarity.is_monotonic_decreasing
    assert table.probability.sum() == pytest.approx(1)

    clap = interpreter.clap
    wav = torch.from_numpy(noise(2 * RATE))
    audio = clap.audio_embedding(clap.front_end.log_mel(wav[None]))[0]
    text = clap.encode_text([f"the sound of {label}" for label in table.label])
    cosines = (text @ audio).tolist()
    assert table.similarity.tolist() == pytest.approx(cosines, abs=1e-5)
    scaled = np.exp(clap.logit_scale * np.array(cosines))
    expected = (scaled / scaled.sum()).tolist()
    assert table.probability.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_text_has_one_similarity(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Label or sentence, `classify` and `interpret` give it the same."""
    path = write(tmp_path / "a.wav")
    texts = ["siren", "a siren", "sea  waves", "Rain.", "a dog barks in the rain"]
    table = interpreter.classify_file(path, texts).set_index("label")
    for one in interpreter.interpret_file(path, texts, verify=False):
        found = table.similarity[one.prompt]
        assert found == pytest.approx(one.similarity, abs=1e-5)
    assert table.similarity["siren"] != pytest.approx(table.similarity["a siren"])


def test_classify_leaves_sentences_as_they_are(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """The template is for labels."""
    path = write(tmp_path / "a.wav")
    texts = ["dog", "a dog barks"]
    plain = interpreter.classify_file(path, texts, "I hear {}.").set_index("label")
    filled = interpreter.classify_file(path, ["I hear dog.", "a dog barks"], "{}")
    filled = filled.set_index("label").similarity
    assert plain.similarity["dog"] == pytest.approx(filled["I hear dog."])
    assert plain.similarity["a dog barks"] == pytest.approx(filled["a dog barks"])


def test_classify_refuses(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """No labels, one string for a list, a template that swallows the label."""
    path = write(tmp_path / "a.wav")
    for labels in ([], "dog"):
        with pytest.raises(ValueError, match="list of at least one label"):
            interpreter.classify_file(path, labels)
    with pytest.raises(ValueError, match="has no {} for the label"):
        interpreter.classify_file(path, ["dog"], template="a sound")


# --- waveforms ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "channels"), [(RATE, 1), (22050, 1), (RATE, 2), (22050, 2)]
)
def test_a_waveform_gives_what_its_file_gives(
    interpreter: ZeroShotInterpreter, tmp_path: Path, rate: int, channels: int
) -> None:
    """Array or tensor, one channel or two, at any rate; explained and classified."""
    path = write(tmp_path / "a.wav", rate, 1.1, channels)
    samples = noise(round(1.1 * rate), channels).T
    prompts, labels = ["a dog barking", "rain"], ["dog", "rain", "siren"]
    explained = interpreter.interpret_file(path, prompts)
    classified = interpreter.classify_file(path, labels, "I hear {}.")
    for given in (samples, torch.from_numpy(samples.copy())):
        found = interpreter.interpret_waveform(given, rate, prompts)
        for one, other in zip(found, explained, strict=True):
            assert_same(one, other)
        table = interpreter.classify_waveform(given, rate, labels, "I hear {}.")
        pd.testing.assert_frame_equal(table, classified, atol=1e-5)
    one = interpreter.interpret_waveform(samples, rate, "rain", verify=False)
    assert one.similarity == pytest.approx(explained[1].similarity, abs=1e-5)
    assert one.masked_similarity is None


@pytest.mark.parametrize(
    ("change", "rate", "reason"),
    [
        (lambda wav: np.append(wav, np.nan), RATE, "array: it holds NaN or infinite"),
        (lambda wav: wav[:0], RATE, "array: it is empty"),
        (
            lambda wav: wav[None, None],
            RATE,
            r"pass \[samples\] or \[channels, samples\]",
        ),
        (lambda wav: wav, 0, "a rate is a positive integer in Hz, not 0"),
        (lambda wav: wav, None, "array: its rate is missing"),
    ],
)
def test_waveforms_that_are_refused(
    interpreter: ZeroShotInterpreter,
    change: Callable[[np.ndarray], np.ndarray],
    rate: int | None,
    reason: str,
) -> None:
    """Each in one sentence, by both methods."""
    wav = change(noise(8000))
    with pytest.raises(AudioError, match=reason) as error:
        interpreter.interpret_waveform(wav, rate, "a dog")
    assert "\n" not in str(error.value)
    with pytest.raises(AudioError, match=reason):
        interpreter.classify_waveform(wav, rate, ["dog"])


def test_a_waveform_with_its_rate(interpreter: ZeroShotInterpreter) -> None:
    """In one argument, as libraries return them: what two arguments give."""
    samples, rate = noise(round(1.1 * 22050), 2), 22050
    expected = interpreter.interpret_waveform(samples, rate, "rain")
    classified = interpreter.classify_waveform(samples, rate, ["dog", "rain"])
    for given in ((samples, rate), (rate, torch.from_numpy(samples))):
        assert_same(interpreter.interpret_waveform(given, prompts="rain"), expected)
        table = interpreter.classify_waveform(given, labels=["dog", "rain"])
        pd.testing.assert_frame_equal(table, classified)
    with pytest.raises(AudioError, match="not 'rain': after .samples, rate., name"):
        interpreter.interpret_waveform((samples, rate), "rain")  # type: ignore[call-overload]


def test_an_array_is_no_file(interpreter: ZeroShotInterpreter) -> None:
    """The message names the method that takes it."""
    with pytest.raises(AudioError, match="ndarray: .*interpret_waveform"):
        interpreter.interpret_file(noise(8000), "a dog")  # type: ignore[call-overload]
    with pytest.raises(AudioError, match="Tensor: .*classify_waveform"):
        interpreter.classify_file(torch.zeros(8000), ["a dog"])  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [pd.Series, np.array, pd.Index, tuple, iter])
def test_texts_in_columns(
    interpreter: ZeroShotInterpreter, column: Callable[[list[str]], Any]
) -> None:
    """Of pandas or numpy: a list of them gives the same, wherever texts are taken."""
    texts = ["a dog", "heavy rain", "siren"]
    waveform = noise(9000), RATE
    listed = interpreter.interpret_waveform(waveform, prompts=texts, contrast=texts)
    found = interpreter.interpret_waveform(
        waveform, prompts=column(texts), contrast=column(texts)
    )
    for one, other in zip(found, listed, strict=True):
        assert_same(one, other)
    tables = [
        interpreter.classify_waveform(waveform, labels=labels)
        for labels in (texts, column(texts))
    ]
    pd.testing.assert_frame_equal(*tables)
    tables = [
        interpreter.rank_prompts([waveform], labels)
        for labels in (texts, column(texts))
    ]
    pd.testing.assert_frame_equal(*tables)


# --- batches ------------------------------------------------------------------------


def test_batch_equals_singles(interpreter: ZeroShotInterpreter) -> None:
    """Clips of a batch, with their lengths and prompts, as if they came alone."""
    samples, lengths = 48000, [48000, 16000, 1234]
    wavs = torch.from_numpy(noise(3 * samples)).view(3, samples)
    prompts = ["a dog", "heavy rain", "siren"]
    batch = interpreter.interpret_batch(
        wavs, prompts, torch.tensor(lengths, dtype=torch.float32) / samples
    )
    for wav, length, prompt, one in zip(wavs, lengths, prompts, batch, strict=True):
        assert len(one.waveform) == length
        (single,) = interpreter.interpret_batch(wav[None, :length], prompt)
        assert_same(one, single)


def test_several_prompts_a_clip(interpreter: ZeroShotInterpreter) -> None:
    """Lists of prompts give lists of explanations, in their order."""
    wavs = torch.from_numpy(noise(2 * 9000)).view(2, 9000)
    prompts = [["a dog", "rain"], ["siren"]]
    batch = interpreter.interpret_batch(wavs, prompts, refine=0)
    assert [[one.prompt for one in own] for own in batch] == prompts
    for wav, own in zip(wavs, batch, strict=True):
        for one in own:
            (alone,) = interpreter.interpret_batch(wav[None], one.prompt, refine=0)
            assert_same(one, alone)
    assert interpreter.interpret_batch(wavs, [[], []]) == [[], []]


def test_a_batch_is_a_tensor_or_an_array(interpreter: ZeroShotInterpreter) -> None:
    """NumPy's floats are taken; lists and integers are refused with what to give."""
    samples = noise(2 * 9000).reshape(2, 9000)
    expected = interpreter.interpret_batch(torch.from_numpy(samples), "a dog")
    for given in (samples, samples.astype(np.float64)):
        batch = interpreter.interpret_batch(given, "a dog")
        for one, other in zip(batch, expected, strict=True):
            assert_same(one, other)
    with pytest.raises(TypeError, match="wavs is a list; give a tensor or an array"):
        interpreter.interpret_batch(list(torch.from_numpy(samples)), "a dog")
    with pytest.raises(TypeError, match="wavs holds torch.int16; give floating-point"):
        interpreter.interpret_batch((samples * 32767).astype(np.int16), "a dog")


def test_a_batch_at_another_rate(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """With its rate it is as a file; without, a warning has the rate that is taken."""
    path = write(tmp_path / "a.wav", 22050, 1.1)
    wavs = noise(round(1.1 * 22050))[None]
    (one,) = interpreter.interpret_batch(wavs, "rain", sample_rate=22050)
    assert_same(one, interpreter.interpret_file(path, "rain"))
    with pytest.warns(UserWarning, match="wavs: without a rate .* 32000 Hz") as found:
        interpreter.interpret_batch(wavs, "rain", verify=False)
    assert [one.filename for one in found] == [__file__]
    with pytest.warns(UserWarning, match="recording 1: without a rate"):
        interpreter.rank_prompts([torch.from_numpy(wavs[0])], ["rain"])


def test_a_clip_that_is_not_finite(interpreter: ZeroShotInterpreter) -> None:
    """The message says which; beyond its length, it does not count."""
    wavs = torch.rand(2, 9000)
    wavs[1, -1] = float("nan")
    with pytest.raises(AudioError, match="wavs: clip 2 of 2 holds NaN"):
        interpreter.interpret_batch(wavs, "rain", sample_rate=RATE)
    lens = torch.tensor([1.0, 0.9])
    interpreter.interpret_batch(wavs, "rain", lens, verify=False, sample_rate=RATE)


def test_one_prompt_for_all(interpreter: ZeroShotInterpreter) -> None:
    """A string is the prompt of every clip; verify=False reaches each of them."""
    wavs = torch.rand(2, 9000) - 0.5
    batch = interpreter.interpret_batch(wavs, "a dog", verify=False)
    assert [one.prompt for one in batch] == ["a dog", "a dog"]
    assert all(one.masked_similarity is None for one in batch)


def test_file_equals_batch(interpreter: ZeroShotInterpreter, tmp_path: Path) -> None:
    """A file and its samples are interpreted alike."""
    path = write(tmp_path / "a.wav", seconds=0.9)
    wavs = torch.from_numpy(noise(round(0.9 * RATE)))[None]
    (one,) = interpreter.interpret_batch(wavs, ["a dog"])
    assert_same(one, interpreter.interpret_file(path, "a dog"))


@pytest.mark.parametrize("length", [1, 2, 3, 4999, 15999, 16000])
def test_relative_lengths_are_rounded(
    interpreter: ZeroShotInterpreter, length: int
) -> None:
    """A length survives being made relative in float32."""
    lens = torch.tensor([length / 16000, 1.0])
    batch = interpreter.interpret_batch(torch.rand(2, 16000), "a", lens, verify=False)
    assert [len(one.waveform) for one in batch] == [length, 16000]


def test_numbers_that_do_not_fit(interpreter: ZeroShotInterpreter) -> None:
    """Prompts and lengths are one for each clip; waveforms are [B, samples]."""
    wavs = torch.rand(2, 8000)
    with pytest.raises(ValueError, match="2 clips, but 3 prompts"):
        interpreter.interpret_batch(wavs, ["a", "b", "c"])
    with pytest.raises(ValueError, match="2 clips, but 1 prompts"):
        interpreter.interpret_batch(wavs, ["a"])
    with pytest.raises(ValueError, match="2 clips, but 1 wav_lens"):
        interpreter.interpret_batch(wavs, "a", torch.ones(1))
    with pytest.raises(ValueError, match=r"\[B, samples\], not \(8000,\)"):
        interpreter.interpret_batch(wavs[0], "a")


def test_forward_is_interpret_batch(interpreter: ZeroShotInterpreter) -> None:
    """Calling the interpreter does the same, with the same arguments."""
    forward = inspect.signature(ZeroShotInterpreter.forward)
    assert forward == inspect.signature(ZeroShotInterpreter.interpret_batch)
    wavs, lens = torch.rand(2, 8000), torch.tensor([1.0, 0.5])
    called = interpreter(wavs, ["a dog", "rain"], wav_lens=lens, verify=True)
    batch = interpreter.interpret_batch(wavs, ["a dog", "rain"], lens)
    for one, other in zip(called, batch, strict=True):
        assert_same(one, other)


# --- loading ------------------------------------------------------------------------


def test_loading_writes_nothing_and_asks_nobody(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is read in place: no file, no link, no connection."""

    def refuse(*args: Any) -> None:
        raise AssertionError(f"a connection to {args[1:]}")

    def content() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in source.rglob("*")}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = content()
    ZeroShotInterpreter.from_hparams(str(source), savedir=tmp_path / "saved")
    assert content() == before
    assert list(tmp_path.iterdir()) == []


def test_folder_can_be_moved_and_named_relatively(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLAP is found beside hyperparams.yaml, wherever that lies."""
    shutil.copytree(source, tmp_path / "here" / "moved")
    monkeypatch.chdir(tmp_path)
    moved = ZeroShotInterpreter.from_hparams("here/moved")
    wavs = torch.rand(1, 8000)
    original = ZeroShotInterpreter.from_hparams(source)
    assert_same(moved(wavs, "a dog")[0], original(wavs, "a dog")[0])


def test_default_source(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a source the embedded default is loaded."""
    package = tmp_path / "lmaczs"
    shutil.copytree(source, package / "pretrained" / "lmaczs_small")
    shipped = str(package / "utils" / "shipped.py")
    monkeypatch.setattr(lmaczs.utils.shipped, "__file__", shipped)
    one = ZeroShotInterpreter.from_hparams()
    assert one.hparams.source_folder == str(package / "pretrained" / "lmaczs_small")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_device(source: Path, device: str | torch.device | None) -> None:
    """A device is named by a string or a torch.device; None is SpeechBrain's choice."""
    loaded = ZeroShotInterpreter.from_hparams(source, run_opts={"device": device})
    if device is not None:
        assert loaded.clap.device == torch.device("cpu")
    (one,) = loaded(torch.rand(1, 8000), "a dog")
    assert one.mask.device.type == "cpu"


def test_bf16_is_the_encoders(source: Path, interpreter: ZeroShotInterpreter) -> None:
    """Numbers change in the third digit, refinement works, tensors stay float32."""
    coarse = ZeroShotInterpreter.from_hparams(source, run_opts={"precision": "bf16"})
    for refine in (0, 2):
        waveform = noise(2 * RATE), RATE
        one = coarse.interpret_waveform(waveform, prompts="rain", refine=refine)
        other = interpreter.interpret_waveform(waveform, prompts="rain", refine=refine)
        assert one.mask.dtype == one.waveform.dtype == torch.float32
        assert 0 < abs(one.similarity - other.similarity) < 0.02
        assert one.similarity != float(torch.tensor(one.similarity).bfloat16())
    table = coarse.classify_waveform(waveform, labels=["rain", "dog"])
    assert one.similarity in table.similarity.tolist()
    log_mel = coarse.clap.front_end.log_mel(torch.as_tensor(noise(2 * RATE))[None])
    norm = coarse.clap.audio_embedding(log_mel).norm()
    assert float(norm) == pytest.approx(1, abs=1e-6)


def test_compiled_encoder_keeps_its_names(
    source: Path, interpreter: ZeroShotInterpreter
) -> None:
    """By a run option of SpeechBrain; the code itself is test_gpu.py's."""
    compiled = ZeroShotInterpreter.from_hparams(source, run_opts={"compile": True})
    assert isinstance(compiled.clap, FrozenClap)
    assert set(compiled.clap.state_dict()) == set(interpreter.clap.state_dict())
    given = noise(2 * RATE), RATE, "rain"
    with torch.compiler.set_stance("force_eager"):
        one = compiled.interpret_waveform(*given, refine=0)
    other = interpreter.interpret_waveform(*given, refine=0)
    assert one.similarity == pytest.approx(other.similarity, abs=1e-5)


def test_speechbrains_arguments_need_trust(source: Path) -> None:
    """Those of the loader that runs what a folder names, and not freeze_params."""
    with pytest.raises(InputError, match="hparams_file is an argument of SpeechBrain"):
        ZeroShotInterpreter.from_hparams(source, hparams_file="hyperparams.yaml")
    loaded = ZeroShotInterpreter.from_hparams(
        source, hparams_file="hyperparams.yaml", trust_remote_code=True
    )
    assert loaded.hparams.template == TEMPLATE


def test_what_exports_do_not_name_is_run_if_it_is_trusted(
    source: Path, tmp_path: Path
) -> None:
    """By SpeechBrain; a folder's values are no run options otherwise."""
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    text = (folder / "hyperparams.yaml").read_text()
    (folder / "hyperparams.yaml").write_text(text + "compile: true\n")
    assert not ZeroShotInterpreter.from_hparams(folder).compile
    (folder / "hyperparams.yaml").write_text(text + "process: !apply:os.getpid\n")
    with pytest.raises(ForeignCodeError, match="line .*: !apply:os.getpid is none"):
        ZeroShotInterpreter.from_hparams(folder)
    trusted = ZeroShotInterpreter.from_hparams(folder, trust_remote_code=True)
    assert trusted.hparams.process == os.getpid()


def test_a_folder_has_no_revision(source: Path) -> None:
    """A pinned folder would be pinned in name alone."""
    with pytest.raises(InputError, match="only a repository of the Hub"):
        ZeroShotInterpreter.from_hparams(source, revision="1234567")


def test_overrides(
    source: Path, interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Values of hyperparams.yaml can be replaced, and only those."""
    given = {"template": "{}", "model_name": "another"}
    loaded = ZeroShotInterpreter.from_hparams(source, overrides=given)
    assert given == {"template": "{}", "model_name": "another"}
    path = write(tmp_path / "a.wav")
    one = loaded.interpret_file(path, "I hear dog.")
    assert one.model == "another"
    assert_same(one, interpreter.interpret_file(path, "I hear dog."))
    with pytest.raises((KeyError, ValueError), match="no_such_key"):
        ZeroShotInterpreter.from_hparams(source, overrides={"no_such_key": 1})


def test_clap_source_may_be_overridden(source: Path, tiny_clap_folder: Path) -> None:
    """The CLAP may lie elsewhere."""
    loaded = ZeroShotInterpreter.from_hparams(
        source, overrides={"clap_source": str(tiny_clap_folder)}
    )
    assert loaded.clap.front_end.sample_rate == RATE


@pytest.mark.parametrize("freeze", [True, False])
def test_stays_in_eval_mode(source: Path, freeze: bool) -> None:
    """Neither CLAP nor decoder is left in training mode, also without freezing."""
    loaded = ZeroShotInterpreter.from_hparams(source, freeze_params=freeze)
    assert not any(module.training for module in loaded.modules())
    assert not any(p.requires_grad for p in loaded.clap.parameters())
    assert any(p.requires_grad for p in loaded.parameters()) is not freeze


@pytest.mark.parametrize(
    "missing", ["missing", "./missing", "a/b/missing", "owner/missing", Path("missing")]
)
def test_missing_folder(
    missing: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is neither a folder nor a repository is named in one sentence."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="there is no folder .*missing"
    ) as error:
        ZeroShotInterpreter.from_hparams(missing)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_yaml(tmp_path: Path) -> None:
    """A folder that is no export is refused, and the error names the fix."""
    with pytest.raises(FileNotFoundError, match="no hyperparams.yaml; `lmaczs export`"):
        ZeroShotInterpreter.from_hparams(tmp_path)


def test_folder_without_clap(broken: Callable[..., Path]) -> None:
    """A CLAP that is gone is named."""
    folder = broken("clap_source: clap", "clap_source: gone")
    with pytest.raises(FileNotFoundError, match="gone"):
        ZeroShotInterpreter.from_hparams(folder)


def test_decoder_of_another_width(broken: Callable[..., Path]) -> None:
    """Weights that do not fit are refused in one clear sentence, not half loaded."""
    folder = broken("width: 8", "width: 16")
    with pytest.raises(ValueError, match="weights of another decoder") as error:
        ZeroShotInterpreter.from_hparams(folder)
    message = str(error.value)
    assert "decoder.safetensors" in message
    assert "width" in message
    assert "\n" not in message


def test_yaml_without_decoder(broken: Callable[..., Path]) -> None:
    """A YAML that names no decoder among its modules is refused."""
    folder = broken("    decoder: !ref <decoder>\npretrainer", "pretrainer")
    with pytest.raises(ValueError, match="names no module 'decoder'"):
        ZeroShotInterpreter.from_hparams(folder)


def test_yaml_without_template(broken: Callable[..., Path]) -> None:
    """A YAML that lacks a value is refused by its name."""
    folder = broken(f"template: {TEMPLATE}\n", "")
    with pytest.raises(ValueError, match="template"):
        ZeroShotInterpreter.from_hparams(folder)


# --- refinement ---------------------------------------------------------------------


def ranked(interpreter: ZeroShotInterpreter, wav: Tensor) -> list[str]:
    """Reference prompts, the most similar to a waveform first."""
    template = interpreter.hparams.template
    text = reference_text(interpreter.clap, template)
    order = similarities(interpreter.clap, wav, text).argsort(descending=True)
    return [template.format(reference_names()[place]) for place in order.tolist()]


def test_presence_is_the_rank_among_the_references(
    interpreter: ZeroShotInterpreter,
) -> None:
    """Of a reference prompt itself: how many are below it, in the same template."""
    wav = torch.from_numpy(noise(RATE))
    order = ranked(interpreter, wav)
    prompts = [order[place] for place in (1, 260, 519)]
    found = interpreter.interpret_waveform(wav, RATE, prompts, refine=0)
    expected = [(520 - place) / 521 for place in (1, 260, 519)]
    # several names may be one to this tokenizer, and ties do not count
    assert [one.presence for one in found] == pytest.approx(expected, abs=5 / 521)


def test_steps_of_refinement(interpreter: ZeroShotInterpreter) -> None:
    """0 leaves the decoder's mask, N takes N steps, auto at most eight."""
    wav = torch.from_numpy(noise(RATE))
    prompt = ranked(interpreter, wav)[0]
    first = interpreter.interpret_waveform(wav, RATE, prompt, refine=0)
    assert first.refine_steps == 0 and first.presence > 0.95
    five = interpreter.interpret_waveform(wav, RATE, prompt, refine=5)
    assert five.refine_steps == 5
    assert five.presence == first.presence
    auto = interpreter.interpret_waveform(wav, RATE, prompt)
    assert auto.refine_steps <= 8
    assert auto.masked_similarity is not None and first.masked_similarity is not None
    assert auto.masked_similarity >= first.masked_similarity - 1e-4


def test_without_verification_nothing_is_refined(
    interpreter: ZeroShotInterpreter,
) -> None:
    """Unless a number of steps is given."""
    wav = torch.from_numpy(noise(RATE))
    prompt = ranked(interpreter, wav)[0]
    auto = interpreter.interpret_waveform(wav, RATE, prompt, verify=False)
    never = interpreter.interpret_waveform(wav, RATE, prompt, refine=0)
    assert torch.equal(auto.mask, never.mask)
    two = interpreter.interpret_waveform(wav, RATE, prompt, verify=False, refine=2)
    assert two.refine_steps == 2 and two.masked_similarity is None


def test_absent_prompts_are_empty(interpreter: ZeroShotInterpreter) -> None:
    """By rank, whatever the decoder draws; the decoder's own mask is kept with 0."""
    wav = torch.from_numpy(noise(RATE))
    prompt = ranked(interpreter, wav)[-1]
    assert interpreter.interpret_waveform(wav, RATE, prompt).empty
    assert not interpreter.interpret_waveform(wav, RATE, prompt, refine=0).empty


@pytest.mark.parametrize("refine", [-1, "off", 1.5, True, None])
def test_refine_is_auto_or_a_number(
    interpreter: ZeroShotInterpreter, refine: object
) -> None:
    """Anything else is refused before any work."""
    with pytest.raises(ValueError, match='^refine is .*: give "auto", 0 for no'):
        interpreter.interpret_batch(torch.rand(1, 900), "dog", refine=refine)  # type: ignore[call-overload]


# --- without a decoder --------------------------------------------------------------


@pytest.mark.parametrize(
    ("geometry", "fused"), [("small", False), ("full", False), ("full", True)]
)
def test_any_clap_is_explained(
    make_clap_folder: Callable[..., Path], geometry: str, fused: bool
) -> None:
    """Masks are fitted; everything else is as with a decoder, longer clips too."""
    interpreter = ZeroShotInterpreter.from_clap(
        make_clap_folder(geometry, fused), {"device": torch.device("cpu")}
    )
    assert interpreter.decoder is None
    rate = interpreter.sample_rate
    wav = torch.from_numpy(noise(rate * 12 if geometry == "small" else rate * 2))
    best = ranked(interpreter, wav)[0]
    one, other = interpreter.interpret_waveform(wav, rate, [best, "I hear a dog"])
    assert 0 < one.mask.mean() < 1
    assert one.presence > 0.95 and one.refine_steps <= 8
    assert "fitted" in one.model
    torch.testing.assert_close(one.input, wav, atol=1e-5, rtol=0)
    assert other.prompt == "I hear a dog"
    quick = interpreter.interpret_waveform(wav, rate, best, verify=False)
    assert_close_masks(quick.mask, one.mask)
    start = interpreter.interpret_waveform(wav, rate, best, refine=0)
    assert start.refine_steps == 0 and 0 < start.mask.mean() < 1


def assert_close_masks(one: Tensor, other: Tensor) -> None:
    """Equal but for cells at the threshold, which rounding may move."""
    assert ((one - other).abs() > 1e-2).float().mean() < 1e-2


def test_a_clap_that_cannot_be_listened_to(
    make_clap_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A sparse STFT is refused with the folder's name; so is what is no checkpoint."""
    folder = make_clap_folder()
    settings = folder / "processor_config.json"
    sparse = json.loads(settings.read_text("utf-8"))
    sparse["feature_extractor"]["hop_length"] = 1600
    settings.write_text(json.dumps(sparse), "utf-8")
    reason = f"^{folder} cannot be explained: hop_length 1600 is more than half"
    with pytest.raises(ValueError, match=reason):
        ZeroShotInterpreter.from_clap(folder)
    with pytest.raises(FileNotFoundError, match="holds no CLAP checkpoint"):
        ZeroShotInterpreter.from_clap(tmp_path)


# --- prompts -------------------------------------------------------------------------


def test_doubtful_prompts_are_warned_of(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """In the interpretation and in explanation.json; the prompt stays as given."""
    wav = torch.randn(RATE)
    one, plain = interpreter.interpret_waveform(
        wav, RATE, ["clock_tick", "clock tick"], verify=False
    )
    assert one.prompt == "clock_tick"
    assert one.similarity == pytest.approx(plain.similarity, abs=1e-6)
    assert one.warnings == ("underscores are read as blanks",)
    assert one.warnings == interpreter.prompt_warnings("clock_tick")
    assert plain.warnings == ()
    written = json.loads(one.save(tmp_path)["explanation.json"].read_text())
    assert written["warnings"] == list(one.warnings)


def test_wordings_have_the_numbers_of_interpretations(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Of files and waveforms, short and long; silence has no presence."""
    sounds = [torch.randn(n) / 10 for n in (RATE, 7 * RATE)] + [torch.zeros(RATE)]
    path = tmp_path / "a.wav"
    soundfile.write(path, sounds[0].numpy(), RATE, subtype="FLOAT")
    prompts = ["dog", "a cat"]
    table = interpreter.rank_prompts([path, *sounds[1:]], prompts)
    names = [str(path), "recording 2", "recording 3"]
    assert table.file.tolist() == [name for name in names for _ in prompts]
    for name, wav in zip(names, sounds, strict=True):
        own = table[table.file == name].set_index("prompt")
        for one in interpreter.interpret_waveform(wav, RATE, prompts, verify=False):
            assert own.similarity[one.prompt] == pytest.approx(one.similarity, abs=1e-5)
            rank = np.nan if one.presence is None else one.presence
            assert own.presence[one.prompt] == pytest.approx(
                rank, abs=1e-5, nan_ok=True
            )


def test_wordings_that_cannot_be_ranked(interpreter: ZeroShotInterpreter) -> None:
    """One sentence for each."""
    wavs = [torch.randn(RATE), torch.randn(RATE)]
    for recordings, prompts, present, message in (
        (wavs, "dog", None, "list of wordings"),
        (wavs, [], None, "list of wordings"),
        ([], ["dog"], None, "no recording"),
        (wavs, ["dog"], [True], "1 values for 2 recordings"),
        (wavs, ["dog"], [True, True], "both true and false"),
    ):
        with pytest.raises(ValueError, match=message):
            interpreter.rank_prompts(recordings, prompts, present)


def test_a_recording_beyond_the_band_says_so(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """In a file and in memory, for every prompt; clips without a prompt are none."""
    rate = 8 * RATE
    call = 0.5 * np.sin(2 * np.pi * 60000 * np.arange(rate) / rate)
    call = (call + 1e-3 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype("f")
    path = tmp_path / "bat.wav"
    soundfile.write(path, call, rate, subtype="FLOAT")
    for found in (
        interpreter.interpret_file(path, ["dog", "rain"]),
        interpreter.interpret_waveform(call, rate, ["dog", "rain"]),
    ):
        for one in found:
            assert len(one.warnings) == 1
            assert one.warnings[0].startswith("less than 1 % of the recording's power")
    none, silent = interpreter.interpret_batch(np.zeros((2, RATE), "f"), [[], ["dog"]])
    assert none == []
    assert silent[0].warnings == ("the recording is digital silence",)
    assert silent[0].presence is None and silent[0].verdict == "not heard"


def test_a_truncated_recording_warns_or_is_refused(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """In the results of a file and of blocks; tables come with a warning."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, RATE), RATE)
    path.write_bytes(path.read_bytes()[:-1000])
    one = interpreter.interpret_file(path, "dog", verify=False)
    assert len(one.warnings) == 1 and one.warnings[0].startswith("it is truncated")
    expected = f"{path}: {one.warnings[0]}"
    with pytest.warns(AudioWarning) as caught:
        interpreter.interpret_to(tmp_path, path, "dog", verify=False)
        interpreter.classify_file(path, ["dog", "rain"])
        interpreter.scan_file(path, "dog")
        interpreter.find_events(path, "dog")
    assert [str(one.message) for one in caught] == 4 * [expected]
    written = json.loads((tmp_path / "explanation.json").read_text())
    assert written["warnings"] == list(one.warnings)
    for method, more in (
        (interpreter.interpret_file, "dog"),
        (interpreter.scan_file, "dog"),
        (interpreter.find_events, "dog"),
        (interpreter.classify_file, ["dog"]),
        (partial(interpreter.interpret_to, tmp_path / "none"), "dog"),
    ):
        with pytest.raises(AudioError, match=f"{path}: it is truncated"):
            method(path, more, strict=True)
    assert not (tmp_path / "none").exists()


def test_levels_that_cannot_be_meant_are_warnings(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Of a file, a waveform and a batch alike; a channel that is read alone is not."""
    noise = np.random.default_rng(0).uniform(-9e3, 9e3, RATE).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise, noise / 3e4], 1), RATE, subtype="FLOAT")
    options = {"verify": False, "refine": 0}
    loud = [
        interpreter.interpret_file(path, "dog", **options),
        interpreter.interpret_waveform(noise, RATE, "dog", **options),
        *interpreter.interpret_batch(noise[None], "dog", sample_rate=RATE, **options),
    ]
    for one in loud:
        assert "full scale is 1: divide by 32768" in one.warnings[0]
    assert interpreter.interpret_file(path, "dog", channel=2, **options).warnings == ()


# --- contrast, and recordings as prompts ---------------------------------------------


def sounds(seconds: float = 2) -> Tensor:
    """A tone in noise, alike in every test."""
    time = torch.arange(int(seconds * RATE)) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.02 * noise + 0.3 * torch.sin(2 * torch.pi * 900 * time) * (time % 1 < 0.4)


def present_pair(interpreter: ZeroShotInterpreter, wav: Tensor) -> tuple[str, str]:
    """The two reference names that are most present in a sound, as sentences."""
    names = [interpreter.hparams.template.format(one) for one in reference_names()]
    table = interpreter.classify_waveform(wav, RATE, names)
    return table.label[0], table.label[1]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("refine", [0, "auto", 2])
def test_contrast_scores_margins(
    interpreter: ZeroShotInterpreter, tiny_clap_folder: Path, fitted: bool, refine: Any
) -> None:
    """In input, explanation and residual, as an encoding of each gives them."""
    if fitted:
        interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder, template=TEMPLATE)
    wav, clap = sounds(), interpreter.clap
    pair = present_pair(interpreter, wav)
    for one, other in zip(
        interpreter.interpret_waveform(wav, RATE, pair, refine=refine, contrast=pair),
        pair[::-1],
        strict=True,
    ):
        assert one.contrast == (other,)
        text = clap.encode_text([one.prompt, other])
        parts = (one.input, one.waveform, one.residual)
        found = (one.margin, one.masked_margin, one.residual_margin)
        for sound, margin in zip(parts, found, strict=True):
            embedding = clap.audio_embedding(clap.front_end.log_mel(sound[None]))[0]
            first, second = (text @ embedding).tolist()
            assert margin == pytest.approx(first - second, abs=1e-4)
        if one.margin > 0:
            assert one.margin_kept == pytest.approx(one.masked_margin / one.margin)
        else:
            assert one.margin_kept is None
        steps = {0: 0, "auto": 8, 2: 2}[refine]
        assert one.refine_steps == steps
        if refine == "auto":
            assert one.masked_margin > one.margin > one.residual_margin


def test_contrast_of_long_and_silent_windows(interpreter: ZeroShotInterpreter) -> None:
    """A long recording in windows; absent prompts and silence get nothing."""
    wav = torch.cat([sounds(4), torch.zeros(6 * RATE)])
    first, second = present_pair(interpreter, wav)
    one = interpreter.interpret_waveform(wav, RATE, first, refine=1, contrast=second)
    assert one.mask.shape[1] > 251 and one.masked_margin is not None
    assert float(one.mask[:, 400:].max()) < 1e-6
    silent = interpreter.interpret_waveform(0 * wav, RATE, first, contrast=second)
    assert silent.margin is None and silent.empty and silent.verdict == "not heard"
    assert silent.margin_kept is None


def test_contrast_of_a_batch(interpreter: ZeroShotInterpreter) -> None:
    """One for all clips, as for each alone."""
    wavs = torch.stack([sounds(1), sounds(1).flip(0)])
    pair = present_pair(interpreter, wavs[0])
    batch = interpreter.interpret_batch(wavs, pair[0], refine=1, contrast=pair[1])
    for wav, one in zip(wavs, batch, strict=True):
        alone = interpreter.interpret_waveform(
            wav, RATE, pair[0], refine=1, contrast=pair[1]
        )
        assert one.margin == pytest.approx(alone.margin, abs=1e-5)
        assert torch.allclose(one.mask, alone.mask, atol=1e-3)


def test_contrasts_that_are_refused(interpreter: ZeroShotInterpreter) -> None:
    """None, and one that is the prompt itself, in other words or not."""
    wav = sounds(1)
    for contrast, message in (
        ([], "contrast is empty"),
        ("dog", "the same as"),
        (["dog", "I hear dog."], "the same as"),
        ([" "], "prompt is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            interpreter.interpret_waveform(wav, RATE, "dog", contrast=contrast)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_recording_is_a_prompt(
    interpreter: ZeroShotInterpreter,
    tiny_clap_folder: Path,
    tmp_path: Path,
    fitted: bool,
) -> None:
    """Its embedding stands for a text's; presence is that of the nearest references."""
    if fitted:
        interpreter = ZeroShotInterpreter.from_clap(tiny_clap_folder, template=TEMPLATE)
    clap, wav = interpreter.clap, sounds()
    path = tmp_path / "my prompt.wav"
    like = sounds(7)  # two windows
    soundfile.write(path, like.numpy(), RATE, subtype="FLOAT")
    one = interpreter.interpret_waveform(wav, RATE, prompt_audio=path)
    assert one.prompt == "my prompt.wav" and one.prompt_audio == str(path)
    parts = clap.front_end.log_mel(torch.stack([like[: 5 * RATE], like[-5 * RATE :]]))
    prompt = clap.audio_embedding(parts).mean(0)
    prompt = prompt / prompt.norm()
    references = reference_text(clap, TEMPLATE)
    near = (references @ prompt).topk(3).indices
    for sound, similarity, rank in (
        (wav, one.similarity, one.presence),
        (one.waveform, one.masked_similarity, one.masked_presence),
        (one.residual, one.residual_similarity, one.residual_presence),
    ):
        embedding = clap.audio_embedding(clap.front_end.log_mel(sound[None]))[0]
        assert similarity == pytest.approx(float(embedding @ prompt), abs=2e-3)
        cosines = references @ embedding
        ranks = [(cosines < cosines[k]).double().mean().item() for k in near]
        assert rank == pytest.approx(sum(ranks) / 3, abs=2e-2)


def test_recordings_that_are_no_prompts(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Silence, a missing file; and arguments that exclude each other."""
    soundfile.write(tmp_path / "none.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "a.wav", np.random.randn(RATE) / 9, RATE)
    wav = sounds(1)
    for path, message in (("none.wav", "silence to the model"), ("b.wav", "b.wav")):
        with pytest.raises(AudioError, match=message):
            interpreter.interpret_waveform(wav, RATE, prompt_audio=tmp_path / path)
    options: dict[str, Any] = {"prompt_audio": tmp_path / "a.wav"}
    with pytest.raises(ValueError, match="either prompts or prompt_audio"):
        interpreter.interpret_waveform(wav, RATE, "dog", **options)
    with pytest.raises(ValueError, match="either prompts or prompt_audio"):
        interpreter.interpret_waveform(wav, RATE)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="contrast is for prompts in words"):
        interpreter.interpret_waveform(wav, RATE, contrast="dog", **options)
