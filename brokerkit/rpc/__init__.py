"""Results as messages: the result backend `rpc` over any transport.

A result travels to the reply queue of the process that asked for it, and only that process reads it.
"""

from brokerkit.rpc.backend import RpcResultBackend
from brokerkit.rpc.options import RpcOptions

__all__ = ["RpcOptions", "RpcResultBackend"]
