"""How the conformance suite reaches RabbitMQ: private nodes of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from threading import Lock
from typing import Any, Final, final

from brokerkit_conformance import Admin, FullServer, Harness, Role, SecureServer, ServerControl, StorageMap

from brokerkit.capabilities import Impossible
from brokerkit.servers import RabbitMQ
from brokerkit.url import URL
from brokerkit_rabbitmq.foreign import RabbitMQAdmin, api_path

__all__ = ["ClassicHarness", "RabbitMQHarness"]

_HELD: Final = Impossible("what somebody holds lies in its queue, where nothing but that queue's end takes it away")
_STORAGE: Final[StorageMap] = {
    Role.TOPOLOGY: "queue/[^/]*/{name}",
    Role.BODY: "message/[^/]*/{name}/.*",
    Role.HELD: _HELD,
    Role.IN_FLIGHT: Impossible("a claim is its connection's own, and noted nowhere else"),
    Role.SCHEDULE: Impossible("a delayed message waits in a queue, from which the server takes it at its time"),
    Role.PRIORITY: Impossible("priorities are kept within a queue, and go with it alone"),
    Role.MUTEX: Impossible("each consumer gives back its own, and the server what was a dead connection's"),
    Role.DEDUPE: Impossible("the server takes every message for a new one"),
    Role.BINDING: "exchange/[^/]*/.*{name}",
    Role.RESULT: Impossible("it stores no results"),
    Role.BOOKKEEPING: "(delay|delayed|ladder)/.*",
}
_PATIENCE: Final = 20  # seconds for which the server lets a delivery be held: short, for the case of it waits that out
_SETTINGS: Final = {"consumer_timeout": str(_PATIENCE * 1000)}
_TOLD: Final = (
    "consumer_timeout",
    "vm_memory_high_watermark",
    "disk_free_limit",
    "heartbeat",
    "frame_max",
    "channel_max",
)
_LITTLE: Final = 200_000  # bytes that a queue takes in a virtual host that is full


class RabbitMQHarness(Harness):
    """One node for what is only used, one for what is broken by pieces, and one for each case that kills it.

    A node takes seconds to boot, a virtual host milliseconds, and two of them share nothing: so a pair of those is a server
    to most cases.
    """

    lease = 2.0
    queue_type = "quorum"

    def __init__(self) -> None:
        self.servers = contextlib.ExitStack()
        self._nodes: dict[int, RabbitMQ] = {}
        self._pairs: dict[str, tuple[str, str]] = {}
        self._numbers = count()
        self._lock = Lock()
        self._main: RabbitMQ | None = None
        self._urls: Sequence[str] = ()
        self._breakable: RabbitMQ | None = None
        self._settings: dict[str, str] = {}

    def start(self) -> None:
        """Start the node of most cases."""
        self._main = self._new()
        self._urls = self._pair(self._main)
        self.server = f"RabbitMQ {self._main.version()}"
        self.emulator = False

    def stop(self) -> None:
        """Stop all nodes."""
        self.servers.close()

    def urls(self) -> Sequence[str]:
        """Two virtual hosts of one node."""
        return self._urls

    def options(self) -> Mapping[str, Any]:
        """What the nodes are set to."""
        return {"consumer_timeout": float(_PATIENCE), "queue_type": self.queue_type}

    def private_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Two new virtual hosts."""
        return self._pair(self._second()), ()

    def doomed_urls(self) -> tuple[Sequence[str], Sequence[str]]:
        """Two virtual hosts of a new node."""
        return self._pair(self._new()), ()

    def wrong_credentials(self) -> Sequence[str]:
        """A wrong password, a user whom nobody knows, and a virtual host that there is not."""
        right = self.urls()[0]
        before, _, _ = right.rpartition("/")
        login = "guest:guest@"
        return right.replace(login, "guest:wrong@"), right.replace(login, "nobody:wrong@"), f"{before}/nowhere"

    def admin(self, url: str, *, clock: Any = None) -> Admin:  # noqa: ARG002 - RabbitMQ goes by its own
        """The management API and py-amqp, on the pair of virtual hosts that the URL is one of."""
        name = URL.parse(url).virtual_host
        pair = self._pairs[name]
        return RabbitMQAdmin(self._node(url), pair, pair.index(name))

    def server_control(self, url: str) -> ServerControl | None:
        """The node itself."""
        return self._node(url)

    def server_settings(self) -> Mapping[str, str]:
        """What results may hang on, as the node says."""
        if self._main is None or self._settings:
            return self._settings
        told = self._main.management("GET", "/overview?columns=erlang_version,rabbitmq_version")
        asked = ",".join(f"application:get_env(rabbit,{name})" for name in _TOLD)
        answers = self._main.control("eval", f'[io:format("~0p~n",[X]) || X <- [{asked}]].').splitlines()
        self._settings = {str(name): str(value) for name, value in told.items()}
        self._settings |= dict(zip(_TOLD, answers, strict=False))
        return self._settings

    def storage_map(self) -> StorageMap:
        """Queues, messages that wait, and exchanges, with which all bindings of a topic go."""
        return _STORAGE

    @contextlib.contextmanager
    def full_server(self) -> Iterator[FullServer]:
        """A virtual host whose queues can be bounded by a policy: classic ones, which go by it to the byte."""
        node = self._second()
        url, _ = self._pair(node)
        policy = api_path("policies", URL.parse(url).virtual_host, "room")
        limits = {"max-length-bytes": _LITTLE, "overflow": "reject-publish"}

        def bound(full: bool) -> None:  # noqa: FBT001 - one of two states
            body = {"pattern": ".*", "definition": limits, "apply-to": "queues"}
            node.management(*(("PUT", policy, body) if full else ("DELETE", policy)))

        yield FullServer(url, {"queue_type": "classic"}, bound)

    def refusals(self) -> Mapping[str, contextlib.AbstractContextManager[FullServer]]:
        """A node whose memory is full: it reads nothing more from who publishes."""
        return {"throttled": self._alarmed()}

    def tls(self) -> SecureServer:
        """A node with TLS, which shows a certificate that has expired to who comes by name, and which also speaks without."""
        node = self.servers.enter_context(RabbitMQ(tls=True, mixed=True, settings=_SETTINGS))
        node.create_user("ada", "not to be seen", tags="administrator")
        node.permit("ada", "/")
        ours, host = f"?ssl_ca_certs={node.certificates.ca}", "@127.0.0.1:"
        url = node.url(user="ada", password="not to be seen")  # noqa: S106 - of a server for one test
        untrusted = {
            "wrong authority": f"{url}?ssl_ca_certs={node.certificates.other()}",
            "wrong host": f"{url.replace(host, '@127.1:')}{ours}",  # the same machine by another name
            "expired": f"{url.replace(host, '@localhost:')}{ours}",
        }
        plain = url.replace(f":{node.facts.port}/", f":{node.facts.ports['plain']}/")
        return SecureServer(f"{url}{ours}", untrusted, plain=f"{plain}{ours}")

    @contextlib.contextmanager
    def _alarmed(self) -> Iterator[FullServer]:
        node = self._new()
        yield FullServer(self._pair(node)[0], {}, node.alarm)

    def _new(self) -> RabbitMQ:
        node = self.servers.enter_context(RabbitMQ(settings=_SETTINGS))
        self._nodes[node.facts.port] = node
        return node

    def _second(self) -> RabbitMQ:
        with self._lock:
            self._breakable = self._breakable or self._new()
        return self._breakable

    def _node(self, url: str) -> RabbitMQ:
        return self._nodes[URL.parse(url).hosts[0][1] or 0]

    def _pair(self, node: RabbitMQ) -> tuple[str, str]:
        number = next(self._numbers)
        first, second = names = f"host-{number}-one", f"host-{number}-two"
        self._pairs |= dict.fromkeys(names, names)
        return node.create_vhost(first), node.create_vhost(second)


@final
class ClassicHarness(RabbitMQHarness):
    """The same with classic queues: `brokerkit-conformance run brokerkit_rabbitmq.conformance:ClassicHarness`."""

    queue_type = "classic"
