"""`brokerkit demo` and `brokerkit bench`: the commands; the work is in the packages of these names."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import quote

import typer

from brokerkit._targets import target
from brokerkit.cli import exits
from brokerkit.cli.terminal import Debug, Json, terminal

__all__ = ["bench", "demo"]


def demo(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="of a broker", show_default="an SQLite file of its own")
    ] = None,
    *,
    orders: Annotated[int, typer.Option(min=2000, help="Messages to send.")] = 10_000,
    results: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a result store.", show_default="URL, or an SQLite file")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Send 10,000 orders through four workers, kill one, freeze one, and account for every message.

    Exits 1 if anything was lost, leaked or is missing.
    """
    from brokerkit.cli.stage import account_table, stage  # noqa: PLC0415 - only this command needs it
    from brokerkit.demo.plan import Plan  # noqa: PLC0415
    from brokerkit.demo.story import Story  # noqa: PLC0415

    with terminal(json=json, debug=debug) as out, TemporaryDirectory(prefix="brokerkit-demo-") as folder:
        embedded = f"sqlite:///{quote(folder)}/demo.db"
        aim = target(url or embedded)
        # results in a file of their own: they can be computed again, and need not wait for the disk
        receipts = target(results or (url if url and aim.backend else f"{embedded}-results?synchronous=NORMAL"))
        plan = Plan(orders=orders)
        with stage(out, plan) as show:
            account = Story(aim, receipts, plan, show).run()
        out.answer({"url": str(aim.url), **account.document()}, lambda: account_table(account))
        for problem in account.problems:
            out.remark(f"brokerkit: {problem}")
        raise typer.Exit(exits.NO if account.problems else exits.OK)


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
