"""Published sets of captioned recordings as manifests: Clotho, AudioCaps, MACS, FSD50K.

Every reader returns a row a caption: id, path (absolute), text, split. Captions of one
recording share its path; their ids are numbered, ``rain#1``, ``rain#2``. If lists or
recordings are missing, `MissingDataError` is raised; if a list is not as published,
`InputError`.
"""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from lmaczs.data.lists import MissingDataError, read_list, require_files
from lmaczs.utils.errors import InputError

logger = logging.getLogger(__name__)

Caption = tuple[Path, str, str]
"""A recording, its caption, and the split."""

CLOTHO = {"development": "train", "validation": "valid", "evaluation": "test"}
CLOTHO_CAPTIONS = [f"caption_{number}" for number in range(1, 6)]
AUDIOCAPS = {"train.csv": "train", "val.csv": "valid", "test.csv": "test"}
FSD50K = {"train": "train", "val": "valid", "eval": "test"}
FIX = "unpack the audio there, or take the list away"


# --- the sets -----------------------------------------------------------------------


def read_clotho(folder: str | Path) -> pd.DataFrame:
    """Clotho v2 (Drossos, Lipping and Virtanen, 2020), five captions a recording.

    Needs ``clotho_captions_development.csv`` and ``development/*.wav`` (train), and the
    same for validation (valid) and evaluation (test), of which some may be missing.
    """
    root = Path(folder).resolve()
    lists = {f"clotho_captions_{name}.csv": name for name in CLOTHO}
    captions: list[Caption] = []
    for path, name in _lists_in(root, lists):
        for row in _rows_of(path, ["file_name", *CLOTHO_CAPTIONS]):
            wav = root / name / row["file_name"]
            captions += [(wav, row[key], CLOTHO[name]) for key in CLOTHO_CAPTIONS]
    return require_files(_as_table(captions), FIX)


def read_audiocaps(folder: str | Path) -> pd.DataFrame:
    """AudioCaps (Kim, Kim, Lee and Kim, 2019), as far as its videos are still there.

    Needs ``train.csv``, ``val.csv`` and ``test.csv``, of which some may be missing, and
    each clip, ten seconds cut out of its video, as ``audio/<youtube_id>.wav`` or
    ``audio/Y<youtube_id>.wav``. Clips without a file are left out, which is logged.
    """
    root = Path(folder).resolve()
    listed = [
        (row["youtube_id"], row["caption"], split)
        for path, split in _lists_in(root, AUDIOCAPS)
        for row in _rows_of(path, ["youtube_id", "caption"])
    ]
    clips = {video: _audiocaps_clip(root, video) for video, *_ in listed}
    _report_gone(root, [video for video, wav in clips.items() if not wav], len(clips))
    return _as_table(
        [(clip, text, split) for video, text, split in listed if (clip := clips[video])]
    )


def _report_gone(root: Path, gone: Sequence[str], clips: int) -> None:
    """Log how many clips are left out; refuse to leave out all."""
    if not gone:
        return
    missing = f"{len(gone)} of {clips} clips are not in {root / 'audio'}"
    names = f"<youtube_id>.wav or Y<youtube_id>.wav, as {gone[0]}.wav"
    if len(gone) == clips:
        raise MissingDataError(f"{missing} ({names}): download them there")
    logger.warning("%s and are left out (%s)", missing, names)


