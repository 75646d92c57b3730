"""Options of `lmaczs serve`."""

from __future__ import annotations

import argparse
from dataclasses import fields

from lmaczs.app.limits import MOST, Limits
from lmaczs.cli.work import positive

HOST, PORT, LAST_PORT = "127.0.0.1", 7860, 65535

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
    parser.add_argument("--port", type=_port, default=PORT, help=text)
    group = parser.add_argument_group("limits")
    whole = {one.name for one in fields(Limits) if one.type == "int"}
    for name, text in HELP.items():
        text += f" (default: {getattr(Limits, name)})"
        kind = positive if name in whole else _amount
        group.add_argument(f"--max-{name}", type=kind, metavar="N", help=text)


def limits_of(args: argparse.Namespace) -> Limits:
    """Limits by the options."""
    given = {name: getattr(args, f"max_{name}") for name in HELP}
    return Limits(**{name: n for name, n in given.items() if n is not None})


def _amount(value: str) -> float:
    try:
        if 0 < (amount := float(value)) <= MOST:
            return amount
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{value!r} is not above 0, and {MOST:g} at most")


def _port(value: str) -> int:
    if positive(value) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{value!r} is more than {LAST_PORT}")
    return int(value)
