"""Forks: SQLite keeps what it knows of a file's locks in the memory of the process, which a child must not inherit."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PRELUDE = """
import os, sys, threading, warnings
import brokerkit
from brokerkit.results import results
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking with threads, which is the point here
url = "sqlite:///" + sys.argv[1]
broker = brokerkit.connect(url)
broker.declare("q")
broker.send("q", "before")

def fork(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    return pid

def join(pid):
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""

_PARENT_CLOSES_FIRST = """
working, closed = os.pipe(), os.pipe()

def child():
    broker.send("q", "while the parent has it open")
    os.write(working[1], b"x")
    os.read(closed[0], 1)
    broker.send("q", "after the parent closed it")
    broker.close()

pid = fork(child)
os.read(working[0], 1)
broker.close()
os.write(closed[1], b"x")
join(pid)
with brokerkit.connect(url) as other:
    assert other.depth("q").ready == 3, other.depth("q")
"""

_A_TRANSACTION_UNDER_WAY = """
inside, go_on = threading.Event(), threading.Event()

def work(cursor):
    cursor.execute("UPDATE bk_queues SET name = name")
    inside.set()
    go_on.wait(0.3)

writer = threading.Thread(target=lambda: broker.transport._database.write(work, timeout=10.0))
writer.start()
assert inside.wait(10)
join(fork(lambda: broker.send("q", "from the child", timeout=5.0)))
writer.join()
assert broker.depth("q").ready == 2
broker.close()
"""

_A_RECEIVER_THAT_WAITS = """
consumer = broker.consumer("q")
consumer.receive(5).ack(wait=True)
came = []
waiter = threading.Thread(target=lambda: came.append(consumer.receive(20)))
waiter.start()
store = results("db+" + url)
store.set_result("before", 1)
for i in range(3):
    join(fork(lambda: store.set_result(str(i), i)))
    assert store.get(str(i)).value == i
assert not came
join(fork(lambda: broker.send("q", "from the child")))
waiter.join(10)
assert came[0].payload == "from the child"
came[0].ack(wait=True)
store.close()
broker.close()
"""

_IN_MEMORY = """
with brokerkit.connect("sqlite://") as memory:
    memory.declare("q")
    memory.send("q", "x")
    join(fork(lambda: memory.declare("q", max_length=1)))
    assert memory.depth("q").ready == 1
broker.close()
"""


@pytest.mark.parametrize(
    "script",
    [_PARENT_CLOSES_FIRST, _A_TRANSACTION_UNDER_WAY, _A_RECEIVER_THAT_WAITS, _IN_MEMORY],
    ids=["parent-closes-first", "transaction-under-way", "receiver-waits", "in-memory"],
)
def test_forks(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + script, str(tmp_path / "broker.db")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
