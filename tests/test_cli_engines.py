"""The command line: what is installed, what it promises, and the doctor."""

import json
import sys
import textwrap
import uuid
from dataclasses import replace

import pytest

from brokerkit import registry
from brokerkit.capabilities import Absence
from brokerkit.cli import app, exits
from brokerkit.cli.advice import of_broker, of_results
from brokerkit.memory import MemoryTransport
from brokerkit.results import results

_MODULE = """
import brokerkit.errors as e
from brokerkit.memory import MemoryResultBackend, MemoryTransport

class Denied(MemoryTransport):
    def declare(self, queue, *, timeout):
        raise e.AccessDenied("declare: the user may not")

class Forgetful(MemoryTransport):
    def send(self, name, messages, *, timeout):
        return [None] * len(messages)

class Away(MemoryResultBackend):
    def put(self, records, *, ttl, timeout):
        raise e.NotConnected("store: nobody listens at port 1")
"""

_ENTRY_POINTS = """
[brokerkit.transports]
denied = strange_engines:Denied
forgetful = strange_engines:Forgetful
away = strange_engines:MemoryTransport
messages-only = strange_engines:MemoryTransport
absent = no_such_module:Transport

[brokerkit.result_backends]
away = strange_engines:Away
results-only = strange_engines:MemoryResultBackend
"""


@pytest.fixture
def cli(capsys, monkeypatch):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["brokerkit", *args])
        code = app.run(args)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Installs a distribution with engines that misbehave."""
    (tmp_path / "strange_engines.py").write_text(_MODULE)
    folder = tmp_path / "strange-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text(textwrap.dedent(_ENTRY_POINTS))
    monkeypatch.syspath_prepend(tmp_path)
    registry.forget()
    yield
    registry.forget()
    sys.modules.pop("strange_engines", None)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("brokerkit.cli.doctor._TRIP_SECONDS", 0.05)


def checks(out):
    document = json.loads(out)
    return document, {
        check["name"]: check for check in document["checks"] if check["status"] in ("ok", "failed", "absent")
    }


def test_plugins_are_listed_with_where_they_come_from(cli):
    code, out, _ = cli("plugins", "--json")
    found = {(plugin["scheme"], plugin["kind"]): plugin for plugin in json.loads(out)["plugins"]}
    assert found["memory", "transport"]["distribution"].startswith("brokerkit-messaging ")
    assert found["memory", "result_backend"]["error"] is None
    assert code == (exits.NO if any(plugin["error"] for plugin in found.values()) else exits.OK)


def test_a_broken_plugin_is_shown_with_its_error_beside_the_others(cli, engines):
    code, out, _ = cli("plugins", "--json")
    assert code == exits.NO
    found = {(plugin["scheme"], plugin["kind"]): plugin for plugin in json.loads(out)["plugins"]}
    assert "no_such_module" in found["absent", "transport"]["error"]
    assert found["denied", "transport"] == {
        "scheme": "denied",
        "kind": "transport",
        "distribution": "strange 1.2",
        "entry_point": "strange_engines:Denied",
        "error": None,
    }
    assert "memory://" in cli("plugins")[1]


def test_capabilities_are_typed_in_json_and_a_table_for_people(cli):
    url = f"memory://{uuid.uuid4().hex}"
    document = json.loads(cli("capabilities", url, "--json")[1])
    assert document["transport"]["lease.extend"] is True
    assert document["transport"]["dedup"] == {"missing": "impossible", "reason": "memory keeps no history of messages"}
    assert document["result_backend"]["wait"] == "push"
    people = cli("capabilities", url)[1]
    assert "transport of memory" in people
    assert "lease.time_source" in people


def test_capabilities_of_an_engine_that_has_only_one_kind(cli, engines):
    document = json.loads(cli("capabilities", "results-only://", "--json")[1])
    assert document["transport"] is None
    assert document["result_backend"]["product"] == "memory"
    document = json.loads(cli("capabilities", "messages-only://", "--json")[1])
    assert document["result_backend"] is None


def test_one_url_may_hold_options_of_the_transport_and_of_the_result_backend(cli):
    url = f"memory://{uuid.uuid4().hex}?prefetch=3&expires=60&timeout=5"
    assert cli("capabilities", url, "--json")[0] == exits.OK
    code, _, err = cli("capabilities", f"{url}&expries=60")
    assert code == exits.CONFIGURATION
    assert "expries" in err


def test_the_doctor_finds_memory_healthy_and_warns(cli):
    code, out, _ = cli("doctor", f"memory://{uuid.uuid4().hex}", "--json")
    document, found = checks(out)
    assert code == exits.OK
    assert document["healthy"] is True
    assert {name: check["status"] for name, check in found.items()} == dict.fromkeys(
        ("transport", "connection", "messages", "topics", "removal", "result backend", "results"), "ok"
    )
    assert any("one process" in check["detail"] for check in document["checks"] if check["status"] == "warning")
    assert "warning" in cli("doctor", f"memory://{uuid.uuid4().hex}")[1]


def test_the_doctor_reports_the_first_failure_by_its_code_and_looks_on(cli, engines):
    code, out, err = cli("doctor", "denied://", "--json")
    document, found = checks(out)
    assert code == exits.DENIED
    assert document["healthy"] is False
    assert found["connection"]["detail"] == "declare: the user may not"
    assert found["result backend"]["status"] == "absent"
    assert "Traceback" not in err


def test_the_doctor_notices_a_broker_that_loses_messages(cli, engines, quick):
    code, out, _ = cli("doctor", f"forgetful://{uuid.uuid4().hex}", "--json")
    _, found = checks(out)
    assert code == exits.UNAVAILABLE
    assert found["messages"]["status"] == "failed"
    assert "nothing was received" in found["messages"]["detail"]
    assert found["removal"]["status"] == "ok"


def test_the_doctor_notices_a_result_store_that_is_away(cli, engines):
    code, out, _ = cli("doctor", f"away://{uuid.uuid4().hex}?retry_policy=%7B%22max_retries%22:0%7D", "--json")
    _, found = checks(out)
    assert code == exits.TEMPORARY
    assert found["messages"]["status"] == "ok"
    assert "port 1" in found["results"]["detail"]


def test_the_doctor_of_an_unknown_scheme_or_option_says_so(cli):
    assert cli("doctor", "memroy://")[0] == exits.CONFIGURATION
    assert cli("doctor", "sqs://")[0] == exits.UNAVAILABLE
    code, out, _ = cli("doctor", "memory://?nothing=1", "--json")
    assert code == exits.CONFIGURATION
    assert "nothing" in json.loads(out)["checks"][0]["detail"]


def test_advice_follows_from_the_capabilities():
    vague = replace(
        MemoryTransport.capabilities, evictable=("bindings",), settle="sent", attempts="flag", shared="host"
    )
    texts = " ".join(text for _, text in of_broker(vague))
    for word in ("bindings", "confirm", "flag", "one machine"):
        assert word in texts
        assert word not in " ".join(text for _, text in of_broker(MemoryTransport.capabilities))
    with results("memory://") as store:
        exact = replace(store.capabilities, absence=Absence(expired="exact", forgotten="exact", evicted="unknown"))
    assert any(text.endswith("when it was: evicted") for _, text in of_results(exact))
