"""Certificates for tests of TLS: one that is good, and one that differs by its date alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from brokerkit.servers.certificates import Certificates


def test_an_expired_certificate_is_refused_for_its_date_alone(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    expired = made.expired()
    assert _verified(made.ca, made.cert) == (0, "")
    code, why = _verified(made.ca, expired)
    assert code != 0
    assert "expired" in why
    assert _verified(made.ca, expired, "-no_check_time") == (0, "")


def test_a_certificate_is_for_the_server_and_a_proxy_before_it_and_nobody_else(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    assert _verified(made.ca, made.cert, address="127.0.0.3") == (0, "")
    code, why = _verified(made.ca, made.cert, address="127.0.0.4")
    assert code != 0
    assert "IP address mismatch" in why


def _verified(authority: Path, certificate: Path, *words: str, address: str = "127.0.0.1") -> tuple[int, str]:
    line = ["openssl", "verify", *words, "-verify_ip", address, "-CAfile", str(authority), str(certificate)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr
