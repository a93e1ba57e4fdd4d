"""The command line: sending, receiving and looking after queues, against a broker of this process."""

import io
import json
import os
import signal
import subprocess
import sys
import uuid

import pytest

import brokerkit
from brokerkit.cli import app, exits


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def broker(url):
    with brokerkit.connect(url) as broker:
        broker.declare("mail")
        yield broker


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run one command; returns its exit code, what it answered and what it remarked."""

    def call(*args, stdin=None):
        monkeypatch.setattr(sys, "argv", ["brokerkit", *args])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = app.run(args)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def answer(result):
    code, out, _ = result
    assert code == exits.OK, result
    return json.loads(out)


def test_what_is_sent_is_received_with_its_options(cli, url, broker):
    sent = answer(cli("send", url, "mail", '{"to": "ada"}', "-H", "a=b=c", "--priority", "7", "--json"))
    assert sent["sent"] == 1
    assert sent["failed"] == []
    (message,) = answer(cli("receive", url, "mail", "--json"))["messages"]
    assert message["id"] == sent["ids"][0]
    assert message["payload"] == {"to": "ada"}
    assert message["priority"] == 7
    assert message["attempt"] == 1
    assert message["headers"]["a"] == "b=c"
    assert broker.depth("mail") == brokerkit.Depth(0, 0, 0)


def test_a_payload_from_stdin_and_one_message_for_each_line(cli, url, broker):
    assert cli("send", url, "mail", stdin=b'{"a": 1}')[0] == exits.OK
    assert cli("send", url, "mail", "-", "--lines", "--count", "2", stdin=b"1\n\n2\n")[0] == exits.OK
    got = answer(cli("receive", url, "mail", "-n", "10", "-t", "0", "--json"))["messages"]
    assert [message["payload"] for message in got] == [{"a": 1}, 1, 1, 2, 2]


def test_raw_bytes_travel_untouched(url, broker, capfdbinary):
    broker.send("mail", b"\xff\x00first")
    broker.send("mail", b"second\n")
    code = app.run(["receive", url, "mail", "--raw", "-n", "2"])
    assert code == exits.OK
    assert capfdbinary.readouterr().out == b"\xff\x00first\nsecond\n"


def test_raw_bytes_are_sent_untouched_and_shown_as_base64_if_they_are_no_text(cli, url, broker):
    assert cli("send", url, "mail", "--raw", stdin=b"\xff\x00")[0] == exits.OK
    assert cli("send", url, "mail", "{no json", "--raw")[0] == exits.OK
    first, second = answer(cli("receive", url, "mail", "-n", "2", "--json"))["messages"]
    assert first["base64"] == "/wA="
    assert second["text"] == "{no json"


def test_people_see_the_payload_and_what_is_known_of_it(cli, url, broker):
    broker.send("mail", {"to": "ada"}, headers={"x": "[bold]y"})
    code, out, _ = cli("receive", url, "mail")
    assert code == exits.OK
    assert '{"to": "ada"}' in out
    assert "x=[bold]y" in out


def test_no_ack_gives_back_without_counting(cli, url, broker):
    ids = broker.send_many("mail", range(3))
    for _ in range(2):
        got = answer(cli("receive", url, "mail", "-n", "10", "-t", "0", "--no-ack", "--json"))["messages"]
        assert [(message["id"], message["attempt"]) for message in got] == [(key, 1) for key in ids]
    assert broker.depth("mail").ready == 3


def test_nothing_received_is_a_no(cli, url, broker):
    code, out, err = cli("receive", url, "mail", "-t", "0", "--json")
    assert code == exits.NO
    assert json.loads(out) == {"queue": "mail", "messages": []}
    assert "nothing was received" in err


def test_a_body_that_cannot_be_decoded_is_shown_and_not_dead_lettered(cli, url, broker):
    with brokerkit.connect(url, serializer="pickle", accept="pickle") as other:
        other.send("mail", {1, 2})
    (message,) = answer(cli("receive", url, "mail", "--no-ack", "--json"))["messages"]
    assert "payload" not in message
    assert broker.depth("mail").ready == 1
    assert broker.dead_letters("mail") == []


def test_messages_go_back_if_they_cannot_be_printed(url, broker, monkeypatch):
    class Closed(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

        def fileno(self):
            return os.open(os.devnull, os.O_WRONLY)

    broker.send("mail", 1)
    monkeypatch.setattr(sys, "stdout", Closed())
    assert app.run(["receive", url, "mail"]) == exits.TERMINATED
    assert broker.depth("mail") == brokerkit.Depth(1, 0, 0)


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["send", "URL", "nowhere", "1"], exits.UNAVAILABLE, "--declare"),
        (["send", "URL", "mail", "{a"], exits.DATA, "not JSON"),
        (["send", "URL", "mail", "1", "--priority", "10"], exits.DATA, "priority=10"),
        (["send", "URL", "mail", "1", "-H", "novalue"], exits.USAGE, "NAME=VALUE"),
        (["send", "URL", "mail", "1", "--lines"], exits.USAGE, "--lines"),
        (["send", "URL", "", "1"], exits.USAGE, "queue"),
        (["receive", "URL", "nowhere"], exits.UNAVAILABLE, "nowhere"),
        (["receive", "URL", "mail", "--raw", "--json"], exits.USAGE, "exclude"),
        (["receive", "URL"], exits.USAGE, "QUEUE"),
        (["frobnicate"], exits.USAGE, "frobnicate"),
        (["depth", "URL?prefetsh=1", "mail"], exits.CONFIGURATION, "prefetch"),
        (["depth", "memroy://", "mail"], exits.CONFIGURATION, "memory"),
        (["depth", "sqs://", "mail"], exits.UNAVAILABLE, "brokerkit-messaging[sqs]"),
        (["depth", "URL", "mail", "nowhere"], exits.UNAVAILABLE, "process only"),
        (["purge", "URL", "mail"], exits.USAGE, "--yes"),
    ],
)
def test_errors_are_one_clear_sentence_and_a_code(cli, url, broker, args, code, told):  # noqa: PLR0917 - fixtures and a table
    got, out, err = cli(*(arg.replace("URL", url) for arg in args), stdin=b"")
    assert got == code, (out, err)
    assert told in err
    assert "Traceback" not in err


def test_errors_are_json_too_and_debug_shows_where(cli, url, broker):
    code, out, err = cli("receive", url, "nowhere", "--json", "--debug")
    assert code == exits.UNAVAILABLE
    assert json.loads(out)["error"]["type"] == "QueueNotFound"
    assert "Traceback" in err


def test_messages_stored_before_a_failure_are_told(cli, url, broker):
    broker.declare("small", max_length=2)
    code, out, err = cli("send", f"{url}?timeout=0.1", "small", "1", "--count", "3", "--json")
    told = json.loads(out)
    assert code == exits.TEMPORARY
    assert (told["sent"], len(told["ids"]), len(told["failed"])) == (2, 2, 1)
    assert "2 messages were stored" in err


@pytest.mark.parametrize("command", ["depth", "send", "purge", "frobnicate", "doctor", "capabilities"])
@pytest.mark.parametrize("where", ["memory://u:s3cr3t@h", "memory://h?password=s3cr3t", "q memory://u:s3cr3t@h"])
@pytest.mark.parametrize("flags", ["", "--debug", "--json"])
def test_no_secret_of_the_command_line_is_printed(cli, command, where, flags):
    _, out, err = cli(command, *where.split(), "memory://u:s3cr3t@h", *flags.split(), stdin=b"")
    assert "s3cr3t" not in out + err


def test_depth_counts(cli, url, broker):
    broker.send_many("mail", [1, 2])
    broker.send("mail", 3, delay=60)
    (counted,) = answer(cli("depth", url, "mail", "--json"))["queues"]
    assert counted == {"queue": "mail", "exists": True, "ready": 2, "in_flight": 0, "delayed": 1}
    assert "in flight" in cli("depth", url, "mail")[1]


def test_purge_removes_and_says_how_many(cli, url, broker):
    broker.send_many("mail", [1, 2])
    assert answer(cli("purge", url, "mail", "--yes", "--json")) == {"queue": "mail", "purged": 2}


def test_dead_letters_are_listed_and_redriven(cli, url, broker):
    sent = broker.send("mail", {"n": 1})
    with broker.consumer("mail") as consumer:
        consumer.receive(5).dead_letter("rejected", "no [bold]stamp")
    (letter,) = answer(cli("dead-letters", "list", url, "mail", "--json"))["dead_letters"]
    assert (letter["id"], letter["reason"], letter["detail"]) == (sent, "rejected", "no [bold]stamp")
    assert letter["payload"] == {"n": 1}
    assert "no [bold]stamp" in cli("dead-letters", "list", url, "mail")[1]
    assert answer(cli("dead-letters", "redrive", url, "mail", "--json")) == {"queue": "mail", "redriven": 1}
    assert broker.depth("mail").ready == 1
    assert "no dead letters" in cli("dead-letters", "list", url, "mail")[1]


_RECEIVE_UNTIL_TERMINATED = """
import brokerkit
from brokerkit.cli import app

broker = brokerkit.connect("memory://here")
broker.declare("mail")
broker.send("mail", "a payload")
try:
    app.run(["receive", "memory://here", "mail", "--no-ack", "-n", "2", "-t", "60"])
except SystemExit as error:
    print(error.code, broker.depth("mail"))
"""


def test_sigterm_gives_back_what_is_held():
    with subprocess.Popen(
        [sys.executable, "-uc", _RECEIVE_UNTIL_TERMINATED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert "attempt 1" in process.stdout.readline()
        assert process.stdout.readline() == '"a payload"\n'
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert rest.startswith("143 Depth(ready=1, in_flight=0"), rest


def test_help_is_quick_and_loads_no_engine():
    code = (
        "import sys\nfrom brokerkit.cli.app import run\nrun(['--help'])\n"
        "print([m for m in ('kombu', 'sqlalchemy', 'brokerkit.demo', 'brokerkit.bench') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("[]\n")
    assert "75 a temporary failure" in " ".join(done.stdout.split())


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from brokerkit.cli import main; main(['plugins'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == exits.UNAVAILABLE
    assert done.stderr == "pip install 'brokerkit-messaging[cli]'\n"
