"""long_recording.py: windows of a stream, the scan of a recording."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.audio.io import save_audio
from lmaczs.clap import FrozenClap
from lmaczs.explanation import similarities, window_starts
from lmaczs.long_recording import Query, WindowCutter, scan, shown
from lmaczs.presence import presence

RATE, SIZE, HOP = 32000, 160000, 640


@pytest.fixture(scope="module")
def query(tiny_clap: FrozenClap) -> Query:
    """A random CLAP, two prompts, and seven reference prompts."""
    text = tiny_clap.encode_text(["a dog", "rain"])
    references = torch.nn.functional.normalize(torch.randn(7, text.shape[1]), dim=1)
    return Query(tiny_clap, None, ("a dog", "rain"), text, references)


@given(samples=st.integers(0, 400), block=st.integers(1, 90), size=st.integers(8, 60))
def test_windows_are_those_of_the_whole(samples: int, block: int, size: int) -> None:
    """Their starts are `window_starts`."""
    wav, hop = torch.arange(1, samples + 1).float(), 4
    cutter = WindowCutter(size, hop)
    windows = [window for part in wav.split(block) for window in cutter.push(part)]
    windows += cutter.flush()
    starts = window_starts(samples, size, hop) if samples else []
    assert [start for start, _ in windows] == starts
    for start, sound in windows:
        assert sound.tolist() == wav[start : start + size].tolist()
        assert len(sound) == min(samples, size)


def test_a_scan_has_a_row_for_each_window_and_prompt(
    query: Query, tmp_path: Path
) -> None:
    """Similarities are those of each window by itself, presences their ranks."""
    generator = torch.Generator().manual_seed(0)
    wav = 0.1 * torch.randn(2 * SIZE + 3 * HOP, generator=generator)
    path = save_audio(tmp_path / "a.wav", wav, RATE)
    table = scan(query, AudioBlocks(path, RATE), at_once=2)
    starts = window_starts(len(wav), SIZE, HOP)
    assert table.start.tolist() == [s / RATE for s in starts for _ in range(2)]
    assert (table.stop - table.start).tolist() == pytest.approx([5.0] * len(table))
    assert table.prompt.tolist() == ["a dog", "rain"] * len(starts)
    for start, rows in zip(
        starts, table.similarity.to_numpy().reshape(-1, 2), strict=True
    ):
        window = wav[start : start + SIZE]
        expected = similarities(query.clap, window, query.text)
        torch.testing.assert_close(
            torch.tensor(rows).float(), expected, atol=1e-5, rtol=0
        )
        others = similarities(query.clap, window, query.references)
        ranks = presence(expected, others).tolist()
        found = table.presence[table.start == start / RATE].tolist()
        assert found == pytest.approx(ranks)


def test_a_scan_against_others_has_margins(query: Query, tmp_path: Path) -> None:
    """Of each window; a prompt does not compete with itself. Silence has none."""
    wav = 0.1 * torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    path = save_audio(tmp_path / "a.wav", torch.cat([wav, torch.zeros(SIZE)]), RATE)
    others = torch.cat([query.text[:1], query.references[:1]])
    table = scan(replace(query, contrast=others), AudioBlocks(path, RATE))
    cosines = similarities(query.clap, wav, torch.cat([query.text, others]))
    dog, rain, _, other = cosines.tolist()
    assert table.margin[:2].tolist() == pytest.approx(
        [dog - other, rain - max(dog, other)], abs=1e-5
    )
    silent = table[table.start == 5.0]
    assert len(silent) == 2 and silent.margin.isna().all()
    assert "margin" not in scan(query, AudioBlocks(path, RATE))


def test_silence_has_no_scores(query: Query, tmp_path: Path) -> None:
    """NaN, as it has no presence; other windows have theirs."""
    wav = torch.zeros(3 * SIZE)
    wav[-SIZE // 4 :] = 0.1
    path = save_audio(tmp_path / "a.wav", wav, RATE)
    table = scan(query, AudioBlocks(path, RATE))
    assert table.similarity.isna().tolist() == [True] * 8 + [False] * 2
    assert table.presence.isna().equals(table.similarity.isna())


def test_a_short_recording_is_one_window(query: Query, tmp_path: Path) -> None:
    """It stops where the recording does."""
    path = save_audio(tmp_path / "a.wav", torch.full((16000,), 0.1), RATE)
    table = scan(query, AudioBlocks(path, RATE))
    assert table[["start", "stop"]].values.tolist() == [[0.0, 0.5]] * 2


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time left; nothing in a pipe."""
    path = save_audio(tmp_path / "meadow.wav", torch.ones(RATE), RATE)
    audio, stream = AudioBlocks(path, RATE), io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stream)
    assert sum(map(len, shown(audio.read(), audio, True))) == RATE
    text = stream.getvalue()
    assert ("meadow.wav" in text and "left" in text) == terminal
    assert bool(text) == terminal


def test_a_query_may_be_for_some_of_its_prompts(tiny_clap: FrozenClap) -> None:
    """All that belongs to a prompt goes with it; what there is none of stays so."""
    text = torch.eye(4, tiny_clap.embedding_dim)
    names, words = tuple("abcd"), (("x",), (), ("y",), ())
    recordings = (None, "/s.wav", None, None)
    whole = Query(tiny_clap, None, names, text, text, "m", words, None, (), recordings)
    part = whole.only([1, 2])
    assert (part.prompts, part.warnings) == (("b", "c"), ((), ("y",)))
    assert (part.recordings, part.contrasts) == (("/s.wav", None), ())
    assert torch.equal(part.text, text[1:3]) and part.model == "m"
