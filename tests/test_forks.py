"""Laws of forking: the child opens its own, and never touches the parent's. Each test forks in a process of its own."""

import subprocess
import sys

import pytest

PRELUDE = """
import os, sys, threading, warnings
import brokerkit
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads, which is the point here

def in_child(function):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child failed"
"""

CHILD_HAS_ITS_OWN_DRIVER = """
url = "sqlite:///" + sys.argv[1]
broker = brokerkit.connect(url)
broker.declare("q")
broker.send("q", "before")
inherited = broker.transport

def child():
    assert broker.transport is not inherited
    broker.send("q", "child")
    with broker.consumer("q") as consumer:
        assert consumer.receive(20) is not None

in_child(child)
broker.send("q", "parent")
assert broker.depth("q").ready + broker.depth("q").in_flight == 3
broker.close()
"""

CHILD_LEAVES_THE_PARENTS_MESSAGES = """
url = "sqlite:///" + sys.argv[1]
broker = brokerkit.connect(url, visibility_timeout=30)
broker.declare("q")
broker.send_many("q", [1, 2])
consumer = broker.consumer("q", prefetch=2)
delivery = consumer.receive(20)

def child():
    for call in (lambda: consumer.receive(0), delivery.ack, delivery.release):
        try:
            call()
        except (brokerkit.errors.Closed, brokerkit.errors.LeaseLost):
            continue
        raise AssertionError("the child used the parent's consumer")
    consumer.close()

in_child(child)
assert broker.depth("q").in_flight == 2
delivery.ack(wait=True)
consumer.receive(20).ack(wait=True)
assert broker.depth("q") == brokerkit.Depth(0, 0, 0)
broker.close()
"""

LOCKS_HELD_AT_THE_FORK = """
broker = brokerkit.connect("memory://locks")
broker.declare("q")
stop = threading.Event()

def hammer():
    while not stop.is_set():
        broker.send("q", 1)
        with broker.consumer("q") as consumer:
            if (delivery := consumer.receive(0)) is not None:
                delivery.ack()

threads = [threading.Thread(target=hammer) for _ in range(4)]
for thread in threads:
    thread.start()

def child():
    broker.declare("mine")
    broker.send("mine", 1)
    with broker.consumer("mine") as consumer:
        assert consumer.receive(5).payload == 1

for _ in range(10):
    in_child(child)
stop.set()
for thread in threads:
    thread.join()
broker.close()
"""


@pytest.mark.parametrize(
    "script", [CHILD_HAS_ITS_OWN_DRIVER, CHILD_LEAVES_THE_PARENTS_MESSAGES, LOCKS_HELD_AT_THE_FORK]
)
def test_forks(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(tmp_path / "broker.db")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
