"""Messaging and results within one process: `memory://`. Also the executable specification of both contracts."""

from brokerkit.memory.options import MemoryOptions
from brokerkit.memory.results import MemoryResultBackend, MemoryResultOptions
from brokerkit.memory.server import MemoryServer
from brokerkit.memory.transport import MemoryReceiver, MemoryTransport

__all__ = [
    "MemoryOptions",
    "MemoryReceiver",
    "MemoryResultBackend",
    "MemoryResultOptions",
    "MemoryServer",
    "MemoryTransport",
]
