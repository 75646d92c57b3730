"""Options of `lmaczs serve`."""

from __future__ import annotations

import argparse
from dataclasses import fields

from lmaczs.app.limits import Limits

HOST, PORT = "127.0.0.1", 7860

HELP = {
    "megabytes": "largest file that is taken, MB",
    "seconds": "longest recording that is taken",
    "prompts": "most prompts at once",
    "waiting": "most requests that wait for their turn",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add address and limits."""
    text = (
        "address to listen at (default: %(default)s, this machine alone); 0.0.0.0 lets "
        "the network in: there is no password"
    )
    parser.add_argument("--host", default=HOST, help=text)
    text = "port to listen at (default: %(default)s)"
    parser.add_argument("--port", type=int, default=PORT, help=text)
    group = parser.add_argument_group("limits")
    for name, text in HELP.items():
        text += f" (default: {getattr(Limits, name)})"
        group.add_argument(f"--max-{name}", type=float, metavar="N", help=text)


def limits_of(args: argparse.Namespace) -> Limits:
    """Limits by the options; `InputError` if one is not positive."""
    given = {name: getattr(args, f"max_{name}") for name in HELP}
    whole = {one.name for one in fields(Limits) if one.type == "int"}
    return Limits(
        **{
            name: int(value) if name in whole else value
            for name, value in given.items()
            if value is not None
        }
    )
