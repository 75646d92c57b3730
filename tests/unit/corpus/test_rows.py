"""rows.py: what the tables say is what the interpreter says of each clip."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmaczs.audio.io import load_audio, save_audio
from lmaczs.corpus.rows import Found, RowMaker, Wanted, by_second
from lmaczs.corpus.store import Copies
from lmaczs.explanation import Interpretation, embedding_of
from lmaczs.interpreter import ZeroShotInterpreter
from lmaczs.presence import PRESENT
from lmaczs.utils.errors import InputError
from lmaczs.utils.result_folder import file_sha256

RATE = 32000
PROMPTS = ("siren", "dog")


def clip(number: int, path: Path, **times: float) -> dict[str, Any]:
    """A row of a plan."""
    return {"clip": number, "path": str(path), "start": None, "stop": None, **times}


Kept = dict[tuple[int, int], list[Interpretation]]


def found_in(
    interpreter: ZeroShotInterpreter,
    wanted: Wanted,
    *clips: dict[str, Any],
    kept: Kept | None = None,
) -> Found:
    """What is found in clips; what is kept goes into `kept`."""
    saved: Kept = {} if kept is None else kept
    with Copies() as copies:
        return RowMaker(interpreter, wanted)(clips, copies, saved.__setitem__)


@pytest.fixture(scope="module")
def found(interpreter: ZeroShotInterpreter, recordings: dict[str, Path]) -> Found:
    """What is found in all recordings, in one batch; masks are the decoder's."""
    rows = [clip(number, path) for number, path in enumerate(recordings.values())]
    return found_in(interpreter, Wanted(PROMPTS, 0), *rows)


