"""`python -m lmaczs.cli`."""

import sys

from lmaczs.cli import main

sys.exit(main())
