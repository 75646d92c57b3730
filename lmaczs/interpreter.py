"""`ZeroShotInterpreter`: a trained decoder behind SpeechBrain's ``Pretrained``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from speechbrain.inference.interfaces import Pretrained
from torch import Tensor

from lmaczs.audio.io import load_audio
from lmaczs.explanation import Interpretation, explain, similarities
from lmaczs.hub import default_source, local_folder, snapshot
from lmaczs.prompts import DEFAULT_TEMPLATE, to_sentences

__all__ = ["Interpretation", "ZeroShotInterpreter"]


class ZeroShotInterpreter(Pretrained):
    """Says what in a recording made CLAP agree with a prompt.

    Made by `from_hparams`. The method is LMAC-ZS (Paissan et al., NeurIPS 2024); the
    objective and the layers of the embedded decoder are ours (LMAC-ZS+).

    Parameters
    ----------
    *args : Any
        Passed on to ``Pretrained``.
    **kwargs : Any
        Passed on to ``Pretrained``.

    Raises
    ------
    ValueError
        If hyperparams.yaml names no CLAP or no decoder.

    Examples
    --------
    >>> interpreter = ZeroShotInterpreter.from_hparams()
    >>> one = interpreter.interpret_file("out/scenes/dog_by_the_fire.wav", "dog")
    >>> paths = one.save("explained")
    """

    HPARAMS_NEEDED = ["template", "model_name"]
    MODULES_NEEDED = ["clap", "decoder"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # not enforced by SpeechBrain 1.1
        missing = [name for name in self.MODULES_NEEDED if name not in self.mods]
        if missing:
            raise ValueError(f"hyperparams.yaml names no module {missing[0]!r}")
        self.eval()

    @classmethod
    def from_hparams(  # type: ignore[override]
        cls,
        source: str | Path | None = None,
        savedir: str | Path | None = None,
        run_opts: dict[str, Any] | None = None,
        overrides: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ZeroShotInterpreter:
        """Load a decoder and the CLAP that it was trained for.

        A folder is used in place and never looked up on the network. As with every
        SpeechBrain checkpoint, its hyperparams.yaml can run code: load only
        what you trust.

        Parameters
        ----------
        source : str or Path, optional
            A folder that ``lmaczs export`` wrote, or a Hub id. The embedded default
            without it.
        savedir : str or Path, optional
            Where files from the Hub go; the Hub's cache without it.
        run_opts : dict, optional
            SpeechBrain's, e.g. ``{"device": "cuda"}``.
        overrides : dict, optional
            Values that replace those of hyperparams.yaml, e.g. ``clap_source``.
        **kwargs : Any
            Passed on to ``Pretrained.from_hparams``.

        Returns
        -------
        ZeroShotInterpreter

        Raises
        ------
        FileNotFoundError
            If the folder is missing or holds no hyperparams.yaml, or if the Hub
            cannot be reached or has no such repository.
        """
        source = default_source() if source is None else source
        folder = local_folder(source)
        if folder is None:
            folder = snapshot(str(source), savedir)
        if not (folder / "hyperparams.yaml").is_file():
            raise FileNotFoundError(
                f"{folder} holds no hyperparams.yaml; `lmaczs export` writes a folder "
                "that can be loaded"
            )
        run_opts = dict(run_opts or {})
        if run_opts.get("device") is not None:
            run_opts["device"] = str(run_opts["device"])  # SpeechBrain knows no other
        return super().from_hparams(
            source=str(folder),
            overrides={**(overrides or {}), "source_folder": str(folder.resolve())},
            run_opts=run_opts,
            **kwargs,
        )

    # ------------------------------------------------------------------ files

    def load_audio(self, path: str | Path, savedir: Any = None) -> Tensor:
        """Read a recording as the model wants it.

        Parameters
        ----------
        path : str or Path
            WAV, FLAC, OGG, MP3 or AIFF.
        savedir : Any
            Ignored: a recording is never fetched, linked or copied.

        Returns
        -------
        Tensor [samples]
            Mono, at the model's rate, on the CPU.

        Raises
        ------
        AudioError
            If it cannot be read.
        """
        return load_audio(path, self.sample_rate)

    def interpret_file(
        self,
        path: str | Path,
        prompts: str | Sequence[str],
        verify: bool = True,
    ) -> Interpretation | list[Interpretation]:
        """Interpret a recording for one prompt or several; it is encoded once.

        Parameters
        ----------
        path : str or Path
            A recording of any length, rate and channel count.
        prompts : str or sequence of str
            See `lmaczs.prompts.to_sentence`.
        verify : bool
            False: explanation and residual are not encoded again, and their
            similarities are None.

        Returns
        -------
        Interpretation or list of Interpretation
            One for one prompt, a list for a list.

        Raises
        ------
        AudioError
            If the recording cannot be read.
        """
        return self._interpret(self.load_audio(path), prompts, verify)

    def classify_file(
        self,
        path: str | Path,
        labels: Sequence[str],
        template: str = DEFAULT_TEMPLATE,
    ) -> pd.DataFrame:
        """Zero-shot classification.

        Parameters
        ----------
        path : str or Path
            A recording.
        labels : sequence of str
            What to choose from.
        template : str
            Every label is put into it.

        Returns
        -------
        DataFrame
            label, similarity (in [-1, 1]), probability (softmax over the labels),
            most similar first.

        Raises
        ------
        AudioError
            If the recording cannot be read.
        ValueError
            If there is no label, or the template has no ``{}``.
        """
        if isinstance(labels, str) or not labels:
            raise ValueError(f"labels is a list of at least one label, not {labels!r}")
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} for the label")
        wav = self.load_audio(path).to(self.clap.device)
        text = self.clap.encode_text([template.format(label) for label in labels])
        with torch.no_grad():
            similarity = similarities(self.clap, wav, text)
        probability = (self.clap.logit_scale * similarity).softmax(0)
        table = pd.DataFrame(
            {
                "label": list(labels),
                "similarity": similarity.tolist(),
                "probability": probability.tolist(),
            }
        )
        return table.sort_values("similarity", ascending=False, ignore_index=True)

    # ---------------------------------------------------------------- batches

    def interpret_batch(
        self,
        wavs: Tensor,
        prompts: str | Sequence[str],
        wav_lens: Tensor | None = None,
        verify: bool = True,
    ) -> list[Interpretation]:
        """Interpret each clip of a batch for its prompt.

        Parameters
        ----------
        wavs : Tensor [B, samples]
            At ``sample_rate``.
        prompts : str or sequence of str
            One for all clips, or B.
        wav_lens : Tensor [B], optional
            Length of each clip relative to `samples`, as everywhere in SpeechBrain.
        verify : bool
            See `interpret_file`.

        Returns
        -------
        list of Interpretation
            B of them, each as long as its clip; equal to interpreting the clips one
            by one.

        Raises
        ------
        ValueError
            If the numbers of clips, prompts and lengths differ.
        """
        if wavs.dim() != 2:
            raise ValueError(f"wavs is [B, samples], not {tuple(wavs.shape)}")
        each = [prompts] * len(wavs) if isinstance(prompts, str) else list(prompts)
        if len(each) != len(wavs):
            raise ValueError(f"{len(wavs)} clips, but {len(each)} prompts")
        lengths = self._lengths(wavs, wav_lens)
        return [
            self._interpret(wav[:length], prompt, verify)
            for wav, length, prompt in zip(wavs, lengths, each, strict=True)
        ]

    def forward(
        self,
        wavs: Tensor,
        prompts: str | Sequence[str],
        wav_lens: Tensor | None = None,
        verify: bool = True,
    ) -> list[Interpretation]:
        """Do as `interpret_batch`.

        Parameters
        ----------
        wavs : Tensor [B, samples]
            At ``sample_rate``.
        prompts : str or sequence of str
            One for all clips, or B.
        wav_lens : Tensor [B], optional
            Relative lengths.
        verify : bool
            See `interpret_file`.

        Returns
        -------
        list of Interpretation
        """
        return self.interpret_batch(wavs, prompts, wav_lens, verify)

    # ------------------------------------------------------------------ inside

    @property
    def clap(self) -> Any:
        """The frozen CLAP (`lmaczs.clap.FrozenClap`)."""
        return self.mods["clap"]

    @property
    def sample_rate(self) -> int:
        """Hz, of all sound that goes in and comes out."""
        return self.clap.front_end.sample_rate

    def _interpret(
        self, wav: Tensor, prompts: str | Sequence[str], verify: bool
    ) -> Interpretation | list[Interpretation]:
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        if not several:
            return []
        text = self.clap.encode_text(to_sentences(several, self.hparams.template))
        results = explain(
            self.clap,
            self.mods["decoder"],
            wav,
            several,
            text,
            verify=verify,
            model=self.hparams.model_name,
        )
        return results[0] if isinstance(prompts, str) else results

    @staticmethod
    def _lengths(wavs: Tensor, wav_lens: Tensor | None) -> list[int]:
        if wav_lens is None:
            return [wavs.shape[1]] * len(wavs)
        if len(wav_lens) != len(wavs):
            raise ValueError(f"{len(wavs)} clips, but {len(wav_lens)} wav_lens")
        return [int(n) for n in (wav_lens.cpu().double() * wavs.shape[1]).round()]
