"""Time in a database: one for all processes of the machine, whatever their wall clocks say, and across a restart."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from brokerkit_sqlalchemy import SQLAlchemyResultBackend, SQLAlchemyTransport, hosttime
from brokerkit_sqlalchemy.hosttime import HostTime

from brokerkit.models import Message, Queue, Record
from brokerkit.testing import ManualClock

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]

HOUR = 3600.0

needs_boot_id = pytest.mark.usefixtures("boot")


class WrongClock:
    """The machine's clock, of which somebody has set the time of day."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return 1_700_000_000.0 + time.monotonic() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        return condition.wait(timeout)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Sets which start of the machine this is; the first one to begin with."""

    def start(name: str | None) -> None:
        monkeypatch.setattr(hosttime, "_boot_id", lambda: name)

    start("first")
    return start


def clock_row(folder: Path, set_to: str | None = None) -> str:
    with closing(sqlite3.connect(folder / "broker.db", isolation_level=None)) as connection:
        if set_to is not None:
            connection.execute("UPDATE bk_meta SET value = ? WHERE name = 'clock'", (set_to,))
        return str(connection.execute("SELECT value FROM bk_meta WHERE name = 'clock'").fetchone()[0])


@needs_boot_id
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_process_with_a_wrong_clock_agrees_with_the_others(open_transport: Open, message: Make, ahead: float) -> None:
    right, wrong = open_transport(clock=WrongClock()), open_transport(clock=WrongClock(ahead))
    right.declare(Queue(name="q"), timeout=5)
    assert right.send("q", [message(), message(delay=0.2)], timeout=5) == [None, None]
    holder = right.open_receiver(["q"], prefetch=5, visibility_timeout=0.4)
    other = wrong.open_receiver(["q"], prefetch=5, visibility_timeout=60)
    ((held,), _) = holder.receive(limit=1, timeout=1)
    began = time.monotonic()
    assert other.receive(limit=5, timeout=0)[0] == []
    first, second = (other.receive(limit=1, timeout=5)[0][0] for _ in range(2))
    assert first.message.delay == 0
    assert second.message.id == held.message.id
    assert 0.1 < time.monotonic() - began < 5


@needs_boot_id
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_setting_the_clock_ends_no_lease_and_delays_none(open_transport: Open, message: Make, jump: float) -> None:
    clock = WrongClock()
    transport = open_transport(clock=clock)
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message()], timeout=5)
    receiver = transport.open_receiver(["q"], prefetch=5, visibility_timeout=0.5)
    ((held,), _) = receiver.receive(limit=1, timeout=1)
    clock.ahead += jump
    assert receiver.receive(limit=1, timeout=0)[0] == []
    ((again,), _) = (
        open_transport(clock=clock).open_receiver(["q"], prefetch=5, visibility_timeout=9).receive(limit=1, timeout=5)
    )
    assert (again.message.id, again.attempt) == (held.message.id, 2)


@needs_boot_id
def test_a_result_lives_as_long_as_asked_when_the_clock_is_set(
    open_results: Callable[..., SQLAlchemyResultBackend],
) -> None:
    clock = WrongClock()
    backend = open_results(clock=clock)
    backend.put([Record(key="k", value=b"v", final=True)], ttl=60, timeout=5)
    clock.ahead += HOUR
    (found,) = backend.get(["k"], timeout=5)
    assert found is not None
    assert not found.expired


def test_after_a_restart_of_the_machine_time_goes_on_by_the_wall_clock(
    tmp_path: Path, open_transport: Open, message: Make, boot: Callable[[str | None], None]
) -> None:
    transport = open_transport(clock=WrongClock())
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(delay=HOUR)], timeout=5)
    assert clock_row(tmp_path).startswith("first ")
    transport.close(timeout=5)
    boot("second")
    later = open_transport(clock=WrongClock(HOUR))
    assert len(later.open_receiver(["q"], prefetch=1, visibility_timeout=9).receive(limit=1, timeout=0)[0]) == 1
    assert clock_row(tmp_path).startswith("second ")


@needs_boot_id
@pytest.mark.parametrize("damage", ["", "first", "first x", "first nan", "first inf", "1.5", "zweiter 1.5"])
def test_a_damaged_clock_row_is_written_anew(tmp_path: Path, open_transport: Open, damage: str) -> None:
    open_transport(clock=WrongClock()).declare(Queue(name="q"), timeout=5)
    whole = clock_row(tmp_path)
    clock_row(tmp_path, damage)
    open_transport(clock=WrongClock()).declare(Queue(name="q"), timeout=5)
    whose, _, number = clock_row(tmp_path).partition(" ")
    assert whose == "first"
    assert abs(float(number) - float(whole.partition(" ")[2])) < 1


def test_where_starts_cannot_be_told_apart_the_wall_clock_decides(boot: Callable[[str | None], None]) -> None:
    boot(None)
    clock = WrongClock()
    host = HostTime(clock)
    before = host.now()
    clock.ahead += HOUR
    assert host.agreed
    assert HOUR <= host.now() - before < HOUR + 60


@needs_boot_id
def test_a_clock_that_is_moved_by_hand_is_followed() -> None:
    clock = ManualClock(start=5.0)
    host = HostTime(clock)
    clock.advance(7.0)
    assert host.agreed
    assert host.now() == 12.0
