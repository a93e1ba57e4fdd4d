"""Wrong URLs, absent servers, harnesses that lie and plugins that do not answer: a sentence and a code for each."""

from __future__ import annotations

import json
import socket

import pytest
from brokerkit_conformance import cli

HEAD = """
from dataclasses import fields
from brokerkit import registry
from brokerkit.errors import NotConnected, QueueNotFound
from brokerkit.memory import MemoryTransport, MemoryResultBackend
from brokerkit_conformance.reference import MemoryHarness
from brokerkit_conformance import Harness as Base

real = MemoryTransport.capabilities

class Planted(MemoryHarness):
    name, value = "capabilities", None
    def clock(self):
        return None
    def start(self):
        self.before = vars(MemoryTransport)[self.name]
        self.plant()
    def plant(self):
        setattr(MemoryTransport, self.name, self.value)
    def stop(self):
        setattr(MemoryTransport, self.name, self.before)
"""


@pytest.fixture
def run(capsys, tmp_path):
    """Runs the command on a harness given as text; returns its code, the report if there is one, and what it said."""

    def run(text, *args):
        path = tmp_path / "harness.py"
        path.write_text(HEAD + text)
        with pytest.raises(SystemExit) as ended:
            cli.main(["run", f"{path}:Harness", "--area", "RED", "--json", *args])
        shown = capsys.readouterr()
        return ended.value.code, json.loads(shown.out) if shown.out else None, " ".join(shown.err.split())

    return run


WRONG_ADDRESSES = [
    ("return ('nosuch://x',)", "the harness's urls() lead nowhere: UnknownScheme: no transport serves nosuch://"),
    ("return ('not a url',)", "the harness's urls() lead nowhere: InvalidURL"),
    ("return ('memory://x/y?colour=red',)", "lead nowhere: InvalidOption"),
    ("return ('redis+nosuch://x',)", "lead nowhere"),
]


@pytest.mark.parametrize(("urls", "said"), WRONG_ADDRESSES)
def test_a_wrong_url(run, urls, said):
    code, report, text = run(f"class Harness(Base):\n    def urls(self):\n        {urls}\n")
    assert (code, report) == (11, None)
    assert text.startswith("INVALID: ")
    assert said in text


def test_a_wrong_url_does_not_show_its_password(run):
    code, _, text = run("class Harness(Base):\n    def urls(self):\n        return ('nosuch://ann:hunter2@x',)\n")
    assert code == 11
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Harness(Base): pass", "there is nothing to test"),
        ("class Harness(Base):\n    def urls(self):\n        raise RuntimeError('no idea')\n", "cannot give its URLs"),
        ("class Harness:\n    def __init__(self):\n        raise RuntimeError('no idea')\n", "cannot be made"),
    ],
)
def test_a_harness_that_does_not_work(run, text, said):
    code, report, told = run(text)
    assert (code, report) == (10, None)
    assert said in told


LIARS = [
    (
        "class Harness(MemoryHarness):\n    def urls(self):\n        return 'memory://a/one', 'memory://a/one'\n",
        "the second of its urls() is to lead elsewhere, and is the first again",
    ),
    (
        "class Harness(MemoryHarness):\n    def results_urls(self):\n        return 'memory://a/one', 'memory://a/one'\n",
        "the second of its results_urls() is to lead elsewhere",
    ),
    (
        # what was not declared through this connection is refused without asking the server
        """
class Harness(Planted):
    name = "send"
    def plant(self):
        def send(transport, queue, *args, **kwargs):
            raise QueueNotFound(queue)
        MemoryTransport.send = send
""",
        "'there is no such queue' is not the server's answer",
    ),
]


@pytest.mark.parametrize(("text", "said"), LIARS)
def test_a_harness_that_lies(run, text, said):
    code, report, told = run(text)
    assert (code, report) == (12, None)
    assert told.startswith("INVALID: the harness lies: ")
    assert said in told


UNDECLARED = [
    (
        "class Harness(Planted):\n    def plant(self):\n        MemoryTransport.capabilities = None\n",
        "UNDECLARED: transport: it declares no capabilities at all",
    ),
    (
        """
class Some:
    pass
for field in fields(real):
    if field.name not in ("priority", "attempts"):
        setattr(Some, field.name, getattr(real, field.name))
class Harness(Planted):
    value = Some()
""",
        "UNDECLARED: transport.attempts: it is not answered; transport.priority: it is not answered",
    ),
    (
        "from dataclasses import replace\nclass Harness(Planted):\n    value = replace(real, attempts='sometimes')\n",
        "UNDECLARED: transport.attempts: it is answered with 'sometimes'",
    ),
    (
        "from dataclasses import replace\nclass Harness(Planted):\n    value = replace(real, lease=True)\n",
        "UNDECLARED: transport.lease: it is answered with True",
    ),
]


@pytest.mark.parametrize(("text", "said"), UNDECLARED)
def test_a_plugin_that_does_not_answer_everything(run, text, said):
    code, report, told = run(text)
    assert (code, report) == (13, None)
    assert said in told


DEAD = """
class Harness(Planted):
    name = "{name}"
    def plant(self):
        def dead(*args, **kwargs):
            raise NotConnected("nobody at 127.0.0.1:1")
        setattr(MemoryTransport, self.name, {value})
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DEAD.format(name="send", value="dead"), "no server answers: NotConnected: "),
        (DEAD.format(name="from_url", value="classmethod(dead)"), "no server answers: NotConnected"),
        (
            "class Harness(MemoryHarness):\n    def start(self):\n        raise OSError('no such program: acmed')\n",
            "the harness could not start its server: OSError: no such program: acmed",
        ),
        (
            "class Harness(Base):\n    def start(self): raise OSError('no acmed')\n    def urls(self): return (self.found,)\n",
            "could not start its server",
        ),
    ],
)
def test_without_a_server_nothing_has_run_and_the_verdict_is_incomplete(run, text, said):
    code, report, _ = run(text)
    assert (code, report["verdict"]) == (2, "INCOMPLETE")
    assert set(report["totals"]) == {"NOT_RUN"}
    assert {case["reason"] for case in report["cases"] if case["outcome"]} == {report["why_not_run"]}
    assert said in report["why_not_run"]
    assert report["evidence"] == []


def test_allow_incomplete_changes_the_exit_code_and_not_the_verdict(run):
    text = DEAD.format(name="from_url", value="classmethod(dead)")
    code, report, _ = run(text, "--allow-incomplete")
    assert (code, report["verdict"]) == (0, "INCOMPLETE")
    assert {level["verdict"] for level in report["levels"].values()} == {"INCOMPLETE"}


def test_allow_incomplete_forgives_no_failure(run):
    text = """
class Harness(Planted):
    name = "send"
    def plant(self):
        def lost(transport, queue, *args, **kwargs):
            return None
        MemoryTransport.send = lost
"""
    code, report, _ = run(text, "--allow-incomplete", "--case", "RED-01")
    assert (code, report["verdict"]) == (1, "NONCONFORMANT")


def test_a_real_plugin_whose_server_is_not_there(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = (
            "class Harness(Base):\n    def urls(self):\n"
            f"        return ('sqlalchemy+postgresql+psycopg://ann:hunter2@127.0.0.1:{port}/db',)\n"
        )
        code, report, told = run(text)
    assert code in (2, 11)  # 11 where its driver is not installed
    assert "hunter2" not in json.dumps(report) + told
