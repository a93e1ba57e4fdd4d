"""Several processes on one file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from brokerkit_sqlalchemy import SQLAlchemyTransport

from brokerkit.models import Depth, Message, Queue

Open = Callable[..., SQLAlchemyTransport]
Make = Callable[..., Message]
Start = Callable[[str], "subprocess.Popen[str]"]


def said(process: subprocess.Popen[str]) -> list[str]:
    """Return what a process printed until its end, which must be a good one."""
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return printed.split()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_eight_processes_make_the_same_tables_and_queue_at_once(actor: Start, open_transport: Open) -> None:
    processes = [
        actor("""
            tell("ready")
            sys.stdin.readline()
            transport.declare(Queue(name="q", expires=600), timeout=30)
            transport.bind("q", "t", "#", timeout=30)
            transport.send("q", [message(b"x")], timeout=30)
            backend.put([Record(key="k", value=b"1")], ttl=None, timeout=30)
        """)
        for _ in range(8)
    ]
    assert [line(process) for process in processes] == ["ready"] * 8
    for process in processes:
        go(process)
    for process in processes:
        said(process)
    transport = open_transport()
    assert transport.depth("q", timeout=5).ready == 8


def test_what_was_sent_is_there_when_the_sender_is_killed(actor: Start, open_transport: Open) -> None:
    sender = actor("""
        transport.declare(Queue(name="q"), timeout=30)
        transport.send("q", [message(b"one")], timeout=30)
        transport.send("q", [message(b"two"), message(b"three")], timeout=30)
        tell("sent")
        sys.stdin.readline()
    """)
    assert line(sender) == "sent"
    sender.kill()
    receiver = open_transport().open_receiver(["q"], prefetch=9, visibility_timeout=30)
    claimed, _ = receiver.receive(limit=9, timeout=5)
    assert [r.message.body for r in claimed] == [b"one", b"two", b"three"]


def test_what_a_killed_process_held_comes_back_when_its_lease_ends(
    actor: Start, open_transport: Open, message: Make
) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    transport.send("q", [message(), message()], timeout=5)
    holder = actor("""
        receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=1.0)
        claimed, _ = receiver.receive(limit=9, timeout=30)
        tell(len(claimed))
        sys.stdin.readline()
    """)
    assert line(holder) == "2"
    holder.kill()
    receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
    claimed, _ = receiver.receive(limit=9, timeout=30)
    assert [r.attempt for r in claimed] == [2, 2]


def test_a_transaction_that_a_kill_cut_off_leaves_nothing(actor: Start, open_transport: Open) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    writer = actor("""
        def work(cursor):
            transport._store(cursor, "q", [message(b"x") for _ in range(100)])
            tell("stored, not committed")
            sys.stdin.readline()
        transport._database.write(work, timeout=30)
    """)
    assert line(writer) == "stored, not committed"
    writer.kill()
    writer.wait()
    assert transport.depth("q", timeout=5).ready == 0
    transport.declare(Queue(name="r"), timeout=5)  # its lock went with it


def test_a_blocked_receiver_hears_of_another_process(actor: Start, open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    receiver = actor("""
        receiver = transport.open_receiver(["q"], prefetch=9, visibility_timeout=30)
        receiver.receive(limit=1, timeout=0.01)
        tell("waits")
        claimed, _ = receiver.receive(limit=1, timeout=60)
        tell(claimed[0].message.body.decode())
    """)
    assert line(receiver) == "waits"
    transport.send("q", [message(b"hello")], timeout=5)
    assert line(receiver) == "hello"


def test_each_message_has_one_owner_among_processes(actor: Start, open_transport: Open, message: Make) -> None:
    transport = open_transport()
    transport.declare(Queue(name="q"), timeout=5)
    consumers = [
        actor("""
            receiver = transport.open_receiver(["q"], prefetch=10, visibility_timeout=60)
            tell("ready")
            sys.stdin.readline()
            acks, lost = receiver.receive(limit=3, timeout=5)
            while acks:
                tell(*(r.message.body.decode() for r in acks))
                acks, lost = receiver.receive(limit=3, timeout=0.5, acks=acks)
                assert not lost
            receiver.close(timeout=5)
        """)
        for _ in range(3)
    ]
    assert [line(consumer) for consumer in consumers] == ["ready"] * 3
    transport.send("q", [message(b"%d" % i) for i in range(600)], timeout=30)
    for consumer in consumers:
        go(consumer)
    bodies = [body for consumer in consumers for body in said(consumer)]
    assert sorted(map(int, bodies)) == [*range(600)]
    assert transport.depth("q", timeout=5) == Depth(0, 0, 0)
