"""Files, transports and messages for the tests of this plugin."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokerkit_sqlalchemy import (
    SQLAlchemyResultBackend,
    SQLAlchemyResultOptions,
    SQLAlchemyTransport,
    SQLAlchemyTransportOptions,
)

from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.models import Message, new_id
from brokerkit.url import URL

HANG = 30.0
"""Real seconds after which a test that should have ended fails."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/broker.db"


@pytest.fixture
def open_transport(url: str) -> Iterator[Callable[..., SQLAlchemyTransport]]:
    """Opens transports, by default on one file; closes them at the end."""
    opened: list[SQLAlchemyTransport] = []

    def open_one(where: str = url, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> SQLAlchemyTransport:
        settings = SQLAlchemyTransportOptions(**options)
        opened.append(SQLAlchemyTransport.from_url(URL.parse(where), settings, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close(timeout=HANG)


@pytest.fixture
def open_results(url: str) -> Iterator[Callable[..., SQLAlchemyResultBackend]]:
    """Opens result backends, by default on one file; closes them at the end."""
    opened: list[SQLAlchemyResultBackend] = []

    def open_one(where: str = url, *, clock: Any = SYSTEM_CLOCK, **options: Any) -> SQLAlchemyResultBackend:
        settings = SQLAlchemyResultOptions(**options)
        opened.append(SQLAlchemyResultBackend.from_url(URL.parse(where), settings, clock=clock))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close(timeout=HANG)


@pytest.fixture
def message() -> Callable[..., Message]:
    """Makes messages with ids of their own."""

    def make(body: bytes = b"x", **fields: Any) -> Message:
        return Message(id=new_id(time.time()), body=body, **fields)

    return make


_ACTOR = """
import sys, time
from brokerkit._clock import SYSTEM_CLOCK
from brokerkit.models import Message, Queue, Record, new_id
from brokerkit.url import URL
from brokerkit_sqlalchemy import *

url = URL.parse(sys.argv[1])
transport = SQLAlchemyTransport.from_url(url, SQLAlchemyTransportOptions(), clock=SYSTEM_CLOCK)
backend = SQLAlchemyResultBackend.from_url(url, SQLAlchemyResultOptions(), clock=SYSTEM_CLOCK)

def message(body):
    return Message(id=new_id(time.time()), body=body)

def tell(*words):
    print(*words, flush=True)

"""


@pytest.fixture
def actor(url: str) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs a script in a process of its own, on the same file; kills what is left at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _ACTOR + textwrap.dedent(script), url]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()
