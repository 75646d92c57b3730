"""Further decoders of a comparison: their names, and whose CLAP they explain."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from lmaczs import ZeroShotInterpreter
from lmaczs.clap import FrozenClap
from lmaczs.evaluation.decoders import further_sources, load_decoders
from lmaczs.evaluation.explainers import MAIN
from lmaczs.paper_decoder import PaperDecoder
from lmaczs.training.export import inference_yaml
from lmaczs.utils.errors import InputError

ROOT = Path(__file__).parents[3]


def test_further_decoders_are_rows_of_their_own(
    tiny_clap_folder: Path, tmp_path: Path
) -> None:
    """By key or by name, several seeds numbered; one for another CLAP is refused."""
    interpreter = ZeroShotInterpreter.from_hparams()

    def exported(name: str, clap: Path | str) -> str:
        decoder = PaperDecoder(FrozenClap.from_pretrained(clap), width=8)
        (tmp_path / name).mkdir()
        save_file(decoder.state_dict(), tmp_path / name / "decoder.safetensors")
        path = "lmaczs.paper_decoder.PaperDecoder"
        text = inference_yaml(str(clap), name, "stft", 8, "{}", decoder=path)
        (tmp_path / name / "hyperparams.yaml").write_text(text)
        return str(tmp_path / name)

    nothing = {"paper_source": None, "lmac_source": None, "decoders": None}
    assert list(load_decoders(interpreter, further_sources(nothing))) == [MAIN]
    paper = exported("paper", ROOT / "pretrained" / "clap_small")
    both = {**nothing, "paper_source": paper, "lmac_source": paper}
    both["decoders"] = {"half": paper, "LMAC-ZS": [paper, paper]}
    found = load_decoders(interpreter, further_sources(both))
    seeds = ["LMAC-ZS #1", "LMAC-ZS #2"]
    assert list(found) == [MAIN, "LMAC-ZS", "L-MAC", "half", *seeds]
    assert isinstance(found["half"], PaperDecoder)
    other = {"LMAC-ZS": exported("other", tiny_clap_folder)}
    with pytest.raises(InputError, match="LMAC-ZS .* explains another CLAP than"):
        load_decoders(interpreter, other)
    for name in (MAIN, "energy", "LMAC-ZS"):
        with pytest.raises(InputError, match="decoders names .*, which is another row"):
            further_sources({**both, "decoders": {name: paper}})
