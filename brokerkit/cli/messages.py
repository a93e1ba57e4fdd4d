"""`brokerkit send` and `brokerkit receive`."""

from __future__ import annotations

import itertools
import json as json_module
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from brokerkit.broker import Broker
from brokerkit.cli import exits
from brokerkit.cli.bodies import body_fields, readable
from brokerkit.cli.claims import Claims
from brokerkit.cli.opening import open_broker
from brokerkit.cli.queues import QueueName
from brokerkit.cli.terminal import Debug, Json, Terminal, Url, terminal
from brokerkit.errors import BrokerkitError, EncodeError, QueueNotFound, SendFailed
from brokerkit.models import Received

__all__ = ["receive", "send"]

_BATCH: Final = 1000


def send(
    url: Url,
    queue: QueueName,
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="JSON; - or nothing reads stdin", show_default=False)
    ] = "-",
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Send the bytes as they are, not JSON.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of stdin is a message.")] = False,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="May be repeated.")
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 9; higher is sooner.")] = 0,
    delay: Annotated[float, typer.Option(help="Seconds until it may be received.")] = 0.0,
    ttl: Annotated[float | None, typer.Option(help="Seconds until it is dead-lettered.", show_default="never")] = None,
    count: Annotated[int, typer.Option(min=1, help="Send it so many times.")] = 1,
    declare: Annotated[
        bool, typer.Option("--declare", help="Declare the queue first, with the default settings.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Send messages to a queue, and print their ids. When it exits 0, they are stored."""
    sending: dict[str, Any] = {"headers": _headers(header or []), "priority": priority, "delay": delay, "ttl": ttl}
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        payloads = _repeated(_payloads(payload, raw=raw, lines=lines), count)
        if declare:
            broker.declare(queue)
        stored, error = _sent(broker, queue, payloads, sending)
        failed = [{"id": key, "error": str(why)} for key, why in getattr(error, "outcomes", ()) if why is not None]
        document = {"queue": queue, "sent": len(stored), "ids": stored, "failed": failed}
        if error is not None:
            if stored or failed:
                out.answer(document, lambda: None)
                out.remark(f"{len(stored)} messages were stored before that")
            raise error
        out.answer(document, lambda: "\n".join(stored))


def receive(
    url: Url,
    queue: QueueName,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Messages to take, at most.")] = 1,
    timeout: Annotated[float, typer.Option("--timeout", "-t", min=0, help="Seconds to wait for them, in all.")] = 1.0,
    ack: Annotated[
        bool, typer.Option("--ack/--no-ack", help="Settle what was printed, or give it back uncounted.")
    ] = True,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the bytes as they are; a line feed between two bodies.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Take messages from a queue and print them. A message is acked after it was printed, so none is lost on the way.

    Nothing is dead-lettered by this. Exits 1 if nothing was received.
    """
    with terminal(json=json, debug=debug) as out, open_broker(out, url) as broker:
        if raw and json:
            raise typer.BadParameter("--raw and --json exclude each other")
        shown: list[dict[str, Any]] = []
        with Claims(broker, queue, limit=limit, timeout=timeout) as claims:
            for batch in claims:
                for received in batch:
                    if raw:
                        _print_raw(received, first=not shown)
                    shown.append(_fields(broker, received))
                    if not json and not raw:
                        _print(out, shown[-1])
                sys.stdout.flush()
                if ack and not json:
                    claims.ack()
            if shown and json:
                out.answer({"queue": queue, "messages": shown}, lambda: None)
                if ack:
                    claims.ack()
        if not shown:
            out.answer({"queue": queue, "messages": []}, lambda: None)
            out.remark(f"nothing was received from {queue!r} within {timeout:g} s")
            raise typer.Exit(exits.NO)


def _sent(
    broker: Broker, queue: str, payloads: Iterator[Any], sending: dict[str, Any]
) -> tuple[list[str], BrokerkitError | None]:
    """Send in batches; return the ids of what was stored, and what stopped it."""
    stored: list[str] = []
    try:
        while batch := list(itertools.islice(payloads, _BATCH)):
            stored += broker.send_many(queue, batch, **sending)
    except SendFailed as error:
        stored += [key for key, why in error.outcomes if why is None]
        return stored, error
    except QueueNotFound as error:
        error.add_note("--declare creates it")
        return stored, error
    except BrokerkitError as error:
        return stored, error
    return stored, None


def _payloads(given: str, *, raw: bool, lines: bool) -> Iterator[Any]:
    if given != "-":
        if lines:
            raise typer.BadParameter("--lines reads stdin; leave the payload out")
        yield given.encode(errors="surrogateescape") if raw else _parsed(given, "the payload")
        return
    if sys.stdin.isatty():
        raise typer.BadParameter("no payload: give it as an argument, or on stdin")
    stdin = sys.stdin.buffer
    if not lines:
        yield stdin.read() if raw else _parsed(stdin.read(), "stdin")
        return
    for number, line in enumerate(stdin, 1):
        if line.strip():
            yield line.rstrip(b"\r\n") if raw else _parsed(line, f"line {number} of stdin")


def _repeated(payloads: Iterator[Any], count: int) -> Iterator[Any]:
    return (payload for one in payloads for payload in itertools.repeat(one, count))


def _parsed(text: str | bytes, where: str) -> Any:
    try:
        return json_module.loads(text)
    except ValueError as error:
        reason = error.msg if isinstance(error, json_module.JSONDecodeError) else "it is not UTF-8"
    raise EncodeError(f"{where} is not JSON ({reason}); write a text as '\"hello\"', or use --raw")


def _headers(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if any(not name or not equals for name, equals, _ in pairs):
        raise typer.BadParameter("a header is NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _fields(broker: Broker, received: Received) -> dict[str, Any]:
    message = received.message
    return {
        "id": message.id,
        "attempt": received.attempt,
        "priority": message.priority,
        "sent_at": message.sent_at,
        "expired": received.expired,
        "headers": dict(message.headers),
        **body_fields(broker, message.body, message.headers),
    }


def _print(out: Terminal, fields: dict[str, Any]) -> None:
    from rich.text import Text  # noqa: PLC0415 - see Terminal.console

    own = {name: value for name, value in fields["headers"].items() if not name.startswith(("bk-", "content-"))}
    expired = ", past its time to live" if fields["expired"] else ""
    about = f"{fields['id']}  attempt {fields['attempt'] or '?'}{expired}  " + " ".join(
        f"{k}={v}" for k, v in own.items()
    )
    out.show(Text(f"{about.rstrip()}", style="dim"))
    out.show(readable(fields))


def _print_raw(received: Received, *, first: bool) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write((b"" if first else b"\n") + received.message.body)
    sys.stdout.buffer.flush()
