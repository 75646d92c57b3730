"""The product's own numbers: the embedded default on the demonstration's scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lmaczs import ZeroShotInterpreter
from lmaczs.demo.scenes import SCENES, Scene, write_scenes

EXPECTED = json.loads(
    (Path(__file__).parents[1] / "data" / "golden_scenes.json").read_text("utf-8")
)
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
    """Those of the decoder that is shipped; empty masks stay empty."""
    prompts = [*scene.prompts, scene.absent_prompt]
    assert list(EXPECTED[scene.name]) == prompts
    for one in interpreter.interpret_file(recordings[scene.name], prompts):
        found = {name: one.to_dict()[name] for name in SCORES}
        expected = EXPECTED[scene.name][one.prompt]
        for name in SCORES:
            if expected[name] is None:
                assert found[name] is None, (one.prompt, name)
            else:
                assert found[name] == pytest.approx(expected[name], abs=1e-4), name
