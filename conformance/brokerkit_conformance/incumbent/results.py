"""`celery+redis://`: Celery's own redis result backend behind the contract."""

from __future__ import annotations

import base64
import json
import math
import struct
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Self

from celery import Celery
from celery.backends.redis import RedisBackend

from brokerkit.abc import Clock, ResultBackend
from brokerkit.errors import AlreadyFinal, ConnectionLost, ErrorTable, InvalidURL, Rule
from brokerkit.models import Outcome, Record
from brokerkit.options import Options
from brokerkit.url import URL
from brokerkit_conformance.incumbent.options import CeleryOptions
from brokerkit_conformance.incumbent.promises import CELERY_REDIS

__all__ = ["CeleryResults"]

_HEADER: Final = struct.Struct(">BI")  # of brokerkit's records: a version, and the length of a JSON object
_SOCKET_TIMEOUT: Final = 5.0  # seconds of one read; Celery's default is 120
_FINAL: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


def _is_redis_down(error: Exception) -> bool:
    return type(error).__module__.startswith("redis") and type(error).__name__ in {"ConnectionError", "TimeoutError"}


class CeleryResults(ResultBackend):
    """One `celery.backends.redis.RedisBackend` for each time to live, as that is a setting of the backend."""

    options_type: ClassVar[type[Options]] = CeleryOptions
    errors: ClassVar[ErrorTable] = ErrorTable(
        Rule(OSError, ConnectionLost), Rule(Exception, ConnectionLost, when=_is_redis_down)
    )

    def __init__(self, url: str) -> None:
        self.capabilities = CELERY_REDIS
        self._url = url
        self._lock = threading.Lock()
        self._backends: dict[int | None, Any] = {}

    @classmethod
    def from_url(cls, url: URL, options: CeleryOptions, *, clock: Clock) -> Self:  # noqa: ARG003 - the server's time
        """Build from `celery+redis://…`.

        Raises:
            InvalidURL: it is another one of Celery's backends.
        """
        if url.driver != "redis":
            raise InvalidURL(f"{url}: write celery+redis://")
        return cls(f"redis://{url.render(reveal_secrets=True).partition('://')[2]}")

    def put(self, records: Sequence[Record], *, ttl: float | None, timeout: float) -> Sequence[Outcome]:  # noqa: ARG002
        """`store_result`, which itself looks whether a success is there already, and says nothing if so."""
        backend = self._backend(ttl)
        outcomes: list[Outcome] = []
        for record in records:
            # Celery cannot store only if nothing is there. It can look, so the bridge looks.
            if record.if_absent and self._meta(backend, record.key) is not None:
                outcomes.append(AlreadyFinal(f"{record.key!r} has a record"))
                continue
            backend.store_result(record.key, base64.b64encode(record.value).decode(), _state(record))
            outcomes.append(None)
        return outcomes

    def get(self, keys: Sequence[str], *, timeout: float) -> Sequence[Record | None]:  # noqa: ARG002
        """`get` and `decode` of each key: what `AsyncResult` reads, before it turns failures into exceptions."""
        backend = self._backend(None)
        return [self._read(backend, key) for key in keys]

    def delete(self, keys: Sequence[str], *, timeout: float) -> None:  # noqa: ARG002
        """`forget`, without its part that ends a subscription: the bridge has none."""
        backend = self._backend(None)
        for key in keys:
            backend.delete(backend.get_key_for_task(key))

    def close(self, *, timeout: float) -> None:  # noqa: ARG002
        """Let go of the connections."""
        with self._lock:
            backends, self._backends = self._backends, {}
        for backend in backends.values():
            backend.client.connection_pool.disconnect()

    def _read(self, backend: Any, key: str) -> Record | None:
        meta = self._meta(backend, key)
        if meta is None:
            return None
        return Record(key=key, value=base64.b64decode(meta["result"]), final=meta["status"] in _FINAL)

    def _meta(self, backend: Any, key: str) -> Any:
        stored = backend.get(backend.get_key_for_task(key))
        return None if stored is None else backend.decode(stored)

    def _backend(self, ttl: float | None) -> Any:
        seconds = None if ttl is None else math.ceil(ttl)  # Celery's times to live are whole seconds
        with self._lock:
            if seconds not in self._backends:
                app = Celery("incumbent", set_as_current=False)
                app.conf.result_expires = seconds
                app.conf.redis_socket_timeout = _SOCKET_TIMEOUT
                self._backends[seconds] = RedisBackend(app=app, url=self._url, expires=seconds)
            return self._backends[seconds]


def _state(record: Record) -> str:
    """The state that our record tells in its header: the words are Celery's. Of bytes that are no record, what it is to us."""
    try:
        _, length = _HEADER.unpack_from(record.value)
        return str(json.loads(record.value[_HEADER.size : _HEADER.size + length])["state"])
    except (struct.error, ValueError, KeyError, TypeError):
        return "SUCCESS" if record.final else "STARTED"
