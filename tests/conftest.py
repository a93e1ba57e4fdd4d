"""What tests of result stores share; a file that means something else by one of these names has a fixture of its own."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerkit.results import results
from brokerkit.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def store(url, clock):
    with results(url, clock=clock, expires=60) as made:
        yield made


@pytest.fixture
def other(store, url, clock):
    """The store of another process, as far as waiting and knowing go."""
    with results(url, clock=clock, expires=60) as made:
        yield made


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made
