"""``python -m lmaczs``: the command line where the command is not on the path."""

import lmaczs.utils.early  # noqa: F401

from lmaczs.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
