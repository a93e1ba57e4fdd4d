"""The loop behind `Consumer.run`: threads that call a handler, and an orderly end on SIGTERM and SIGINT."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.delivery import Delivery
from brokerkit.errors import BrokerkitError, Closed

if TYPE_CHECKING:
    from brokerkit.consumer import Consumer

__all__ = ["run_handlers"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_MAX_BLOCK: Final = 1.0
_PAUSE_AFTER_FAILURE: Final = 0.2


def run_handlers(
    consumer: Consumer,
    handler: Callable[[Delivery], object],
    concurrency: int,
    shutdown_timeout: float | None,
    tell: Callable[[Exception], None],
) -> None:
    """Run `concurrency` threads until the consumer stops; then close it."""
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; it must be at least 1")
    # A pipe, not an Event: a signal handler runs in this very thread, and a lock that it holds would be held for ever.
    reading, writing = os.pipe()
    crashed: list[BaseException] = []

    def work() -> None:
        try:
            _work(consumer, handler, tell)
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            crashed.append(error)
            consumer.stop()
        finally:
            os.write(writing, b"w")

    threads = [threading.Thread(target=work, name=f"brokerkit-handler-{i}", daemon=True) for i in range(concurrency)]
    try:
        with _stop_on_signals(consumer, writing):
            for thread in threads:
                thread.start()
            while not consumer.stopping and any(thread.is_alive() for thread in threads):
                if select.select([reading], [], [], _MAX_BLOCK)[0]:
                    os.read(reading, 64)
            consumer.stop()
            _join(threads, shutdown_timeout)
    finally:
        consumer.close()
        if not any(thread.is_alive() for thread in threads):  # else one would write into a descriptor that is reused
            os.close(reading)
            os.close(writing)
    if crashed:
        raise crashed[0]


def _work(consumer: Consumer, handler: Callable[[Delivery], object], tell: Callable[[Exception], None]) -> None:
    pause = threading.Event()
    while not consumer.stopping:
        try:
            delivery = consumer.receive(_MAX_BLOCK)
        except Closed:
            return
        except BrokerkitError as error:
            tell(error)
            pause.wait(_PAUSE_AFTER_FAILURE)
            continue
        if delivery is not None:
            with delivery:
                handler(delivery)


def _join(threads: list[threading.Thread], timeout: float | None) -> None:
    deadline = None if timeout is None else SYSTEM_CLOCK.monotonic() + timeout
    for thread in threads:
        thread.join(None if deadline is None else max(deadline - SYSTEM_CLOCK.monotonic(), 0.0))


@contextlib.contextmanager
def _stop_on_signals(consumer: Consumer, writing: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        consumer.stop()
        os.write(writing, b"s")

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
