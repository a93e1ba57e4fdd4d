"""The command `brokerkit`. Needs the extra `cli`; without it the command says so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]

_NEEDED = ("typer", "rich")
_UNAVAILABLE = 69


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command with the process's arguments, or with `args`, and exit with one of the codes of `brokerkit.cli.exits`."""
    try:
        import rich  # noqa: F401, PLC0415 - used later, and then it would be too late to say that it is missing

        from brokerkit.cli.app import run  # noqa: PLC0415 - typer and rich may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("pip install 'brokerkit-messaging[cli]'\n")
        sys.exit(_UNAVAILABLE)
    sys.exit(run(sys.argv[1:] if args is None else list(args)))
