"""`brokerkit doctor`: is the engine behind a URL there, does it do its work, and what should one know of it?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import typer

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit._targets import Target, target
from brokerkit.broker import Broker
from brokerkit.capabilities import is_missing
from brokerkit.cli import exits
from brokerkit.cli.advice import of_broker, of_results
from brokerkit.cli.terminal import Debug, Json, Terminal, Url, table, terminal
from brokerkit.errors import BrokerkitError, InconsistencyError, QueueNotFound
from brokerkit.models import new_id
from brokerkit.results import ResultStore

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Check", "Examination", "Status", "doctor"]

Status: TypeAlias = Literal["ok", "warning", "note", "absent", "failed"]

_TRIP_SECONDS: Final = 10.0
_STYLES: Final[dict[Status, str]] = {
    "ok": "green", "warning": "yellow", "note": "cyan", "absent": "dim", "failed": "red bold",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: "ok", "failed", "absent" (not there by design), "warning" (act on it), "note" (know it).
        detail: in words.
    """

    name: str
    status: Status
    detail: str


def doctor(url: Url, *, json: Json = False, debug: Debug = False) -> None:
    """Examine the engine behind a URL: its plugin, the connection, a round trip of messages and of results.

    Uses a queue and a record of its own, and removes them. Exits with the code of the first failure.
    """
    with terminal(json=json, debug=debug) as out:
        aim = target(url)
        examination = Examination(out)
        examination.run(aim)
        document = {
            "url": str(aim.url),
            "healthy": examination.code == exits.OK,
            "checks": [asdict(check) for check in examination.checks],
        }
        out.answer(document, lambda: _table(examination.checks))
        raise typer.Exit(examination.code)


class Examination:
    """Runs the checks. Each failure is noted, and what does not depend on it is still looked at.

    Attributes:
        checks: what was found.
        code: the exit code.
    """

    def __init__(self, out: Terminal) -> None:
        self.checks: list[Check] = []
        self.code = exits.OK
        self._out = out

    def run(self, aim: Target) -> None:
        """Look at the broker and the result store behind one URL."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._broker(aim)
            self._results(aim)
        for told in caught:
            self._note("warning", "warning", str(told.message))

    def _broker(self, aim: Target) -> None:
        if aim.transport is None:
            self._note("transport", "absent", f"{aim.url.full_scheme}:// serves results only")
            return
        with self._check("transport") as say:
            say(f"{aim.transport.distribution}, {aim.transport.entry_point.value}")
            broker = aim.broker()
        if self.checks[-1].status == "failed":
            return
        with broker:
            self._trips(broker)
            for status, text in of_broker(broker.capabilities):
                self._note("transport", status, text)

    def _trips(self, broker: Broker) -> None:
        queue = f"brokerkit-doctor-{new_id(SYSTEM_CLOCK.time())}"
        expires = None if is_missing(broker.capabilities.queue_expires) else 300.0
        with self._check("connection") as say:
            begun = perf_counter()
            broker.declare(queue, expires=expires)
            say(f"{broker.capabilities.product} at {broker.url}, a queue declared in {_ms(begun)}")
        if self.checks[-1].status == "failed":
            return
        try:
            with self._check("messages") as say:
                say(_messages(broker, queue))
            if is_missing(broker.capabilities.fanout):
                self._note("topics", "absent", str(broker.capabilities.fanout))
            else:
                with self._check("topics") as say:
                    say(_topic(broker, queue))
        finally:
            with self._check("removal") as say:
                broker.delete(queue)
                say(_gone(broker, queue))

    def _results(self, aim: Target) -> None:
        if aim.backend is None:
            self._note("result backend", "absent", f"{aim.url.full_scheme}:// carries messages only")
            return
        with self._check("result backend") as say:
            say(f"{aim.backend.distribution}, {aim.backend.entry_point.value}")
            store = aim.results()
        if self.checks[-1].status == "failed":
            return
        with store:
            with self._check("results") as say:
                say(_result(store))
            for status, text in of_results(store.capabilities):
                self._note("result backend", status, text)

    @contextmanager
    def _check(self, name: str) -> Iterator[Callable[[str], None]]:
        said: list[str] = []
        try:
            yield said.append
        except Exception as error:  # noqa: BLE001 - each failure is a finding
            code = self._out.fail(error) if self._out.debug else exits.code_of(error)
            self.code = self.code or code
            self._note(name, "failed", str(error) if isinstance(error, BrokerkitError) else repr(error))
        else:
            self._note(name, "ok", " ".join(said))

    def _note(self, name: str, status: Status, detail: str) -> None:
        self.checks.append(Check(name, status, detail))


def _messages(broker: Broker, queue: str) -> str:
    begun = perf_counter()
    sent = broker.send(queue, {"doctor": "hello"}, headers={"from": "brokerkit doctor"})
    _expect(broker, queue, sent)
    return f"sent, received and acked in {_ms(begun)}"


def _topic(broker: Broker, queue: str) -> str:
    begun = perf_counter()
    broker.bind(queue, queue, "doctor.*")
    broker.publish(queue, {"doctor": "unheard"}, routing_key="nurse.hello")
    sent = broker.publish(queue, {"doctor": "hello"}, routing_key="doctor.hello")
    _expect(broker, queue, sent)
    broker.unbind(queue, queue, "doctor.*")
    return f"bound, published, received and unbound in {_ms(begun)}"


def _expect(broker: Broker, queue: str, sent: str) -> None:
    with broker.consumer(queue, prefetch=1) as consumer:
        delivery = consumer.receive(_TRIP_SECONDS)
        if delivery is None or delivery.id != sent:
            came = "nothing" if delivery is None else f"message {delivery.id}"
            raise InconsistencyError(f"message {sent} was sent, and {came} was received within {_TRIP_SECONDS:g} s")
        delivery.ack(wait=True)


def _gone(broker: Broker, queue: str) -> str:
    if broker.capabilities.depth:
        try:
            broker.depth(queue)
        except QueueNotFound:
            return "the temporary queue is gone"
        raise InconsistencyError(f"queue {queue!r} was deleted, and is still there")
    return "the temporary queue was deleted"


def _result(store: ResultStore) -> str:
    begun = perf_counter()
    pending = store.reserve()
    try:
        store.set_result(pending.id, "hello")
        value = pending.result(timeout=_TRIP_SECONDS)
        if value != "hello":
            raise InconsistencyError(f"'hello' was stored, and {value!r} was read")
    finally:
        store.forget(pending.id)
    return f"{store.capabilities.product}: reserved, stored, awaited and forgotten in {_ms(begun)}"


def _ms(begun: float) -> str:
    return f"{(perf_counter() - begun) * 1000:.1f} ms"


def _table(checks: list[Check]) -> Table:
    from rich.text import Text  # noqa: PLC0415 - see Terminal.console

    rows = [(check.name, Text(check.status, style=_STYLES[check.status]), check.detail) for check in checks]
    return table(("what", "status", "detail"), rows)
