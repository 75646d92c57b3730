"""Write a manifest's clips as WebDataset shards: tars that are read sequentially.

    python recipes/write_shards.py MANIFEST.csv FOLDER [--clips_per_shard N]

FOLDER gets train-000000.tar and so on, valid and test in the same way, and finally
index.json, without which nothing trains on it. The same line resumes: shards that are
there stay, missing or incomplete ones are written. See recipes/README-shards.md.
"""

from __future__ import annotations

import lmaczs.utils.early  # noqa: F401

import argparse
from pathlib import Path

from lmaczs.data.manifest import manifest_splits
from lmaczs.data.shards.writer import write_shards
from lmaczs.utils.errors import run_recipe


def main(argv: list[str]) -> Path:
    """Write the shards of a manifest, and their index when all are whole."""
    options = parse(argv)
    shares = options.valid_share, options.test_share
    splits = manifest_splits(options.manifest, *shares)
    index = write_shards(splits, options.folder, options.clips_per_shard)
    shards = len(list(options.folder.glob("*.tar")))
    clips = sum(map(len, (splits.train, splits.valid, splits.test)))
    print(f"{options.folder}: {clips} clips in {shards} shards")
    return index


def parse(argv: list[str]) -> argparse.Namespace:
    """Understand the command line.

    Parameters
    ----------
    argv : list of str
        Without the program's name.

    Returns
    -------
    Namespace
        manifest, folder, clips_per_shard, valid_share, test_share.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="CSV, see lmaczs/data/manifest.py")
    parser.add_argument("folder", type=Path, help="folder of the shards")
    parser.add_argument("--clips_per_shard", type=int, default=256, metavar="N")
    for split in ("valid", "test"):
        text = f"fraction of recordings, if no row has the split {split} (default: 0.2)"
        parser.add_argument(f"--{split}_share", type=float, default=0.2, help=text)
    options = parser.parse_args(argv)
    if options.clips_per_shard < 1:
        parser.error("--clips_per_shard must be 1 or more")
    return options


if __name__ == "__main__":
    run_recipe(main)
