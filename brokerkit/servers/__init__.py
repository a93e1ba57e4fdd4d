"""Real servers, private, for tests: of brokerkit, of its plugins, and of your own code.

    from brokerkit import servers

    with servers.Redis(aof="always") as server:
        broker = brokerkit.connect(server.url())
        server.kill9()
        server.restart()

A server comes from where it can, in this order:

1. `BROKERKIT_TEST_<NAME>_URL` in the environment, such as BROKERKIT_TEST_REDIS_URL, or BROKERKIT_TEST_REDIS_TLS_URL for
   `Redis(tls=True)`: somebody else's, so it is not killed, paused or restarted;
2. the binaries of this machine, on PATH or where Debian and Homebrew put them;
3. a docker daemon, for the plain form of a server;
4. nowhere: `ServerMissing` says what to type. `required` says whether a test run has to fail because of that.

Needs no client library and only the standard library; certificates need the program openssl. Linux and macOS.
"""

from brokerkit.servers.certificates import Certificates
from brokerkit.servers.errors import NotOurs, ServerError, ServerFailed, ServerMissing, required
from brokerkit.servers.mariadb import MariaDB
from brokerkit.servers.memcached import Memcached
from brokerkit.servers.ministack import Ministack
from brokerkit.servers.postgresql import PostgreSQL
from brokerkit.servers.rabbitmq import RabbitMQ
from brokerkit.servers.rabbitmq_cluster import RabbitMQCluster
from brokerkit.servers.redis import Redis
from brokerkit.servers.redis_cluster import RedisCluster
from brokerkit.servers.redis_sentinel import RedisSentinel
from brokerkit.servers.server import Facts, Server

__all__ = [
    "PRODUCTS",
    "Certificates",
    "Facts",
    "MariaDB",
    "Memcached",
    "Ministack",
    "NotOurs",
    "PostgreSQL",
    "RabbitMQ",
    "RabbitMQCluster",
    "Redis",
    "RedisCluster",
    "RedisSentinel",
    "Server",
    "ServerError",
    "ServerFailed",
    "ServerMissing",
    "required",
]

PRODUCTS: dict[str, type[Server]] = {
    product.product: product
    for product in (
        Redis,
        RedisCluster,
        RedisSentinel,
        Memcached,
        RabbitMQ,
        RabbitMQCluster,
        PostgreSQL,
        MariaDB,
        Ministack,
    )
}
"""The servers by their names, such as "redis" or "redis-cluster"."""
