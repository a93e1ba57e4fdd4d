"""What the audience sees of the demonstration: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from brokerkit.cli.terminal import Terminal, table
from brokerkit.demo.account import Account
from brokerkit.demo.plan import Plan
from brokerkit.demo.story import Show

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

__all__ = ["Bars", "Lines", "account_table", "stage"]

_STEPS: Final = 5
_LABELS: Final = {"sent": "orders sent", "handled": "orders handled", "awaited": "results awaited"}


@contextmanager
def stage(out: Terminal, plan: Plan) -> Iterator[Show]:
    """Give the demonstration a stage: bars if people watch, else lines on stderr."""
    console = out.console(stderr=True)
    if out.json or not console.is_terminal:
        yield Lines(out, plan)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>10}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, plan)


@final
class Bars:
    """Bars of rich's, with what happens as lines above them."""

    def __init__(self, progress: Progress, plan: Plan) -> None:
        self._progress = progress
        self._begun = perf_counter()
        self._tasks: dict[str, TaskID] = {
            name: progress.add_task(_LABELS[name], total=total, rate="") for name, total in _totals(plan).items()
        }

    def progress(self, **done: int) -> None:
        """See `Show.progress`."""
        seconds = max(perf_counter() - self._begun, 0.001)
        for name, count in done.items():
            task = self._tasks[name]
            if not self._progress.tasks[task].finished:
                self._progress.update(task, completed=count, rate=f"{count / seconds:,.0f}/s")

    def say(self, text: str) -> None:
        """See `Show.say`."""
        from rich.text import Text  # noqa: PLC0415 - see Terminal.console

        self._progress.console.print(Text.assemble((f"{perf_counter() - self._begun:5.1f} s  ", "dim"), text))


@final
class Lines:
    """Plain lines on stderr: what happens, and each fifth of the way."""

    def __init__(self, out: Terminal, plan: Plan) -> None:
        self._out = out
        self._totals = _totals(plan)
        self._told: dict[str, int] = dict.fromkeys(_LABELS, 0)
        self._begun = perf_counter()

    def progress(self, **done: int) -> None:
        """See `Show.progress`."""
        for name, count in done.items():
            step = count * _STEPS // self._totals[name]
            if step > self._told[name]:
                self._told[name] = step
                self.say(f"{_LABELS[name]}: {count:,}")

    def say(self, text: str) -> None:
        """See `Show.say`."""
        self._out.remark(f"{perf_counter() - self._begun:5.1f} s  {text}")


def _totals(plan: Plan) -> dict[str, int]:
    return {"sent": plan.orders, "handled": plan.sound, "awaited": plan.orders}


def account_table(account: Account) -> Table:
    """Return the account for people."""
    from rich.text import Text  # noqa: PLC0415 - see Terminal.console

    def row(what: str, count: int, remark: str = "", *, wanted: int | None = None) -> tuple[Any, ...]:
        style = "" if wanted is None else "green" if count == wanted else "bold red"
        return what, Text(f"{count:,}", style=style), remark

    fates = account.fates
    reasons = ", ".join(f"{n} {why}" for why, n in fates.twice.items() if n)
    return table(
        ("what", "count", "remark"),
        [
            row("sent", account.sent),
            row("handled", len(fates.handled), "different orders"),
            row("dead-lettered", len(account.dead), "spoilt orders", wanted=len(account.poison)),
            row("lost", account.lost, wanted=0),
            row("redelivered", len(fates.redelivered), "started again after their worker was killed or frozen"),
            row("handled twice", sum(fates.twice.values()), reasons and f"by the worker that was: {reasons}"),
            row("late acks refused", fates.late_acks, "of the frozen worker, when it woke"),
            row("topic copies heard", account.heard, f"virtual hosts by {account.isolated_by}", wanted=account.copies),
            row("topic copies leaked", account.leaked, "into the other virtual host", wanted=0),
            row("results awaited", account.awaited, wanted=account.sent),
            row(
                "evicted results reported lost",
                account.reported_lost,
                f"within {account.report_seconds * 1000:.0f} ms",
                wanted=account.evicted,
            ),
        ],
        numbers=("count",),
        title=f"{account.seconds:.1f} s",
    )
