"""`brokerkit demo` and `brokerkit bench`: the commands; the work is in the packages of these names."""

from __future__ import annotations

from pathlib import Path
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
        str, typer.Argument(metavar="ENGINE", help="a name that a plugin gives its benchmark")
    ] = "sqlite",
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are reported.")] = 5,
    size: Annotated[
        list[int] | None, typer.Option(min=20, help="Bytes of a body.", show_default="100 and 1024")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help="Of the engine, such as FULL.", show_default="all")] = None,
    budget: Annotated[float, typer.Option(min=0.01, help="Seconds of one cell in one round, about.")] = 0.4,
    pings: Annotated[int, typer.Option(min=0, help="Messages for the latency, each round; 0 leaves it out.")] = 5,
    deep: Annotated[bool, typer.Option("--deep", help="Measure claims with a million messages waiting, too.")] = False,
    folder: Annotated[Path | None, typer.Option(help="On the disk to be measured.", show_default="temporary")] = None,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page for docs/benchmarks.")] = False,
    debug: Debug = False,
) -> None:
    """Measure brokerkit beside the raw driver and a peer, interleaved in one run. Exits 1 if a goal was missed."""
    from brokerkit.bench.contract import find  # noqa: PLC0415 - only this command needs it
    from brokerkit.bench.measuring import Run, Settings  # noqa: PLC0415
    from brokerkit.bench.report import report_of  # noqa: PLC0415
    from brokerkit.cli.figures import markdown_page, tables  # noqa: PLC0415

    with terminal(json=json, debug=debug) as out, TemporaryDirectory(prefix="brokerkit-bench-", dir=folder) as scratch:
        if json and markdown:
            raise typer.BadParameter("--json and --markdown exclude each other")
        brought = find(engine)
        unknown = [one for one in mode or [] if one not in brought.modes]
        if unknown:
            raise typer.BadParameter(f"no mode {unknown[0]!r}; there are {', '.join(brought.modes)}")
        sizes = tuple(size or (100, 1024))
        settings = Settings(rounds=rounds, sizes=sizes, modes=tuple(mode or ()), budget=budget, pings=pings, deep=deep)
        figures = Run(engine, brought, settings, Path(scratch), out.remark).measure()
        report = report_of(brought, settings, figures)
        if markdown:
            out.show(markdown_page(report, f"brokerkit bench {engine}"))
        else:
            out.answer(report.document(), lambda: tables(out, report))
        raise typer.Exit(exits.NO if report.missed else exits.OK)
