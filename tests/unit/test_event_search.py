"""event_search.py: known events are found, wherever windows fall."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from lmaczs import ZeroShotInterpreter
from lmaczs.audio.io import save_audio
from lmaczs.demo.scenes import render
from lmaczs.events import EventRule
from lmaczs.hub import default_source
from lmaczs.overview import Overview
from lmaczs.utils.errors import InputError

RATE = 32000
PROMPTS = ["dog", "siren", "church bells"]
TRUTH = {"dog": 12.0, "siren": 23.4}  # where their five seconds begin


@pytest.fixture(scope="module")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def recording() -> Tensor:
    """Forty seconds of faint noise with a dog and a siren."""
    wav = 0.001 * torch.randn(40 * RATE, generator=torch.Generator().manual_seed(0))
    for name, start in TRUTH.items():
        sound = render(name, RATE, 5.0, seed=0).float()
        wav[round(start * RATE) :][: len(sound)] += sound
    return wav


def found_in(
    wav: Tensor, folder: Path, interpreter: ZeroShotInterpreter, **options: object
) -> pd.DataFrame:
    """Events of a recording, without refinement."""
    path = save_audio(folder / "a.wav", wav, RATE)
    rule = EventRule(**options)  # type: ignore[arg-type]
    return interpreter.find_events(path, PROMPTS, refine=0, rule=rule)


def test_known_events_are_found(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """Each once, within .7 s, in the band of the sound; nothing else is."""
    found = found_in(recording, tmp_path, interpreter)
    assert found.prompt.tolist() == ["dog", "siren"]
    for event, (name, start) in zip(found.itertuples(), TRUTH.items(), strict=True):
        sound = render(name, RATE, 5.0, seed=0)
        loud = (sound.abs() > 0.02).nonzero()[[0, -1], 0] / RATE + start
        assert [event.start, event.stop] == pytest.approx(loud.tolist(), abs=0.7)
        assert 200 < event.low_hz < event.high_hz < 5000
        assert event.similarity > 0.5 and event.presence >= 0.99
        assert 0 < event.mass < 1


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.2])
def test_events_do_not_depend_on_where_windows_fall(
    recording: Tensor, shift: float, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """A recording that begins later has the same events, within .1 s."""
    found = found_in(recording, tmp_path, interpreter)
    later = found_in(recording[round(shift * RATE) :], tmp_path, interpreter)
    assert later.prompt.tolist() == found.prompt.tolist()
    for name in ("start", "stop"):
        values = (later[name] + shift).tolist()
        assert values == pytest.approx(found[name].tolist(), abs=0.1)
    cosines = later.similarity.tolist()
    assert cosines == pytest.approx(found.similarity.tolist(), abs=0.05)


def test_options_of_the_rule_count(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """An impossible presence or length leaves nothing."""
    assert found_in(recording, tmp_path, interpreter, min_length=9).empty
    assert found_in(torch.zeros(7 * RATE), tmp_path, interpreter).empty


def test_explanations_come_with_their_events(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """The sound of an event is that of the window around it, refined where needed."""
    path = save_audio(tmp_path / "a.wav", recording, RATE)
    found = list(interpreter.explain_events(path, PROMPTS))
    assert [one.event.prompt for one in found] == ["dog", "siren"]
    for one in found:
        first = round(one.window_start * RATE)
        sound = one.explanation.input
        own = recording[first : first + len(sound)]
        torch.testing.assert_close(sound, own, atol=1e-5, rtol=0)
        middle = (one.event.start + one.event.stop) / 2
        assert abs(middle - one.window_start - len(sound) / RATE / 2) < 0.5
        assert one.explanation.verdict == "kept"
        mask, per_second = one.explanation.mask, RATE / one.explanation.hop_length
        time = one.window_start + torch.arange(mask.shape[1]) / per_second
        inside = (one.event.start < time) & (time < one.event.stop)
        filters = interpreter.clap.front_end.mel_filters
        bands = (filters / filters.sum(0)).T @ mask[:, inside]
        assert one.event.mass == pytest.approx(float(bands.mean()), abs=1e-4)


def test_masks_are_fitted_without_a_decoder(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """A CLAP alone finds the events, too."""
    fitted = ZeroShotInterpreter.from_clap(
        default_source().with_name("clap_small"), run_opts={"device": "cpu"}
    )
    path = save_audio(tmp_path / "a.wav", recording[20 * RATE : 32 * RATE], RATE)
    found = fitted.find_events(path, "siren")
    assert len(found) == 1
    assert found.start[0] == pytest.approx(3.4, abs=1.0)


def test_an_explanation_has_the_events_that_are_found(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """By its own mask: where the search has them; none of what is not heard."""
    path = save_audio(tmp_path / "a.wav", recording, RATE)
    found = interpreter.find_events(path, PROMPTS, refine=0)
    explained = interpreter.interpret_file(path, PROMPTS, refine=0)
    assert [len(one.events) for one in explained] == [1, 1, 0]
    for row, one in zip(found.itertuples(), explained[:2], strict=True):
        event = one.events.iloc[0]
        assert list(one.events) == list(found)
        assert one.events.dtypes.equals(found.dtypes)
        limits = event.start, event.stop
        assert limits == pytest.approx((row.start, row.stop), abs=0.35)
        assert event.low_hz == pytest.approx(row.low_hz, abs=200)
        assert event.mass == pytest.approx(row.mass, abs=0.1)


def test_events_of_every_kind_of_explanation(
    recording: Tensor, interpreter: ZeroShotInterpreter
) -> None:
    """Of batches, whose clips end before the batch, of contrasts and fitted masks."""
    siren = recording[24 * RATE : 27 * RATE]
    padded = torch.stack(
        [torch.cat([siren, 0 * siren]), recording[22 * RATE :][: 6 * RATE]]
    )
    lengths = torch.tensor([0.5, 1.0])
    single = interpreter.interpret_waveform((siren, RATE), prompts="siren")
    batch = interpreter.interpret_batch(padded, "siren", lengths, sample_rate=RATE)
    pd.testing.assert_frame_equal(single.events, batch[0].events, atol=1e-4)
    assert single.events.stop.max() <= 3.0
    assert batch[1].events.start.min() == pytest.approx(1.4, abs=0.7)
    against = interpreter.interpret_waveform(
        (padded[1], RATE), prompts="siren", contrast="dog"
    )
    fitted = ZeroShotInterpreter.from_clap(
        default_source().with_name("clap_small"), run_opts={"device": "cpu"}
    ).interpret_waveform((padded[1], RATE), prompts=["siren", "church bells"])
    # the mask of a contrast keeps what is faint, too
    assert set(against.events.prompt) == {"siren"}
    assert len(fitted[0].events) and fitted[0].events.start.min() > 0.5
    assert fitted[1].events.empty


def test_prompts_against_others_and_recordings_as_prompts(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """A siren is none where an alarm is more similar; a dog is found by another."""
    path = save_audio(tmp_path / "a.wav", recording, RATE)
    like = save_audio(tmp_path / "b.wav", render("dog", RATE, 5.0, seed=1), RATE)
    loose = EventRule(presence=0.9, exclusive=False)
    options = {"refine": 0, "rule": loose}
    alone = interpreter.find_events(path, ["dog", "siren"], **options)
    assert {"dog", "siren"} <= set(alone.prompt)
    against = list(
        interpreter.explain_events(
            path, ["dog", "siren"], **options, contrast="a siren wailing"
        )
    )
    by_prompt = {one.event.prompt: one.explanation for one in against}
    assert by_prompt["dog"].margin > 0
    assert by_prompt["dog"].contrast == ("a siren wailing",)
    table = interpreter.scan_file(path, "siren", contrast="a siren wailing")
    ahead = (table.margin > 0)[table.start.between(22, 26)]
    assert ahead.any() == ("siren" in by_prompt)
    similar = list(interpreter.explain_events(path, prompt_audio=like, **options))
    assert {one.event.prompt for one in similar} == {"b.wav"}
    assert any(11.5 < one.event.start < 17 for one in similar)
    assert similar[0].explanation.prompt_audio == str(like)
    both = interpreter.find_events(path, "siren", prompt_audio=[like], **options)
    assert set(both.prompt) == {"siren", "b.wav"}
    alone = interpreter.find_events(path, "a siren", **options)
    against_it = interpreter.find_events(path, "a siren", contrast="siren", **options)
    assert len(alone) and not len(against_it)
    with pytest.raises(InputError, match="contrast is for prompts in words"):
        interpreter.find_events(path, "siren", prompt_audio=like, contrast="dog")


def test_prompts_of_one_name_have_events_of_their_own(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """Recordings in two folders: together, what each finds alone."""
    path = save_audio(tmp_path / "a.wav", recording, RATE)
    likes = [
        save_audio(tmp_path / name / "b.wav", render(name, RATE, 5.0, seed=1), RATE)
        for name in ("siren", "dog")  # the later one first
    ]
    options = {"refine": 0, "rule": EventRule(presence=0.9, exclusive=False)}
    alone = [
        interpreter.find_events(path, prompt_audio=like, **options) for like in likes
    ]
    assert alone[0].start.max() > 20 and alone[1].start.min() < 17
    both = interpreter.find_events(path, prompt_audio=likes, **options)
    expected = pd.concat(alone).sort_values(["start", "stop"], ignore_index=True)
    pd.testing.assert_frame_equal(both, expected, check_exact=False, atol=1e-4)


def test_what_is_doubtful_comes_with_every_explanation(
    recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """About the prompt, and that most of the recording is outside the band."""
    seconds = torch.arange(len(recording)) / RATE
    low = 0.9 * torch.sin(2 * torch.pi * 10 * seconds)
    path = save_audio(tmp_path / "a.wav", recording + low, RATE)
    (whole,) = interpreter.interpret_file(path, ["dog_"], verify=False, refine=0)
    assert len(whole.warnings) == 2 and "lies in the band" in whole.warnings[1]
    found = list(interpreter.explain_events(path, "dog_", refine=0))
    assert found and found[0].explanation.warnings == whole.warnings
    rate, overview = interpreter.sample_rate, Overview(interpreter.clap.front_end, True)
    given = {"rule": EventRule(presence=1.0), "overview": overview, "refine": 0}
    assert list(interpreter.explain_events(path, "a siren", **given)) == []
    assert overview.warnings() == whole.warnings[1:]
    assert overview.seconds == len(recording) / rate == 40
    assert overview.bands().shape == (256, 1001)


def test_a_recording_may_end_within_a_hop_of_a_window(
    tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """Windows at its end are filled up as in the scan, beside those at its begin."""
    generator = torch.Generator().manual_seed(0)
    wav = 0.001 * torch.randn(5 * RATE + 32, generator=generator)
    for name, start in (("dog", 0.0), ("siren", 2.0)):
        sound = render(name, RATE, 3.0, seed=0).float()
        wav[round(start * RATE) :][: len(sound)] += sound
    found = found_in(wav, tmp_path, interpreter, presence=0.5, candidate=0.0)
    assert len(found) and found.stop.max() <= 5.05


@pytest.mark.parametrize("fitted", [False, True])
def test_silence_inside_a_sound_ends_an_event(
    fitted: bool, recording: Tensor, tmp_path: Path, interpreter: ZeroShotInterpreter
) -> None:
    """Digital silence is no part of one, however the mask goes on over it."""
    wav = recording[21 * RATE : 33 * RATE].clone()
    wav[round(4.5 * RATE) : round(5.3 * RATE)] = 0
    path = save_audio(tmp_path / "a.wav", wav, RATE)
    model = interpreter
    if fitted:
        clap = default_source().with_name("clap_small")
        model = ZeroShotInterpreter.from_clap(clap, run_opts={"device": "cpu"})
    found = model.find_events(path, "siren", refine=0)
    assert len(found)
    reach = 2048 / RATE  # of a column of the STFT
    for event in found.itertuples():
        inside = min(event.stop, 5.3 - reach) - max(event.start, 4.5 + reach)
        assert inside <= 0
