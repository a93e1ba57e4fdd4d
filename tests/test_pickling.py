"""What is alive is not pickled, and says what to send instead."""

import copy
import pickle

import pytest

import brokerkit
from brokerkit.results import results


@pytest.fixture
def handles():
    with brokerkit.connect("memory://pickling") as broker, results("memory://pickling") as store:
        broker.declare("q")
        broker.send("q", 1)
        with broker.consumer("q") as consumer:
            delivery = consumer.receive(5)
            yield {type(each).__name__: each for each in (broker, consumer, delivery, store, store.pending("r"))}


@pytest.mark.parametrize("name", ["Broker", "Consumer", "Delivery", "ResultStore", "PendingResult"])
@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_live_handle_is_not_pickled_or_copied(handles, name, make):
    with pytest.raises(TypeError, match=f"an? {name} .* not pickled; .*(send|make)"):
        make(handles[name])