def _audiocaps_clip(root: Path, youtube_id: str) -> Path | None:
    names = (f"{youtube_id}.wav", f"Y{youtube_id}.wav")
    paths = (root / "audio" / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def read_macs(folder: str | Path) -> pd.DataFrame:
    """MACS (Martín-Morató and Mesaros, 2021), two to five captions a recording.

    All of it is train. Needs ``MACS.yaml``, and in ``audio/`` the recordings of TAU
    Urban Acoustic Scenes 2019, development (Mesaros, Heittola and Virtanen).
    """
    root = Path(folder).resolve()
    ((path, split),) = _lists_in(root, {"MACS.yaml": "train"})
    sentences = _macs_sentences(path)
    captions = [(root / "audio" / name, text, split) for name, text in sentences]
    return require_files(_as_table(captions), FIX)


def _macs_sentences(path: Path) -> list[tuple[str, str]]:
    """File and sentence of every annotation, all as text: "yes" stays a word."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        files = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["files"]
        return [(f["filename"], a["sentence"]) for f in files for a in f["annotations"]]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeError) as error:
        raise InputError(
            f"{path} is not MACS.yaml as published, files with a filename and "
            "annotations with a sentence each: download it again"
        ) from error


def read_fsd50k(folder: str | Path, descriptions: bool = False) -> pd.DataFrame:
    """FSD50K (Fonseca, Favory, Pons, Font and Serra, 2022), its labels as captions.

    Needs ``FSD50K.ground_truth/dev.csv`` and ``FSD50K.dev_audio/*.wav`` (train and
    valid), or the same for eval (test), or both. With `descriptions`, titles and texts
    of ``FSD50K.metadata/dev_clips_info_FSD50K.json`` are a second caption.
    """
    root = Path(folder).resolve()
    lists = {f"FSD50K.ground_truth/{part}.csv": part for part in ("dev", "eval")}
    captions: list[Caption] = []
    for path, part in _lists_in(root, lists):
        uploads = _fsd50k_uploads(root, part) if descriptions else {}
        own = ["split"] if part == "dev" else []
        for row in _rows_of(path, ["fname", "labels", *own]):
            name = row.get("split", part)
            wav = root / f"FSD50K.{part}_audio" / f"{row['fname']}.wav"
            texts = [_label_text(row["labels"])]
            if row["fname"] in uploads:
                texts.append(_upload_text(uploads[row["fname"]]))
            captions += [(wav, text, FSD50K.get(name, name)) for text in texts]
    return require_files(_as_table(captions), FIX)


def _fsd50k_uploads(root: Path, part: str) -> dict[str, dict[str, str]]:
    path = root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
    if not path.is_file():
        raise MissingDataError(
            f"{path} is not there: unpack FSD50K.metadata.zip or leave out descriptions"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}; unpack it again") from error


def _label_text(labels: str) -> str:
    """Labels ("Bark,Wind_chime") as words ("bark, wind chime")."""
    return labels.replace(",", ", ").replace("_", " ").lower()


def _upload_text(upload: Mapping[str, str]) -> str:
    """Title and description of an upload, without file suffix and markup."""
    title = re.sub(r"\.(wav|aiff?|flac|ogg|mp3|m4a)$", "", upload["title"], flags=re.I)
    description = html.unescape(re.sub(r"<[^>]*>", " ", upload["description"]))
    parts = (title.replace("_", " ").strip(" ."), description.strip())
    return ". ".join(part for part in parts if part)


# --- what they share ----------------------------------------------------------------


def _lists_in(root: Path, lists: Mapping[str, str]) -> list[tuple[Path, str]]:
    """The lists that exist, and what each stands for; missing ones are logged."""
    there = [(root / name, it) for name, it in lists.items() if (root / name).is_file()]
    absent = [name for name in lists if not (root / name).is_file()]
    if not there:
        raise MissingDataError(
            f"{root} holds no {' and no '.join(absent)}: give the folder that the set "
            "was unpacked in"
        )
    if absent:
        logger.warning("%s: no %s, left out", root, " and no ".join(absent))
    return there


def _rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    return read_list(path, columns, "download it again").to_dict("records")


def _as_table(captions: Iterable[Caption]) -> pd.DataFrame:
    """A row a caption, on one line, each with a unique id; empty ones are left out."""
    table = pd.DataFrame(captions, columns=["path", "text", "split"])
    table["text"] = table.text.str.split().str.join(" ")
    if (table.text == "").any():
        logger.warning("%d empty captions are left out", (table.text == "").sum())
        table = table[table.text != ""].reset_index(drop=True)
    names = pd.Series([path.stem for path in table.path], dtype=str)
    rows = names.groupby(names)
    numbered = names + "#" + (rows.cumcount() + 1).astype(str)
    table["id"] = names.where(rows.transform("size") == 1, numbered)
    table["path"] = table.path.astype(str)
    return table[["id", "path", "text", "split"]]
