"""`ZeroShotInterpreter`: a trained decoder behind SpeechBrain's ``Pretrained``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload
from warnings import warn

import numpy as np
import numpy.typing as npt
import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.autocast import AMPConfig
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor

from lmaczs.audio.blocks import AudioBlocks
from lmaczs.audio.io import (
    Recording,
    checked_rate,
    convert_audio,
    convert_recording,
    read_recording,
)
from lmaczs.audio.levels import level_warnings
from lmaczs.audio.resampling import resample
from lmaczs.audio.waveforms import Waveform, has_rate, with_rate
from lmaczs.band import band_warnings
from lmaczs.block_explanation import BlockOptions, explain_to
from lmaczs.clap import FrozenClap
from lmaczs.contrast import rivals_of
from lmaczs.decoder import Decoder
from lmaczs.decoder_file import load_folder
from lmaczs.event_search import FoundEvent, find
from lmaczs.events import EventRule, event_table
from lmaczs.explanation import (
    Interpretation,
    embedding_of,
    explain_batch,
    scores,
    similarities,
)
from lmaczs.hub import decoder_folder, default_source, unpinned_folder
from lmaczs.long_recording import Query, scan
from lmaczs.model_file import ForeignCodeError
from lmaczs.overview import Overview
from lmaczs.presence import reference_text
from lmaczs.prompts import DEFAULT_TEMPLATE, texts_of, to_sentence
from lmaczs.refinement import RefinementOptions
from lmaczs.utils.errors import AudioError, AudioWarning, InputError
from lmaczs.utils.naming import SAVED, unique_slugs
from lmaczs.utils.result_folder import origin_of
from lmaczs.vocabulary import prompt_warnings, read_prompt

if TYPE_CHECKING:
    import pandas as pd

Refine = Literal["auto"] | int
"""Argument of `ZeroShotInterpreter.interpret_file`: refine what fails; or how far."""

Recorded = str | Path | Sequence[str | Path] | None
"""Recordings that are prompts: one, several or none."""

NO_CONTRAST = (
    "contrast is for prompts in words: how similar two recordings are cannot be "
    "compared with how similar one is to a text"
)


class ZeroShotInterpreter(Pretrained):
    """Explains what in a recording made CLAP agree with a prompt.

    Create it with `from_hparams`, or with `from_clap` for a CLAP without a decoder. The
    method is LMAC-ZS (Paissan et al., NeurIPS 2024), with our objective and decoder
    layers in the embedded default (LMAC-ZS+), and with test-time refinement.

    Parameters
    ----------
    *args : Any
        Passed on to ``Pretrained``.
    **kwargs : Any
        Passed on to ``Pretrained``.

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
        self.eval()
        if "clap" in self.mods:  # else from_hparams says so
            self.clap.precision = AMPConfig.from_name(self.precision).dtype
            if self.compile:
                self.clap.model.audio_model.compile(mode=self.compile_mode)

    def _compile(self) -> None:
        """Wrap no module, as SpeechBrain would: it is the audio encoder that counts."""

    @classmethod
    def from_hparams(
        cls,
        source: str | Path | None = None,
        savedir: str | Path | None = None,
        run_opts: dict[str, Any] | None = None,
        overrides: dict[str, Any] | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> ZeroShotInterpreter:
        """Load a decoder and the CLAP that it was trained for.

        A folder is used in place and never looked up on the network. Whoever made it,
        only what ``lmaczs export`` names is built, and no code of it runs.

        Parameters
        ----------
        source : str or Path, optional
            Folder that ``lmaczs export`` wrote, or a Hub id; default: the embedded
            model.
        savedir : str or Path, optional
            Folder for files from the Hub; default: the Hub's cache.
        run_opts : dict, optional
            SpeechBrain's, e.g. ``{"device": "cuda"}``. ``"precision": "bf16"`` and
            ``"compile": True`` are those of the audio encoder.
        overrides : dict, optional
            Replacements for values of the folder, e.g. ``clap_source``.
        revision : str, optional
            Commit, tag or branch of a repository of the Hub. By a commit, which
            ``lmaczs push`` prints, the decoder stays the same whatever is pushed later.
        trust_remote_code : bool
            Whether you trust who made the folder: weights may be pickles, and a
            hyperparams.yaml that names anything else is run by SpeechBrain.
        **kwargs : Any
            ``freeze_params``; with `trust_remote_code`, whatever
            ``Pretrained.from_hparams`` takes.

        Returns
        -------
        ZeroShotInterpreter

        Raises
        ------
        FileNotFoundError
            If there is no such folder, repository or revision, or it holds no
            hyperparams.yaml, or the Hub cannot be reached.
        InputError
            If the folder names anything that exports do not, is damaged or names no
            CLAP or no decoder, or is a folder and has a `revision`.
        ClapError
            If its CLAP is damaged.
        """
        source = default_source() if source is None else source
        folder = decoder_folder(source, savedir, revision, trust_remote_code)
        theirs = sorted(set(kwargs) - {"freeze_params"})
        if theirs and not trust_remote_code:
            raise InputError(
                f"{theirs[0]} is an argument of SpeechBrain's own loader, which runs "
                "code: if you trust who made the folder, add trust_remote_code=True"
            )
        run_opts, given = _plain(run_opts), _without(overrides, {"source_folder"})
        if not theirs:
            try:
                modules, values = load_folder(folder, given, trust_remote_code)
            except ForeignCodeError:
                if not trust_remote_code:
                    raise
            else:
                hparams = _without(values, set(RunOptions().as_dict()))
                return cls(modules, hparams, run_opts=run_opts, **kwargs)
        interpreter: ZeroShotInterpreter = super().from_hparams(
            source=str(folder),
            overrides={**given, "source_folder": str(folder.resolve())},
            run_opts=run_opts,
            **kwargs,
        )
        # not enforced by SpeechBrain 1.1
        missing = [n for n in cls.MODULES_NEEDED if n not in interpreter.mods]
        if missing:
            raise InputError(f"hyperparams.yaml names no module {missing[0]!r}")
        return interpreter

    @classmethod
    def from_clap(
        cls,
        source: str | Path,
        run_opts: dict[str, Any] | None = None,
        template: str = DEFAULT_TEMPLATE,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> ZeroShotInterpreter:
        """Explain any CLAP, without a decoder: masks are fitted to every recording.

        Parameters
        ----------
        source : str or Path
            A Hugging Face CLAP checkpoint: a folder, or a Hub id.
        run_opts : dict, optional
            SpeechBrain's, see `from_hparams`.
        template : str
            Sentence with ``{}`` for prompts that are labels.
        revision : str, optional
            Commit, tag or branch of a repository of the Hub.
        trust_remote_code : bool
            Whether you trust who made it: weights may be pickles. Code of it is never
            run.

        Returns
        -------
        ZeroShotInterpreter

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or it holds no CLAP checkpoint.
        ClapError
            If the checkpoint is damaged, or cannot be fetched.
        InputError
            If a mask on its spectrogram could not be listened to, or `source` is a
            folder and has a `revision`.
        """
        unpinned_folder(source, revision)
        try:
            clap = FrozenClap.from_pretrained(source, None, revision, trust_remote_code)
        except InputError as error:
            raise InputError(f"{source} cannot be explained: {error}") from error
        named = {"template": template, "model_name": f"{Path(source).name}, fitted"}
        return cls(modules={"clap": clap}, hparams=named, run_opts=_plain(run_opts))

    # ------------------------------------------------------------------ files

    def load_audio(
        self,
        path: str | Path,
        savedir: Any = None,
        channel: int | None = None,
        strict: bool = False,
    ) -> Tensor:
        """Read a recording as mono [samples] at the model's rate, on the CPU.

        `savedir`, SpeechBrain's, is ignored: recordings are never fetched, linked or
        copied. `AudioError` if it cannot be read; what is doubtful about it is an
        `AudioWarning`.
        """
        recording = self._read(path, channel, strict)
        _warn(path, recording.warnings)
        return recording.wav

    def _read(self, path: str | Path, channel: int | None, strict: bool) -> Recording:
        """A recording at the model's rate, with what is doubtful about it."""
        if not isinstance(path, str | Path):
            raise AudioError(
                f"{type(path).__name__}: the name of a file is needed; samples in "
                "memory go to interpret_waveform or classify_waveform, with their rate"
            )
        return read_recording(path, self.sample_rate, channel, strict)

    @overload
    def interpret_file(  # type: ignore[overload-overlap]  # a str is an Iterable[str]
        self,
        path: str | Path,
        prompts: str,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        *,
        channel: int | None = None,
        strict: bool = False,
    ) -> Interpretation: ...

    @overload
    def interpret_file(
        self,
        path: str | Path,
        prompts: Iterable[str],
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        *,
        channel: int | None = None,
        strict: bool = False,
    ) -> list[Interpretation]: ...

    @overload
    def interpret_file(
        self,
        path: str | Path,
        prompts: None = None,
        verify: bool = True,
        refine: Refine = "auto",
        *,
        prompt_audio: str | Path,
        channel: int | None = None,
        strict: bool = False,
    ) -> Interpretation: ...

    def interpret_file(
        self,
        path: str | Path,
        prompts: str | Iterable[str] | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        prompt_audio: str | Path | None = None,
        channel: int | None = None,
        strict: bool = False,
    ) -> Interpretation | list[Interpretation]:
        """Interpret a recording for one prompt or several; it is encoded once.

        Parameters
        ----------
        path : str or Path
            A recording of any length, rate and channel count.
        prompts : str or iterable of str
            Labels or sentences, see `lmaczs.prompts.to_sentence`; a list, an array or a
            pandas column of them. None with `prompt_audio`.
        verify : bool
            Whether explanation and residual are encoded again; else their similarities
            are None.
        refine : "auto" or int
            Test-time refinement of the masks, see `lmaczs.refinement`. "auto": of those
            that are not faithful, until they are, in at most eight steps; with
            ``verify=False``, of none. 0: of none. N: of all, in N steps.
        contrast : str or iterable of str, optional
            Prompts to explain against: the mask keeps what raises each of `prompts`
            above these, see `lmaczs.contrast`. One of them may be the prompt itself,
            and does not count then. With "auto", masks take eight steps.
        prompt_audio : str or Path, optional
            A recording that is the prompt, instead of `prompts`: what sounds like it is
            looked for. It is named after the file.
        channel : int, optional
            The only channel that is read, from 1 on; default: the mean over all.
        strict : bool
            Whether a recording that is truncated or damaged is refused, not read as far
            as it goes with a warning.

        Returns
        -------
        Interpretation or list of Interpretation
            A list for a list of prompts.

        Raises
        ------
        AudioError
            If a recording cannot be read, or the prompt is silence to the model.
        InputError
            If there is not one of `prompts` and `prompt_audio`, or a contrast for a
            recording, or one that is the same as a prompt to the model.
        """
        recording, like = self._read(path, channel, strict), prompt_audio
        found = self._interpret(recording, prompts, verify, refine, contrast, like)
        origin = {**origin_of(path), "channel": channel}
        if isinstance(found, list):
            return [replace(one, **origin) for one in found]
        return replace(found, **origin)

    def classify_file(
        self,
        path: str | Path,
        labels: Iterable[str],
        template: str | None = None,
        channel: int | None = None,
        strict: bool = False,
    ) -> pd.DataFrame:
        """Zero-shot classification.

        Parameters
        ----------
        path : str or Path
            A recording of any length, rate and channel count.
        labels : iterable of str
            The classes: labels or sentences, as the prompts of `interpret_file`, whose
            similarities they have.
        template : str, optional
            Sentence with ``{}`` for a label; default: the model's.
        channel : int, optional
            The only channel that is read, from 1 on; default: the mean over all.
        strict : bool
            Whether a recording that is truncated or damaged is refused, not read as far
            as it goes with a warning.

        Returns
        -------
        DataFrame
            label, similarity (in [-1, 1]), probability (softmax over labels); the most
            similar first.

        Raises
        ------
        AudioError
            If the recording cannot be read.
        InputError
            If `labels` is empty, or `template` has no ``{}``.
        """
        wav = self.load_audio(path, channel=channel, strict=strict)
        return self._classify(wav, labels, template)

    # ---------------------------------------------------------------- prompts

    def prompt_warnings(self, prompt: str) -> tuple[str, ...]:
        """What is doubtful about a prompt, a sentence each: see `lmaczs.vocabulary`."""
        return prompt_warnings(self.clap, prompt, self.hparams.template)

    def rank_prompts(
        self,
        recordings: Iterable[str | Path | Waveform],
        prompts: Iterable[str],
        present: Sequence[bool] | None = None,
        channel: int | None = None,
        strict: bool = False,
    ) -> pd.DataFrame:
        """Compare wordings of one idea: which does the model understand best?

        Parameters
        ----------
        recordings : iterable of str, Path, or waveform
            Files, or waveforms of `interpret_waveform`, each with its rate: ``(samples,
            rate)``. Without it they are taken to be at the model's, and a warning says
            so.
        prompts : iterable of str
            The wordings, as the prompts of `interpret_file`.
        present : sequence of bool, optional
            Whether the sound is in each of the recordings.
        channel : int, optional
            The only channel of files that is read, from 1 on; default: the mean.
        strict : bool
            Whether a file that is truncated or damaged is refused.

        Returns
        -------
        DataFrame
            Without `present` a row for each recording and wording, the highest presence
            first, see `lmaczs.wordings.single_table`. With it a row for each wording,
            the one that tells the recordings apart best first, see `labelled_table`.
            Then what the text tower makes of it, see `reading_table`.

        Raises
        ------
        AudioError
            If a recording cannot be read.
        InputError
            If there is no recording or no wording, or not one value of `present` for
            each recording, or they are all the same.
        """
        from lmaczs.wordings import labelled_table, reading_table, single_table

        several = list(dict.fromkeys(texts_of(prompts)))
        if isinstance(prompts, str) or not several:
            raise InputError(f"prompts is a list of wordings, not {prompts!r}")
        template = self.hparams.template
        readings = [read_prompt(self.clap, one, template) for one in several]
        text = self.clap.encode_text([one.sentence for one in readings])
        names, similarity, presence = self._scores(recordings, text, channel, strict)
        if present is None:
            table = single_table(names, several, similarity, presence)
        else:
            if len(present) != len(names) or len(set(map(bool, present))) < 2:
                raise InputError(
                    f"present has {len(present)} values for {len(names)} recordings: "
                    "give one for each, both true and false ones"
                )
            there = torch.tensor([bool(one) for one in present])
            table = labelled_table(several, similarity, presence, there)
        return table.merge(reading_table(readings, text.cpu()), on="prompt")

    @torch.no_grad()
    def _scores(
        self,
        recordings: Iterable[str | Path | Waveform],
        text: Tensor,
        channel: int | None,
        strict: bool,
    ) -> tuple[list[str], Tensor, Tensor]:
        """Names, similarities and presences [N, P] of recordings."""
        references = reference_text(self.clap, self.hparams.template)
        names, found = [], []
        for number, one in enumerate(recordings):
            if isinstance(one, str | Path):
                names.append(str(one))
                wav = self.load_audio(one, channel=channel, strict=strict)
            else:
                names.append(f"recording {number + 1}")
                rate = None if has_rate(one) else self._rate_of(names[-1], None)
                wav = convert_audio(*with_rate(one, rate), self.sample_rate)
            wav = wav.to(self.clap.device)
            found.append(torch.stack(scores(self.clap, wav, text, references)).cpu())
        if not found:
            raise InputError("there is no recording to try the wordings on")
        similarity, presence = torch.stack(found, 1)
        return names, similarity, presence

    # ------------------------------------------------------- long recordings

    def scan_file(
        self,
        path: str | Path,
        prompts: str | Iterable[str] | None = None,
        progress: bool = False,
        channel: int | None = None,
        contrast: str | Iterable[str] | None = None,
        prompt_audio: Recorded = None,
        strict: bool = False,
    ) -> pd.DataFrame:
        """Classify every window of a recording, whose length memory does not depend on.

        Parameters
        ----------
        path : str or Path
            A recording of any length, rate and channel count.
        prompts : str or iterable of str, optional
            Labels or sentences.
        progress : bool
            Whether to show progress where stderr is a terminal.
        channel : int, optional
            The only channel that is read, from 1 on; default: the mean over all.
        contrast : str or iterable of str, optional
            Prompts to compare with: adds a column margin, the similarity less that of
            the most similar of these.
        prompt_audio : path or list of paths, optional
            Recordings that are prompts, beside `prompts` or in their place.
        strict : bool
            Whether a recording that is truncated or damaged is refused, not read as far
            as it goes with a warning.

        Returns
        -------
        DataFrame
            start, stop (seconds), prompt, similarity (in [-1, 1]), presence (in [0, 1],
            see `lmaczs.presence`): a row for each window and prompt. Windows are as
            long as the model's input and overlap by half; one that is silence to the
            model has NaN.

        Raises
        ------
        AudioError
            If a recording cannot be read, or a prompt is silence to the model.
        InputError
            If there is no prompt, or a contrast that is refused, see `interpret_file`.
        """
        audio = AudioBlocks(path, self.sample_rate, channel, strict)
        query = self.query(prompts, contrast, prompt_audio)
        table = scan(query, audio, progress)
        _warn(path, audio.warnings)
        return table

    def find_events(
        self,
        path: str | Path,
        prompts: str | Iterable[str] | None = None,
        refine: Refine = "auto",
        rule: EventRule | None = None,
        progress: bool = False,
        channel: int | None = None,
        contrast: str | Iterable[str] | None = None,
        prompt_audio: Recorded = None,
        strict: bool = False,
    ) -> pd.DataFrame:
        """Find when, and in which band, prompts are present in a recording.

        Parameters
        ----------
        path : str or Path
            A recording of any length, rate and channel count.
        prompts : str or iterable of str, optional
            Labels or sentences.
        refine : "auto" or int
            Refinement of the events' masks, see `interpret_file`.
        rule : EventRule, optional
            Options of the rule, see `lmaczs.events`; default: `EventRule()`.
        progress : bool
            Whether to show progress where stderr is a terminal.
        channel : int, optional
            The only channel that is read, from 1 on; default: the mean over all.
        contrast : str or iterable of str, optional
            As in `interpret_file`; what is around an event is to be more similar to its
            prompt than to these.
        prompt_audio : path or list of paths, optional
            Recordings that are prompts, beside `prompts` or in their place.
        strict : bool
            Whether a recording that is truncated or damaged is refused, not read as far
            as it goes with a warning.

        Returns
        -------
        DataFrame
            start, stop (seconds), low_hz, high_hz, prompt, similarity, presence, mass:
            a row for each event, as `lmaczs.events.Event` defines them.

        Raises
        ------
        AudioError
            If a recording cannot be read, or a prompt is silence to the model.
        InputError
            If there is no prompt, or a contrast that is refused, see `interpret_file`.
        """
        options = refine, rule, progress, channel, contrast, prompt_audio, strict
        found = self.explain_events(path, prompts, *options)
        return event_table(one.event for one in found)

    def explain_events(
        self,
        path: str | Path,
        prompts: str | Iterable[str] | None = None,
        refine: Refine = "auto",
        rule: EventRule | None = None,
        progress: bool = False,
        channel: int | None = None,
        contrast: str | Iterable[str] | None = None,
        prompt_audio: Recorded = None,
        strict: bool = False,
        overview: Overview | None = None,
    ) -> Iterator[FoundEvent]:
        """As `find_events`: yield each event with the explanation of its window.

        `overview`, if it is given, sees the recording: it has a picture of the whole,
        and what is doubtful about it, from the first event on.
        """
        refinement = refinement_of(refine, True, self.decoder is None)
        audio = AudioBlocks(path, self.sample_rate, channel, strict)
        options = rule or EventRule(), refinement, progress, overview
        origin = {**origin_of(path), "channel": channel}
        found = find(self.query(prompts, contrast, prompt_audio), audio, *options)

        def each() -> Iterator[FoundEvent]:
            for one in found:
                yield replace(one, explanation=replace(one.explanation, **origin))
            _warn(path, audio.warnings)

        return each()

    def interpret_to(
        self,
        folder: str | Path,
        path: str | Path,
        prompts: str | Iterable[str] | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        all_windows: bool = False,
        progress: bool = False,
        channel: int | None = None,
        contrast: str | Iterable[str] | None = None,
        prompt_audio: Recorded = None,
        page: bool = False,
        strict: bool = False,
    ) -> dict[str, Path] | list[dict[str, Path]]:
        """Interpret a recording into files; memory does not grow with its length.

        What is written is what `interpret_file` and `Interpretation.save` write.

        Parameters
        ----------
        folder : str or Path
            Of one prompt's files; of several prompts, each has a folder in it, named
            after the prompt. Files that are there are replaced.
        path : str or Path
            A recording of any length, rate and channel count.
        prompts : str or iterable of str, optional
            Labels or sentences; each of several counts once.
        verify : bool
            See `interpret_file`.
        refine : "auto" or int
            See `interpret_file`.
        all_windows : bool
            Whether windows in which a prompt is absent (`lmaczs.presence`) are decoded,
            too; else nothing of them is kept, as with refinement.
        progress : bool
            Whether to show progress where stderr is a terminal.
        channel : int, optional
            The only channel that is read, from 1 on; default: the mean over all.
        contrast : str or iterable of str, optional
            See `interpret_file`.
        prompt_audio : path or list of paths, optional
            Recordings that are prompts, beside `prompts` or in their place.
        page : bool
            Whether to write what `lmaczs.report.html.write_page` needs, too: a copy of
            the input, and the page's data. Then a single prompt has a folder, too.
        strict : bool
            Whether a recording that is truncated or damaged is refused, not read as far
            as it goes with a warning.

        Returns
        -------
        dict of str to Path, or list of them
            Paths by name, as `Interpretation.save` returns them; a list for a list of
            prompts.

        Raises
        ------
        AudioError
            If a recording cannot be read, or a prompt is silence to the model; then
            nothing is written.
        InputError
            If there is no prompt, or a contrast that is refused, see `interpret_file`.
        """
        query = self.query(prompts, contrast, prompt_audio)
        refinement = refinement_of(refine, verify, self.decoder is None)
        home = Path(folder) if page else None
        options = BlockOptions(verify, refinement, all_windows, progress, home)
        given = prompts if prompt_audio is None else prompt_audio
        alone = isinstance(given, str | Path) and len(query.prompts) == 1
        folders = [Path(folder)]
        if page or not alone:
            folders = [Path(folder, name) for name in unique_slugs(query.prompts)]
        audio = AudioBlocks(path, self.sample_rate, channel, strict)
        explain_to(folders, query, audio, options)
        _warn(path, audio.warnings)
        paths = [{name: one / name for name in SAVED} for one in folders]
        return paths[0] if alone else paths

    def query(
        self,
        prompts: str | Iterable[str] | None,
        contrast: str | Iterable[str] | None = None,
        prompt_audio: Recorded = None,
    ) -> Query:
        """Model and prompts, as long recordings are searched for them.

        Each prompt once, those in words first; errors are those of `scan_file`.
        """
        several = () if prompts is None else tuple(dict.fromkeys(texts_of(prompts)))
        if isinstance(prompt_audio, str | Path):
            prompt_audio = [prompt_audio]
        like = list(prompt_audio or ())
        if not several and not like:
            raise InputError("prompts is empty: give one label or sentence at least")
        if like and contrast is not None:
            raise InputError(NO_CONTRAST)
        template = self.hparams.template
        text = self.clap.encode_text([to_sentence(one, template) for one in several])
        sounds = [self._embedding_of(one) for one in like]
        names, against = self._against(contrast, text)
        words = [self._words(one, names) for one in several]
        nothing = [()] * len(like)
        return Query(
            self.clap,
            self.decoder,
            (*several, *(Path(one).name for one in like)),
            torch.cat([text, *sounds]),
            reference_text(self.clap, template),
            self.hparams.model_name,
            (*(warnings for _, warnings in words), *nothing),
            against,
            (*(others for others, _ in words), *nothing),
            (*[None] * len(several), *map(str, like)),
        )

    def _embedding_of(self, prompt_audio: str | Path) -> Tensor:
        """Embedding [1, D] of a recording that is a prompt."""
        like = embedding_of(self.clap, self.load_audio(prompt_audio))
        if like is None:
            raise AudioError(f"{prompt_audio}: silence to the model, no prompt")
        return like[None]

    def _against(
        self, contrast: str | Iterable[str] | None, text: Tensor
    ) -> tuple[list[str], Tensor | None]:
        """Names and embeddings [K, D] of a contrast for prompts [P, D]."""
        if contrast is None:
            return [], None
        names = texts_of(contrast, "contrast")
        if not names:
            raise InputError("contrast is empty: name what to explain against")
        template = self.hparams.template
        against = self.clap.encode_text([to_sentence(one, template) for one in names])
        if not rivals_of(text, against).any(1).all():
            raise InputError(
                f"contrast: to the model a prompt is the same as {names}: name another"
            )
        return names, against

    def _words(
        self, prompt: str, contrast: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A prompt's contrast without itself, and what is doubtful about all."""
        template = self.hparams.template
        own = to_sentence(prompt, template)
        others = tuple(x for x in contrast if to_sentence(x, template) != own)
        found = list(self.prompt_warnings(prompt))
        for name in others:
            found += [f"{name!r}: {text}" for text in self.prompt_warnings(name)]
        return others, tuple(found)

    # -------------------------------------------------------------- waveforms

    @overload
    def interpret_waveform(
        self,
        waveform: Waveform,
        sample_rate: int | None = None,
        prompts: str = ...,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
    ) -> Interpretation: ...

    @overload
    def interpret_waveform(
        self,
        waveform: Waveform,
        sample_rate: int | None = None,
        prompts: Iterable[str] = ...,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
    ) -> list[Interpretation]: ...

    @overload
    def interpret_waveform(
        self,
        waveform: Waveform,
        sample_rate: int | None = None,
        prompts: None = None,
        verify: bool = True,
        refine: Refine = "auto",
        *,
        prompt_audio: str | Path,
    ) -> Interpretation: ...

    def interpret_waveform(
        self,
        waveform: Waveform,
        sample_rate: int | None = None,
        prompts: str | Iterable[str] | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        prompt_audio: str | Path | None = None,
    ) -> Interpretation | list[Interpretation]:
        """Interpret samples in memory as `interpret_file` does a file of them.

        Parameters
        ----------
        waveform : Tensor, ndarray, or a pair of one and its rate
            [samples], [channels, samples] or [samples, channels], alone or with the
            rate, see `lmaczs.audio.waveforms.Waveform`. Full scale 1, or integers,
            whose dtype states the full scale.
        sample_rate : int, optional
            Hz; required where `waveform` comes without it. Samples are resampled to
            the model's rate.
        prompts : str or iterable of str
            See `interpret_file`.
        verify : bool
            See `interpret_file`.
        refine : "auto" or int
            See `interpret_file`.
        contrast : str or iterable of str, optional
            See `interpret_file`.
        prompt_audio : str or Path, optional
            See `interpret_file`.

        Returns
        -------
        Interpretation or list of Interpretation
            One for one prompt, a list for a list.

        Raises
        ------
        AudioError
            If it is empty or not finite, or its shape, dtype or rate cannot be right,
            or its rate is missing.
        InputError
            See `interpret_file`.
        """
        samples, rate = with_rate(waveform, sample_rate)
        recording, like = (
            convert_recording(samples, rate, self.sample_rate),
            prompt_audio,
        )
        return self._interpret(recording, prompts, verify, refine, contrast, like)

    def classify_waveform(
        self,
        waveform: Waveform,
        sample_rate: int | None = None,
        labels: Iterable[str] = (),
        template: str | None = None,
    ) -> pd.DataFrame:
        """Classify a `waveform` of `interpret_waveform`, as `classify_file` a file."""
        wav = convert_audio(*with_rate(waveform, sample_rate), self.sample_rate)
        return self._classify(wav, labels, template)

    # ---------------------------------------------------------------- batches

    @overload
    def interpret_batch(
        self,
        wavs: Tensor | npt.NDArray[np.floating[Any]],
        prompts: str | Iterable[str],
        wav_lens: Tensor | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        sample_rate: int | None = None,
    ) -> list[Interpretation]: ...

    @overload
    def interpret_batch(
        self,
        wavs: Tensor | npt.NDArray[np.floating[Any]],
        prompts: list[list[str]],
        wav_lens: Tensor | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        sample_rate: int | None = None,
    ) -> list[list[Interpretation]]: ...

    def interpret_batch(
        self,
        wavs: Tensor | npt.NDArray[np.floating[Any]],
        prompts: str | Iterable[str] | list[list[str]],
        wav_lens: Tensor | None = None,
        verify: bool = True,
        refine: Refine = "auto",
        contrast: str | Iterable[str] | None = None,
        sample_rate: int | None = None,
    ) -> list[Interpretation] | list[list[Interpretation]]:
        """Interpret each clip of a batch for its prompt, or for several.

        Parameters
        ----------
        wavs : Tensor or ndarray [B, samples], floating point
            Full scale 1.
        prompts : str, iterable of str, or list of list of str
            One for all clips, B, or B lists.
        wav_lens : Tensor [B], optional
            Lengths relative to `samples`, as in SpeechBrain.
        verify : bool
            See `interpret_file`.
        refine : "auto" or int
            See `interpret_file`.
        contrast : str or iterable of str, optional
            See `interpret_file`; the same for all clips.
        sample_rate : int, optional
            Of `wavs`, Hz; they are resampled to the model's. Without it they are taken
            to be at the model's, `ZeroShotInterpreter.sample_rate`, and a warning says
            so.

        Returns
        -------
        list of Interpretation, or list of list of Interpretation
            One per clip, as long as the clip, or a list where its prompts are a list;
            equal to interpreting the clips one by one.

        Raises
        ------
        TypeError
            If `wavs` is no floating-point array.
        AudioError
            If `wavs` is not finite.
        InputError
            If the numbers of clips, prompts and lengths differ.
        """
        wavs = _as_batch(wavs)
        each = [prompts] * len(wavs) if isinstance(prompts, str) else list(prompts)
        if len(each) != len(wavs):
            raise InputError(f"{len(wavs)} clips, but {len(each)} prompts")
        rate = self._rate_of("wavs", sample_rate)
        lengths = _lengths(wavs, wav_lens)
        cut = [wav[:length] for wav, length in zip(wavs, lengths, strict=True)]
        _require_finite(cut)
        clips = [
            Recording(resample(wav, rate, self.sample_rate), level_warnings(wav))
            for wav in cut
        ]
        several = [texts_of(one) for one in each]
        results = self._explain(clips, several, verify, refine, contrast)
        pairs = zip(each, results, strict=True)
        return [one[0] if isinstance(given, str) else one for given, one in pairs]  # type: ignore[return-value]

    forward = interpret_batch

    # ------------------------------------------------------------------ inside

    @property
    def clap(self) -> FrozenClap:
        """The explained model."""
        return cast(FrozenClap, self.mods["clap"])

    @property
    def decoder(self) -> Decoder | None:
        """What writes the masks; None where they are fitted, see `from_clap`."""
        return cast(Decoder, self.mods["decoder"]) if "decoder" in self.mods else None

    @property
    def sample_rate(self) -> int:
        """Sample rate of inputs and explanations, Hz."""
        return self.clap.front_end.sample_rate

    def _rate_of(self, name: str, sample_rate: int | None) -> int:
        """Rate of an argument; the model's, and a warning, where it is missing."""
        if sample_rate is not None:
            return checked_rate(sample_rate)
        warn(
            f"{name}: without a rate they are taken to be at {self.sample_rate} Hz, "
            "the model's; give sample_rate",
            stacklevel=3,
        )
        return self.sample_rate

    def _interpret(
        self,
        recording: Recording,
        prompts: str | Iterable[str] | None,
        verify: bool,
        refine: Refine,
        contrast: str | Iterable[str] | None,
        prompt_audio: str | Path | None,
    ) -> Interpretation | list[Interpretation]:
        if (prompts is None) == (prompt_audio is None):
            raise InputError("give either prompts or prompt_audio")
        if prompt_audio is not None:
            if contrast is not None:
                raise InputError(NO_CONTRAST)
            return self._explain_like(recording, prompt_audio, verify, refine)
        several = texts_of(prompts)
        (results,) = self._explain([recording], [several], verify, refine, contrast)
        return results[0] if isinstance(prompts, str) else results

    def _explain_like(
        self,
        recording: Recording,
        prompt_audio: str | Path,
        verify: bool,
        refine: Refine,
    ) -> Interpretation:
        """Explain a clip for a recording as the prompt."""
        (explained,) = explain_batch(
            self.clap,
            self.decoder,
            [recording.wav],
            [[Path(prompt_audio).name]],
            [self._embedding_of(prompt_audio)],
            verify=verify,
            model=self.hparams.model_name,
            refinement=refinement_of(refine, verify, self.decoder is None),
            references=reference_text(self.clap, self.hparams.template),
            recorded=True,
        )
        warnings = self._warnings(explained, recording)
        return replace(explained[0], prompt_audio=str(prompt_audio), warnings=warnings)

    def _classify(
        self, wav: Tensor, labels: Iterable[str], template: str | None
    ) -> pd.DataFrame:
        import pandas as pd

        several = texts_of(labels, "labels")
        if isinstance(labels, str) or not several:
            raise InputError(f"labels is a list of at least one label, not {labels!r}")
        template = self.hparams.template if template is None else template
        text = self.clap.encode_text([to_sentence(one, template) for one in several])
        with torch.no_grad():
            similarity = similarities(self.clap, wav.to(self.clap.device), text)
        probability = (self.clap.logit_scale * similarity).softmax(0)
        columns = {
            "label": several,
            "similarity": similarity.tolist(),
            "probability": probability.tolist(),
        }
        table = pd.DataFrame(columns)
        return table.sort_values("similarity", ascending=False, ignore_index=True)

    def _explain(
        self,
        recordings: Sequence[Recording],
        prompts: Sequence[Sequence[str]],
        verify: bool,
        refine: Refine,
        contrast: str | Iterable[str] | None = None,
    ) -> list[list[Interpretation]]:
        refinement = refinement_of(refine, verify, self.decoder is None)
        if not any(prompts):
            return [[] for _ in recordings]
        template = self.hparams.template
        flat = [to_sentence(prompt, template) for own in prompts for prompt in own]
        text = self.clap.encode_text(flat)
        names, against = self._against(contrast, text)
        explained = explain_batch(
            self.clap,
            self.decoder,
            [one.wav for one in recordings],
            prompts,
            text.split([len(own) for own in prompts]),
            verify=verify,
            model=self.hparams.model_name,
            refinement=refinement,
            references=reference_text(self.clap, template),
            contrast=against,
        )
        results = []
        for own, recording in zip(explained, recordings, strict=True):
            found = self._warnings(own, recording)
            results.append([self._completed(one, names, found) for one in own])
        return results

    def _warnings(
        self, own: Sequence[Interpretation], recording: Recording
    ) -> tuple[str, ...]:
        """What is doubtful about the recording of interpretations, each once."""
        if not own:
            return ()
        wav, total = recording.wav, recording.lost_power
        band = band_warnings(self.clap.front_end, own[0].stft, wav, total)
        return tuple(dict.fromkeys([*recording.warnings, *band]))

    def _completed(
        self, one: Interpretation, contrast: Sequence[str], of_wav: tuple[str, ...]
    ) -> Interpretation:
        """With all warnings, and the names of its contrast, without itself."""
        others, found = self._words(one.prompt, contrast)
        warnings = (*found, *of_wav, *one.warnings)
        return replace(one, warnings=warnings, contrast=others)


def _warn(path: str | Path, texts: Iterable[str]) -> None:
    """Warn the caller of a method of what is doubtful about a recording."""
    for text in texts:
        warn(f"{path}: {text}", AudioWarning, stacklevel=3)


def _without(values: Any, names: set[str]) -> Any:
    """A mapping without some keys; anything else as it is."""
    if not isinstance(values, Mapping):
        return values or {}
    return {key: value for key, value in values.items() if key not in names}


def _plain(run_opts: dict[str, Any] | None) -> dict[str, Any]:
    """Run options with the device's name, which alone SpeechBrain knows."""
    named = dict(run_opts or {})
    if named.get("device") is not None:
        named["device"] = str(named["device"])
    return named


def refinement_of(
    refine: Refine, verify: bool, fitted: bool
) -> RefinementOptions | None:
    """Options of refinement by the argument `refine` of `interpret_file`.

    None for none. `fitted`: there is no decoder, and refinement makes the masks.
    """
    if refine == "auto":
        return RefinementOptions() if verify or fitted else None
    if type(refine) is not int or refine < 0:
        raise InputError(
            f'refine is {refine!r}: give "auto", 0 for no refinement, or a number of '
            "steps"
        )
    steps = RefinementOptions(steps=refine, until_met=False)
    return steps if refine or fitted else None


def _as_batch(wavs: Any) -> Tensor:
    """Waveforms [B, samples] as a float32 tensor; other input is an error."""
    given = torch.from_numpy(wavs) if isinstance(wavs, np.ndarray) else wavs
    if not isinstance(given, Tensor):
        raise TypeError(
            f"wavs is a {type(wavs).__name__}; give a tensor or an array [B, samples]: "
            "clips of different lengths are padded, and wav_lens says how long each is"
        )
    if not given.is_floating_point():
        raise TypeError(
            f"wavs holds {given.dtype}; give floating-point numbers, full scale 1"
        )
    if given.dim() != 2:
        raise InputError(f"wavs is [B, samples], not {tuple(given.shape)}")
    return given.float()


def _require_finite(wavs: Sequence[Tensor]) -> None:
    """Raise `AudioError` for a batch with a clip that is not finite."""
    for number, wav in enumerate(wavs, 1):
        if not torch.isfinite(wav).all():
            raise AudioError(
                f"wavs: clip {number} of {len(wavs)} holds NaN or infinite samples: "
                "replace them, or leave it out"
            )


def _lengths(wavs: Tensor, wav_lens: Tensor | None) -> list[int]:
    """Samples of each clip of a batch."""
    if wav_lens is None:
        return [wavs.shape[1]] * len(wavs)
    if len(wav_lens) != len(wavs):
        raise InputError(f"{len(wavs)} clips, but {len(wav_lens)} wav_lens")
    lengths = wav_lens.cpu().double() * wavs.shape[1]
    return [round(length) for length in lengths.tolist()]
