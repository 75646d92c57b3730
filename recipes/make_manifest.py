"""Write the manifest of a published data set, or of a folder with subfolders by label.

    python recipes/make_manifest.py SET FOLDER OUT.csv
    python recipes/make_manifest.py fsd50k FOLDER OUT.csv [--descriptions]
    python recipes/make_manifest.py raven FOLDER OUT.csv [--recordings=DIR] [--column=C]
    python recipes/make_manifest.py audacity FOLDER OUT.csv [--recordings=DIR]

SET is one of `lmaczs.data.build.DATASETS`, which says what FOLDER has to hold: esc50,
urbansound8k, clotho, audiocaps, macs, fsd50k, folder (a subfolder of recordings for
each label, no splits), raven or audacity (annotations made there, or by `lmaczs scan`;
DIR holds the recordings, FOLDER by default, and C is the column of the annotations). A
row of the last two is an event: start and stop are those of its annotation. Paths in
the manifest are absolute; recipes/train.py (hparams/captions.yaml,
hparams/finetune.yaml), recipes/train_clap.py and recipes/evaluate.py take it as
--manifest=OUT.csv.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import argparse
from pathlib import Path

from lmaczs.data.build import DATASETS, read_rows
from lmaczs.utils.errors import run_recipe
from lmaczs.utils.files import atomic_write
from lmaczs.utils.spreadsheets import unescaped_csv_text


def main(argv: list[str]) -> Path:
    """Read a data set and write its manifest, whole or not at all."""
    options = parse(argv)
    names = ("descriptions", "recordings", "column")
    more = {name: getattr(options, name) or None for name in names}
    table = read_rows(options.folder, None, options.set, **more)
    with atomic_write(options.out) as part:
        part.write_text(unescaped_csv_text(table), encoding="utf-8")
    splits = ", ".join(
        f"{n} {s or 'without split'}" for s, n in table.split.value_counts().items()
    )
    clips = table.path.nunique()
    print(f"{options.out}: {len(table)} rows of {clips} recordings ({splits})")
    return options.out


def parse(argv: list[str]) -> argparse.Namespace:
    """Understand the command line.

    Parameters
    ----------
    argv : list of str
        Without the program's name.

    Returns
    -------
    Namespace
        set, folder, out, descriptions, recordings, column.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(DATASETS))
    parser.add_argument("folder", type=Path, help="folder of the unpacked set")
    parser.add_argument("out", type=Path, help="the CSV to write")
    text = "FSD50K: the uploader's title and description make a second caption"
    parser.add_argument("--descriptions", action="store_true", help=text)
    text = "raven, audacity: the folder of the annotated recordings"
    parser.add_argument("--recordings", type=Path, help=text)
    text = "raven: the column of the annotations"
    parser.add_argument("--column", help=text)
    options = parser.parse_args(argv)
    if options.descriptions and options.set != "fsd50k":
        parser.error("--descriptions is for fsd50k: the other sets have captions alone")
    return options


if __name__ == "__main__":
    run_recipe(main)