def test_short_clips_have_what_interpret_file_says(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """Scores of every prompt; verdict and mask where it is present."""
    rows = [row for row in found.tables["scores"] if row["clip"] < 2]
    results = [
        one
        for name in PROMPTS
        for one in interpreter.interpret_file(recordings[name], PROMPTS, refine=0)
    ]
    assert len(rows) == len(results) == 4
    for row, one in zip(rows, results, strict=True):
        assert (row["prompt"], row["verdict"]) == (one.prompt, one.verdict)
        assert row["similarity"] == pytest.approx(one.similarity, abs=1e-5)
        assert row["presence"] == pytest.approx(one.presence)
        assert ("mass" in row) == (one.presence >= PRESENT)
        if "mass" in row:
            assert row["mask_mean"] == pytest.approx(float(one.mask.mean()), abs=1e-5)
            assert row["masked_presence"] == one.masked_presence
            assert row["residual_similarity"] == pytest.approx(
                one.residual_similarity, abs=1e-4
            )
    assert any("mass" in row for row in rows) and any("mass" not in r for r in rows)


def test_embeddings_are_the_models(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """Of each clip; silence has none, and no presence."""
    by_clip = {row["clip"]: row for row in found.tables["clips"]}
    for number, name in enumerate(PROMPTS):
        wav = load_audio(recordings[name], RATE)
        expected = embedding_of(interpreter.clap, wav)
        embedding = torch.tensor(by_clip[number]["embedding"])
        torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)
        assert by_clip[number]["sha256"] == file_sha256(recordings[name])
        assert by_clip[number]["stop"] == pytest.approx(len(wav) / RATE)
    silence = by_clip[3]
    assert silence["embedding"] is None
    rows = [row for row in found.tables["scores"] if row["clip"] == 3]
    assert [row["presence"] for row in rows] == [None, None]
    assert [row["verdict"] for row in rows] == ["not heard"] * 2


def test_long_clips_have_a_row_for_each_window(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """Those of `scan_file`; the last one ends where the recording does."""
    table = interpreter.scan_file(recordings["long"], PROMPTS)
    clips = [row for row in found.tables["clips"] if row["clip"] == 2]
    rows = [row for row in found.tables["scores"] if row["clip"] == 2]
    assert [row["window"] for row in clips] == list(range(len(clips)))
    assert [row["start"] for row in clips] == table.start.unique().tolist()
    assert clips[-1]["stop"] == 9.0
    scores = [(row["prompt"], row["similarity"], row["presence"]) for row in rows]
    expected = table[["prompt", "similarity", "presence"]].itertuples(index=False)
    for (prompt, *values), (name, *numbers) in zip(scores, expected, strict=True):
        assert prompt == name and values == pytest.approx(numbers, abs=1e-5)


def test_events_are_those_of_find_events(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """In a clip of several windows; none without being asked for."""
    number = list(recordings).index("long")
    table = interpreter.find_events(recordings["long"], PROMPTS, refine=0)
    rows = [row for row in found.tables["events"] if row["clip"] == number]
    assert len(rows) == len(table) > 0
    for row, event in zip(rows, table.to_dict("records"), strict=True):
        assert row.pop("clip") == number and row.pop("prompt") == event.pop("prompt")
        assert row == pytest.approx(event, abs=1e-4)
    options = Wanted(PROMPTS, 0, events=False)
    other = found_in(interpreter, options, clip(number, recordings["long"]))
    assert other.tables["events"] == []


def test_a_stretch_is_as_a_file_of_it(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], tmp_path: Path
) -> None:
    """But that its times count from the recording's begin."""
    wav = load_audio(recordings["long"], RATE, start=3.5, stop=6.5)
    alone = save_audio(tmp_path / "stretch.wav", wav, RATE)
    wanted = Wanted(PROMPTS, 0)
    stretch = clip(0, recordings["long"], start=3.5, stop=6.5)
    one, other = (
        found_in(interpreter, wanted, row).tables for row in (stretch, clip(0, alone))
    )
    assert one["scores"] == other["scores"]
    assert (one["clips"][0]["start"], one["clips"][0]["stop"]) == (3.5, 6.5)
    event = interpreter.interpret_file(alone, "siren", refine=0).events.iloc[0]
    times = [(row["start"], row["stop"]) for row in other["events"]]
    assert times[0] == pytest.approx((event.start, event.stop))
    shifted = [(row["start"] - 3.5, row["stop"] - 3.5) for row in one["events"]]
    assert len(times) == len(shifted) > 0
    for own, pair in zip(shifted, times, strict=True):
        assert own == pytest.approx(pair)


def test_clips_that_cannot_be_read_are_failures_alone(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """With the reason; what was read of one before it failed is left out."""
    (failure,) = found.tables["failures"]
    assert failure["path"] == str(recordings["empty"])
    assert failure["reason"] and str(recordings["empty"]) not in failure["reason"]
    assert not [row for row in found.tables["clips"] if row["clip"] == failure["clip"]]
    beyond = clip(0, recordings["dog"], start=99.0)
    missing = clip(1, recordings["dog"].with_name("none.wav"))
    fine = clip(2, recordings["dog"])
    other = found_in(interpreter, Wanted(PROMPTS, 0), beyond, missing, fine)
    reasons = [row["reason"] for row in other.tables["failures"]]
    assert reasons[0].startswith("it has no sample from 99 s on")
    assert reasons[1].startswith("there is no such file")
    assert {row["clip"] for row in other.tables["clips"]} == {2}


def test_what_is_damaged_is_doubtful_or_a_failure(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], tmp_path: Path
) -> None:
    """What can be read of it counts, with a warning in each row; not if strict."""
    content = recordings["long"].read_bytes()
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(content[: len(content) * 3 // 4])
    row = clip(0, damaged)
    tables = found_in(interpreter, Wanted(PROMPTS, 0), row).tables
    assert len(tables["clips"]) > 1 and not tables["failures"]
    assert all("truncated" in " ".join(one["warnings"]) for one in tables["clips"])
    strict = found_in(interpreter, Wanted(PROMPTS, 0, strict=True), row).tables
    assert "truncated" in strict["failures"][0]["reason"] and not strict["clips"]


def test_what_fails_late_leaves_no_row(
    interpreter: ZeroShotInterpreter, tmp_path: Path
) -> None:
    """Samples that are not finite after minutes of sound."""
    import soundfile

    wav = 0.1 * torch.randn(60 * RATE)
    wav[-5] = torch.nan
    path = tmp_path / "late.wav"
    soundfile.write(path, wav.numpy(), RATE, subtype="FLOAT")
    wanted = Wanted(PROMPTS, 0, keep="presence >= 0")
    found = found_in(interpreter, wanted, clip(7, path))
    tables = found.tables
    assert not found.kept
    assert [row["clip"] for row in tables["failures"]] == [7]
    assert not tables["clips"] and not tables["scores"] and not tables["events"]


def test_masks_are_summed_up(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], found: Found
) -> None:
    """By band and by second, each with the mass as its mean over whole seconds."""
    row = next(row for row in found.tables["scores"] if "mass" in row)
    assert len(row["mass_by_band"]) == interpreter.clap.front_end.n_mels
    assert len(row["mass_by_second"]) == 2
    assert torch.tensor(row["mass_by_band"]).mean() == pytest.approx(row["mass"])
    for values in (row["mass_by_band"], row["mass_by_second"]):
        assert all(0 <= value <= 1 for value in values)


def test_seconds_have_the_means_of_their_columns(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path]
) -> None:
    """The last one may be part of one; the column at the very end belongs to it."""
    one = interpreter.interpret_file(recordings["dog"], "dog", refine=0)
    columns = torch.arange(one.mask.shape[1]).float()
    per_second = one.sample_rate // one.hop_length
    found = by_second(columns, one).tolist()
    assert found == [columns[:per_second].mean(), columns[per_second:].mean()]
    odd = replace(one, sample_rate=RATE - 7, waveform=one.waveform[: RATE - 6])
    columns_of_it = torch.ones(1 + len(odd.waveform) // one.hop_length)
    assert by_second(columns_of_it, odd).tolist() == [1, 0]
    cut = replace(one, waveform=one.waveform[: RATE * 3 // 2])
    assert len(by_second(columns[: per_second * 3 // 2 + 1], cut)) == 2


def test_kept_are_explanations_of_which_the_condition_is_true(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path]
) -> None:
    """By clip and window; absent prompts are explained where they are asked for."""
    rows = [clip(n, recordings[name]) for n, name in enumerate(("siren", "long"))]
    condition = "prompt == 'siren' and presence > 0.95 and start < 4"
    kept: Kept = {}
    found = found_in(
        interpreter, Wanted(PROMPTS, 0, False, condition), *rows, kept=kept
    )
    expected = {
        (row["clip"], row["window"])
        for row in found.tables["scores"]
        if row["prompt"] == "siren" and (row["presence"] or 0) > 0.95
        for place in found.tables["clips"]
        if same(place, row) and place["start"] < 4
    }
    assert set(found.kept) == expected != set()
    assert kept.keys() == expected and found.kept[0, 0] == ["siren"]
    one = kept[0, 0][0]
    assert one.prompt == "siren"
    assert one.recording == str(recordings["siren"])
    assert one.recording_sha256 == file_sha256(recordings["siren"])
    absent = Wanted(PROMPTS, 0, False, "presence < 0.5")
    found = found_in(interpreter, absent, rows[0])
    asked = [row for row in found.tables["scores"] if row["presence"] < 0.5]
    assert all("mass" in row for row in asked)
    assert sum(map(len, found.kept.values())) == len(asked)


def test_windows_are_encoded_once(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path]
) -> None:
    """Besides the sounds that verify the explanations: masked-in and masked-out."""
    encoded = list[int]()
    hook = interpreter.clap.model.audio_model.register_forward_hook(
        lambda model, inputs, output: encoded.append(len(output.pooler_output))
    )
    rows = [clip(n, recordings[name]) for n, name in enumerate(PROMPTS)]
    found = found_in(interpreter, Wanted(PROMPTS, 0, False), *rows)
    hook.remove()
    masks = sum("mass" in row for row in found.tables["scores"])
    assert masks and sum(encoded) == len(rows) + 2 * masks


def test_what_is_kept_is_not_held(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path]
) -> None:
    """Once it is saved: of hours of sound it does not fit into memory."""
    saved = list[weakref.ref[Interpretation]]()
    maker = RowMaker(interpreter, Wanted(PROMPTS, 0, False, "presence >= 0"))
    with Copies() as copies:
        found = maker(
            [clip(0, recordings["long"])],
            copies,
            lambda key, results: saved.extend(map(weakref.ref, results)),
        )
    gc.collect()
    assert len(saved) == sum(map(len, found.kept.values())) > 2
    assert not any(one() for one in saved)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows are of one window."""
    return all(one[name] == other[name] for name in ("clip", "window"))


def test_what_cannot_be_wanted_is_refused(interpreter: ZeroShotInterpreter) -> None:
    """No prompt, no condition, no refinement."""
    for wanted in (Wanted(()), Wanted(PROMPTS, keep="x > 1"), Wanted(PROMPTS, -1)):
        with pytest.raises(InputError):
            RowMaker(interpreter, wanted)
