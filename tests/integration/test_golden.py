"""The product's own numbers: the embedded default on the demonstration's scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmaczs import ZeroShotInterpreter
from lmaczs.demo.scenes import SCENES, Scene, write_scenes

DATA = Path(__file__).parents[1] / "data"
EXPECTED = json.loads((DATA / "golden_scenes.json").read_text("utf-8"))
REFINED = json.loads((DATA / "golden_refined.json").read_text("utf-8"))
SCORES = ("similarity", "masked_similarity", "residual_similarity", "mask_mean")


@pytest.fixture(scope="module")
def interpreter() -> ZeroShotInterpreter:
    """The embedded default on the CPU."""
    return ZeroShotInterpreter.from_hparams(run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def recordings(
    interpreter: ZeroShotInterpreter, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The scenes as WAV files, by name."""
    folder = tmp_path_factory.mktemp("scenes")
    written = write_scenes(folder, interpreter.sample_rate)
    return {scene.name: path for scene, path in written}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scores_of_the_demonstration(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], scene: Scene
) -> None:
    """Without refinement, those of the shipped decoder; empty masks stay empty."""
    prompts = [*scene.prompts, scene.absent_prompt]
    assert list(EXPECTED[scene.name]) == prompts
    for one in interpreter.interpret_file(recordings[scene.name], prompts, refine=0):
        found = {name: one.to_dict()[name] for name in SCORES}
        expected = EXPECTED[scene.name][one.prompt]
        for name in SCORES:
            if expected[name] is None:
                assert found[name] is None, (one.prompt, name)
            else:
                assert found[name] == pytest.approx(expected[name], abs=1e-4), name


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_refined_masks_explain_what_is_present(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], scene: Scene
) -> None:
    """The part of a prompt that is present has no less of it, and scores as before.

    Absent prompts have an empty mask, and what was faithful is not refined.
    """
    prompts = [*scene.prompts, scene.absent_prompt]
    path = recordings[scene.name]
    before = interpreter.interpret_file(path, prompts, refine=0)
    for one, first in zip(
        interpreter.interpret_file(path, prompts), before, strict=True
    ):
        assert one.similarity == pytest.approx(first.similarity, abs=1e-5)
        assert one.presence == first.presence
        if one.presence < 0.95:
            assert one.empty and one.refine_steps == 0
            continue
        assert one.masked_similarity is not None and one.residual_similarity is not None
        assert one.verdict == "kept"
        assert one.masked_similarity > 0.95 * one.similarity
        expected = REFINED[scene.name][one.prompt]
        assert one.refine_steps == expected["refine_steps"]
        for name in SCORES:
            assert one.to_dict()[name] == pytest.approx(expected[name], abs=2e-3), name
    assert before[-1].presence < 0.9


@pytest.mark.parametrize("name", ["dog_by_the_fire", "clock_in_the_rain"])
def test_quiet_recordings_are_explained_as_loud_ones(
    interpreter: ZeroShotInterpreter, recordings: dict[str, Path], name: str
) -> None:
    """At -60 dB, where the model hears a prompt as well: mask and verdict."""
    wav, prompt = interpreter.load_audio(recordings[name]), list(EXPECTED[name])[0]
    rate, refined = interpreter.sample_rate, []
    for refine in (0, "auto"):
        loud, quiet = (
            interpreter.interpret_waveform(gain * wav, rate, prompt, refine=refine)
            for gain in (1.0, 1e-3)
        )
        if refine == 0:
            assert (loud.mask - quiet.mask).abs().mean() < 0.05
        refined = [loud.verdict, quiet.verdict]
        assert quiet.warnings == ()
    assert refined == ["kept", "kept"]
