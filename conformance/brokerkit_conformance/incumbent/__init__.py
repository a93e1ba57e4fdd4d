"""The incumbent on trial: kombu's own transports and Celery's own result backend, behind the contract of brokerkit.

A bridge, not a plugin: it exists to ask a system that the suite was not written for, and nobody should send mail with it.
It maps each call of the contract onto kombu's own way to do the same, and adds nothing: no lease that kombu does not keep,
no count that it does not make, no repair of what it loses. Where a mapping had to be chosen, it is the one in kombu's favour.

    brokerkit-conformance run brokerkit_conformance.incumbent:KombuRedis
    python -m brokerkit_conformance.incumbent --docs docs/incumbent.md

kombu is a dependency of brokerkit already; `celery`, `redis` and `hiredis` have to be installed beside it.
"""

from brokerkit_conformance.incumbent.harnesses import KombuMemory, KombuRedis, KombuSQLite

__all__ = ["KombuMemory", "KombuRedis", "KombuSQLite"]
