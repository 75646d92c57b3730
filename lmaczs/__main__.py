"""``python -m lmaczs``: the command line where the command is not on the path."""

from lmaczs.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
