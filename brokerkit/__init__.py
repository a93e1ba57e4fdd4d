"""brokerkit: one API for message brokers and result stores; a URL picks the engine."""

from brokerkit._dead_letters import DeadLetter
from brokerkit._events import Event
from brokerkit.broker import Broker, connect
from brokerkit.consumer import Consumer
from brokerkit.delivery import Delivery
from brokerkit.models import Depth, Message, Queue
from brokerkit.options import RetryPolicy
from brokerkit.results import PendingResult, Result, ResultStore, State, results
from brokerkit.url import URL

__all__ = [
    "URL",
    "Broker",
    "Consumer",
    "DeadLetter",
    "Delivery",
    "Depth",
    "Event",
    "Message",
    "PendingResult",
    "Queue",
    "Result",
    "ResultStore",
    "RetryPolicy",
    "State",
    "connect",
    "results",
]
