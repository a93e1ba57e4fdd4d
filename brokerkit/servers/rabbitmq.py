"""RabbitMQ, one node with its management API, its own epmd and its own folder; plain or TLS."""

from __future__ import annotations

import http.client
import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from brokerkit.servers._groups import Command
from brokerkit.servers._handshakes import Address, amqp_version, http_version
from brokerkit.servers._places import Local
from brokerkit.servers._programs import call
from brokerkit.servers._single import Single
from brokerkit.servers.certificates import Certificates
from brokerkit.servers.errors import ServerFailed

__all__ = ["RabbitMQ", "api_path"]

# It looks at consumers' timeouts once in a tick, by default a minute; its limits are such that a small machine can hold it.
_ADVANCED: Final = "{channel_tick_interval,1000}"
_MEMORY: Final = "512MB"
_SETTINGS: Final = {
    "disk_free_limit.absolute": "50MB",
    "vm_memory_high_watermark.absolute": _MEMORY,
    "loopback_users": "none",
    "collect_statistics_interval": "1000",
}
_ERLANG: Final = (
    "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
)


class RabbitMQ(Single):
    """One RabbitMQ node. It boots in some 4 seconds and uses 160 MB, so share one and give each test its own vhost.

    Confirmed persistent messages survive `kill9`. Its user is "guest". An orderly stop takes seconds, `close` none.

    Args:
        tls: speak TLS only, on AMQP; `certificates.ca` is whom to trust.
        mixed: with `tls`, for tests of refusals: it speaks plain AMQP as well, at `facts.ports["plain"]`, and to who comes
            to localhost by name it shows a certificate that has expired.
        settings: further lines of rabbitmq.conf, by name, such as {"consumer_timeout": "3000"}.
    """

    product = "rabbitmq"
    # Debian's /usr/sbin/rabbitmq-server is a wrapper, which changes the user and writes to /var/log.
    folders: ClassVar[Sequence[str]] = ("/usr/lib/rabbitmq/bin",)
    programs: ClassVar[Sequence[str]] = ("rabbitmq-server", "rabbitmqctl", "epmd")
    packages = "sudo apt-get install -y --no-install-recommends rabbitmq-server"
    default_port = 5672
    image = "rabbitmq:3-management"

    def __init__(self, *, tls: bool = False, mixed: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(tls * "tls", "custom" if settings or mixed else "")
        self._tls = tls
        self._mixed = mixed
        self._settings = _SETTINGS | dict(settings or {})

    def url(self, *, vhost: str = "/", user: str = "guest", password: str = "guest") -> str:  # noqa: S107 - its own default
        """The URL of a virtual host for a user. TLS shows in the scheme, amqps; whom to trust is in `certificates`."""
        if external := self._external():
            if (vhost, user) != ("/", "guest"):
                raise ServerFailed("the environment's URL is the only one of this server")
            return external.url
        scheme = "amqps" if self._tls else "amqp"
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{scheme}://{login}@127.0.0.1:{self._port('main')}/{quote(vhost, safe='')}"

    @property
    def node_name(self) -> str:
        """The name by which Erlang knows the node."""
        return f"bk{self._port('main')}@localhost"

    @property
    def certificates(self) -> Certificates:
        """The certificates of a server with `tls`."""
        folder = self._local().folder / "tls"
        return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")

    def management(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API as guest, in some 4 ms, and return its answer, or None if that is empty.

        Args:
            method: "GET", "PUT", "POST" or "DELETE".
            path: below /api, with its names quoted: "/queues/%2F/mail". `api_path` quotes them.
            body: what to send, as JSON.

        Raises:
            ServerFailed: it answered with an error, such as 404.
        """
        self._local()
        login = b64encode(b"guest:guest").decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port("management"), timeout=60)
        try:
            connection.request(method, f"/api{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ServerFailed(f"{method} /api{path}: {answer.status} {answer.reason} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def control(self, *words: str) -> str:
        """Run rabbitmqctl on this node, in some 0.5 s, and return what it writes.

        Raises:
            ServerFailed: it failed; the text is what it said.
        """
        local = self._local()
        command = self._command(local)
        environ = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", **command.environ}
        environ["RABBITMQ_CTL_ERL_ARGS"] = "-start_epmd false"
        ran = call([self._program("rabbitmqctl"), "-q", *words], environ=environ)
        if ran.returncode != 0:
            raise ServerFailed(f"rabbitmqctl {words[0]} failed: {ran.stderr.strip()} {ran.stdout.strip()}")
        return ran.stdout

    def alarm(self, on: bool) -> None:  # noqa: FBT001 - one of two states
        """Let it take no more messages, as if its memory were full, or take them again. Connections that publish block."""
        self.control("set_vm_memory_high_watermark", "absolute", "1" if on else _MEMORY)

    def create_vhost(self, name: str) -> str:
        """Create a virtual host on which guest may do everything, and return its URL."""
        self.management("PUT", api_path("vhosts", name))
        self.permit("guest", name)
        return self.url(vhost=name)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host and all that is in it."""
        self.management("DELETE", api_path("vhosts", name))

    def create_user(self, name: str, password: str, *, tags: str = "") -> None:
        """Create a user, who may nothing until `permit`; `tags` such as "administrator"."""
        self.management("PUT", api_path("users", name), {"password": password, "tags": tags})

    def permit(self, user: str, vhost: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Let a user configure, write and read the names of a virtual host that match regular expressions."""
        allowed = {"configure": configure, "write": write, "read": read}
        self.management("PUT", api_path("permissions", vhost, user), allowed)

    def _prepare(self, local: Local) -> None:
        local.own_folder("data", None)
        cookie = local.own_folder("home", None) / ".erlang.cookie"
        cookie.write_text("BROKERKITTEST")
        cookie.chmod(0o400)
        lines = self._lines()
        advanced = _ADVANCED
        if self._tls:
            made = Certificates.make(local.own_folder("tls", None))
            lines |= {"listeners.tcp": "none", "ssl_options.cacertfile": str(made.ca)}
            lines |= {"ssl_options.certfile": str(made.cert), "ssl_options.keyfile": str(made.key)}
            lines |= {"ssl_options.verify": "verify_none", "ssl_options.fail_if_no_peer_cert": "false"}
            if self._mixed:
                del lines["listeners.tcp"]
                lines["listeners.tcp.1"] = f"127.0.0.1:{self._port('plain')}"
                by_name = f'{{sni_hosts,[{{"localhost",[{_files(made, made.expired())}]}}]}}'
                advanced += f",{{ssl_options,[{_files(made, made.cert)},{by_name}]}}"
        (local.folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        (local.folder / "advanced.config").write_text(f"[{{rabbit,[{advanced}]}}].\n")
        (local.folder / "plugins").write_text("[rabbitmq_management].\n")

    def _lines(self) -> dict[str, str]:
        """What stands in rabbitmq.conf, but for TLS."""
        return self._settings | {
            "management.tcp.ip": "127.0.0.1",
            "management.tcp.port": str(self._port("management")),
            f"listeners.{'ssl' if self._tls else 'tcp'}.1": f"127.0.0.1:{self._port('main')}",
        }

    def _companions(self, local: Local) -> Sequence[Command]:  # noqa: ARG002 - needs no file
        """Its own epmd: without it each node and each command leaves a daemon behind that outlives everything."""
        words = [self._program("epmd"), "-port", str(self._port("epmd")), "-address", "127.0.0.1"]
        return [Command(words)]

    def _command(self, local: Local) -> Command:
        folder = local.folder
        environ = {
            "HOME": f"{folder}/home",
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/data",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/data/pid",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self._port("distribution")),
            "ERL_EPMD_PORT": str(self._port("epmd")),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }
        return Command([self._program("rabbitmq-server")], environ)

    def _greet(self, address: Address) -> str:
        version = amqp_version(address)
        if self._external() is None and "management" in self._ports:
            http_version(Address(port=self._port("management")), "/")
        return version

    def _local_address(self) -> Address:
        return Address(port=self._port("main"), tls=self._tls, ca=str(self.certificates.ca) if self._tls else None)


def api_path(*names: str) -> str:
    """A path for `RabbitMQ.management`: names, quoted, with slashes between them."""
    return "".join(f"/{quote(name, safe='')}" for name in names)


def _files(made: Certificates, certificate: Path) -> str:
    """What a server shows, as terms of Erlang."""
    files = {"cacertfile": made.ca, "certfile": certificate, "keyfile": made.key}
    return ",".join(f'{{{name},"{path}"}}' for name, path in files.items())
