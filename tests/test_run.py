"""Laws of Consumer.run: threads, errors, and an orderly end on SIGTERM; real processes, real signals."""

import signal
import subprocess
import sys
import threading
import uuid

import pytest

import brokerkit
from brokerkit.testing import wait_until

WORKER = r"""
import os, sys, threading, brokerkit
broker = brokerkit.connect("memory://worker")
broker.declare("q")
broker.send_many("q", range(100))

def handle(delivery):
    os.write(1, b"start %d\n" % delivery.payload)
    threading.Event().wait(float(sys.argv[1]))
    os.write(1, b"end %d\n" % delivery.payload)

broker.consumer("q", prefetch=10).run(handle, concurrency=2)
depth = broker.depth("q")
print("left", depth.ready, depth.in_flight, flush=True)
"""


@pytest.fixture
def broker():
    with brokerkit.connect(f"memory://{uuid.uuid4().hex}", retry_delay=0) as b:
        b.declare("q", max_attempts=2)
        yield b


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_running_handlers_and_gives_back_the_rest(number):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, "0.3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = [worker.stdout.readline(), worker.stdout.readline()]
    worker.send_signal(number)
    rest, errors = worker.communicate(timeout=60)
    lines += rest.splitlines()
    started = {line.split()[1] for line in lines if line.startswith("start")}
    ended = {line.split()[1] for line in lines if line.startswith("end")}
    assert started == ended
    assert lines[-1] == f"left {100 - len(ended)} 0"
    assert (worker.returncode, errors) == (0, "")


def test_handlers_run_side_by_side_and_failures_are_retried(broker):
    broker.send_many("q", range(20))
    together = threading.Barrier(4)
    done = []

    def handle(delivery):
        if delivery.payload < 4:
            together.wait(30)
        if delivery.payload == 7 and delivery.attempt == 1:
            raise ValueError("once")
        done.append(delivery.payload)
        if len(done) == 20:
            consumer.stop()

    consumer = broker.consumer("q")
    consumer.run(handle, concurrency=4)
    assert sorted(done) == list(range(20))
    assert broker.depth("q") == brokerkit.Depth(0, 0, 0)


def test_poison_does_not_stop_the_worker(broker):
    broker.send_many("q", ["poison", "good"])

    def handle(delivery):
        if delivery.payload == "poison":
            raise ValueError("bad")
        wait_until(lambda: broker.dead_letters("q"))
        consumer.stop()

    consumer = broker.consumer("q")
    consumer.run(handle, concurrency=2)
    assert [letter.reason for letter in broker.dead_letters("q")] == ["failed"]


def test_a_handler_that_exits_ends_the_worker_and_its_message_goes_back(broker):
    broker.send("q", 1)
    with pytest.raises(SystemExit):
        broker.consumer("q").run(lambda delivery: sys.exit(3))
    assert broker.depth("q") == brokerkit.Depth(1, 0, 0)


def test_a_handler_that_does_not_end_in_time_does_not_hold_up_the_close(broker):
    broker.send("q", 1)
    hold, started = threading.Event(), threading.Event()

    def handle(delivery):
        started.set()
        hold.wait(60)

    consumer = broker.consumer("q")
    running = threading.Thread(target=consumer.run, args=(handle,), kwargs={"shutdown_timeout": 0.05})
    running.start()
    assert started.wait(30)
    consumer.stop()
    running.join(30)
    assert not running.is_alive()
    assert broker.depth("q") == brokerkit.Depth(1, 0, 0)
    hold.set()


def test_a_queue_that_goes_and_comes_back_does_not_end_the_worker(broker):
    seen = []
    events = []
    with brokerkit.connect(str(broker.url), on_event=lambda event: events.append(event.name)) as other:
        consumer = other.consumer("q")
        running = threading.Thread(target=consumer.run, args=(lambda delivery: seen.append(delivery.payload),))
        running.start()
        broker.delete("q")
        wait_until(lambda: "receiver_failed" in events)
        broker.declare("q", max_attempts=2)
        broker.send("q", "new")
        wait_until(lambda: seen == ["new"])
        consumer.stop()
        running.join(30)


def test_concurrency_below_one_is_refused(broker):
    with pytest.raises(ValueError, match="at least 1"):
        broker.consumer("q").run(print, concurrency=0)
