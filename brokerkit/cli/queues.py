"""`brokerkit depth`, `purge` and `dead-letters`: looking after queues."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from brokerkit._dead_letters import DeadLetter
from brokerkit.broker import Broker
from brokerkit.cli import exits
from brokerkit.cli.bodies import body_fields, readable
from brokerkit.cli.opening import open_broker
from brokerkit.cli.terminal import Debug, Json, Terminal, Url, table, terminal
from brokerkit.errors import QueueNotFound

__all__ = ["QueueName", "depth", "list_dead_letters", "purge", "redrive"]

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", show_default=False)]


def depth(
    url: Url,
    queues: Annotated[list[str], typer.Argument(metavar="QUEUE...", show_default=False)],
    *,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Count the messages of queues: ready, held by consumers, delayed. Exits 69 if a queue does not exist."""
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        counted = [_counted(broker, queue) for queue in queues]
        rows = [(c["queue"], *(_number(c, kind) for kind in ("ready", "in_flight", "delayed"))) for c in counted]
        columns = ("queue", "ready", "in flight", "delayed")
        out.answer({"queues": counted}, lambda: table(columns, rows, numbers=columns[1:]))
        if any(not c["exists"] for c in counted):
            raise typer.Exit(exits.UNAVAILABLE)


def purge(
    url: Url,
    queue: QueueName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove all messages of a queue that no consumer holds. Asks first."""
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        if not yes and not _agreed(out, f"Remove all messages of queue {queue!r} of {broker.url} for good?"):
            raise typer.Exit(exits.NO)
        purged = broker.purge(queue)
        out.answer({"queue": queue, "purged": purged}, lambda: f"removed {purged} messages from {queue!r}")


def list_dead_letters(
    url: Url,
    queue: QueueName,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Letters to show, oldest first.")] = 100,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the dead letters of a queue; they stay where they are."""
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        letters = broker.dead_letters(queue, limit)
        shown = [_letter(broker, letter) for letter in letters]
        columns = ("id", "died", "reason", "attempts", "detail", "payload")
        rows = [
            (x["id"], _when(x["dead_at"]), x["reason"], x["attempts"] or "?", x["detail"], readable(x)) for x in shown
        ]
        nobody = f"{queue!r} has no dead letters"
        out.answer({"queue": queue, "dead_letters": shown}, lambda: table(columns, rows) if rows else nobody)


def redrive(
    url: Url,
    queue: QueueName,
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default="all")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Move the dead letters of a queue back to it, with their attempts counted anew."""
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        moved = broker.redrive(queue, limit)
        out.answer({"queue": queue, "redriven": moved}, lambda: f"moved {moved} dead letters back to {queue!r}")


def _counted(broker: Broker, queue: str) -> dict[str, Any]:
    try:
        counts = broker.depth(queue)
    except QueueNotFound:
        return {"queue": queue, "exists": False, "ready": None, "in_flight": None, "delayed": None}
    return {
        "queue": queue,
        "exists": True,
        "ready": counts.ready,
        "in_flight": counts.in_flight,
        "delayed": counts.delayed,
    }


def _number(counted: dict[str, Any], kind: str) -> str:
    if not counted["exists"]:
        return "no such queue" if kind == "ready" else ""
    return "?" if counted[kind] is None else f"{counted[kind]:,}"


def _agreed(out: Terminal, question: str) -> bool:
    if out.json or not sys.stdin.isatty():
        raise typer.BadParameter("this asks first; add --yes where nobody can answer")
    return typer.confirm(question, err=True)


def _letter(broker: Broker, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "dead_at": letter.dead_at,
        "headers": dict(letter.headers),
        **body_fields(broker, letter.body, letter.headers),
    }


def _when(seconds: float) -> str:
    if seconds != seconds:  # noqa: PLR0124 - not a number: the header was missing
        return "?"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
