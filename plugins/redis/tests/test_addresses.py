"""Where URLs point to."""

import pytest
from brokerkit_redis.addresses import Address, address_of
from brokerkit_redis.options import RedisTransportOptions

from brokerkit.errors import InvalidOption, InvalidURL
from brokerkit.options import gather, resolve
from brokerkit.url import URL


def address(text, **options):
    url = URL.parse(text)
    (settings,) = resolve(gather(url, options, None), RedisTransportOptions, scheme=url.scheme)
    return address_of(url, settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://", Address(kind="hosts", hosts=(("localhost", 6379),))),
        ("redis://:7000", Address(kind="hosts", hosts=(("localhost", 7000),))),
        ("redis://h/2", Address(kind="hosts", hosts=(("h", 6379),), database=2)),
        ("redis://h?virtual_host=/2", Address(kind="hosts", hosts=(("h", 6379),), database=2)),
        ("redis://h/2?virtual_host=2", Address(kind="hosts", hosts=(("h", 6379),), database=2)),
        ("redis://[::1]:1", Address(kind="hosts", hosts=(("::1", 1),))),
        (
            "redis://:p%40ss@a;b:7000/1",
            Address(kind="hosts", hosts=(("a", 6379), ("b", 7000)), database=1, password="p@ss"),
        ),
        ("rediss://u:p@h", Address(kind="hosts", hosts=(("h", 6379),), username="u", password="p", tls=True)),
        ("redis+socket:///run/r.sock?virtual_host=2", Address(kind="unix", path="/run/r.sock", database=2)),
        ("redis+unix://u:p@/run/r.sock", Address(kind="unix", path="/run/r.sock", username="u", password="p")),
        (
            "sentinel://a:26379;b:26380;c/3?master_name=main",
            Address(kind="sentinel", hosts=(("a", 26379), ("b", 26380), ("c", 26379)), database=3),
        ),
        ("sentinel://a?master_name=m&ssl=true", Address(kind="sentinel", hosts=(("a", 26379),), tls=True)),
        ("cluster://a;b:7000", Address(kind="cluster", hosts=(("a", 6379), ("b", 7000)))),
        ("rediss://a/0?cluster=true", Address(kind="cluster", hosts=(("a", 6379),), tls=True)),
    ],
)
def test_every_form(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis+socker:///run/r.sock", ["redis+socker://", "redis+socket:///run"]),
        ("redis+tls://h", ["redis+tls://", "rediss://"]),
        ("rediss+socket:///run/r.sock", ["rediss+socket://", "redis+socket:///run"]),
        ("redis+socket://run/r.sock", ["has a host", "third slash"]),
        ("redis+socket://", ["has no path"]),
        ("redis+socket:///" + 110 * "x", ["107 bytes"]),
        ("redis://h/main", ["'/main'", "6379/2"]),
        ("redis://h/1/2", ["'/1/2'"]),
        ("redis://h:0", ["port 0", "6379"]),
        ("cluster://h/1", ["database 1", "key_prefix"]),
        ("redis://h/1?cluster=true", ["database 1"]),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_with_the_remedy(text, words):
    with pytest.raises(InvalidURL) as caught:
        address(text)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis://h/1?virtual_host=2", ["virtual_host", "2", "1"]),
        ("redis://h?virtual_host=main", ["virtual_host", "main", "number"]),
        ("sentinel://h", ["master_name", "missing"]),
        ("redis://h?master_name=m", ["master_name", "sentinel://"]),
        ('redis://h?sentinel_kwargs={"password":"hush"}', ["sentinel_kwargs", "sentinel://"]),
        ("sentinel://h?master_name=m&cluster=true", ["cluster", "cluster://"]),
        ("redis+socket:///r.sock?cluster=true", ["cluster"]),
        ("redis+socket:///r.sock?ssl=true", ["ssl", "leave it out"]),
        ("redis://h?ssl_ca_certs=/ca.pem", ["ssl_ca_certs", "rediss://"]),
        ("redis://h?tls_verify=false", ["tls_verify", "rediss://"]),
        ("redis://:hush@h?credential_provider=a:b", ["credential_provider", "give one"]),
    ],
)
def test_an_option_that_does_not_go_with_the_url_is_refused(text, words):
    with pytest.raises(InvalidOption) as caught:
        address(text)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "hush" not in str(caught.value)


def test_an_address_shows_no_password():
    assert "hush" not in repr(address("redis://u:hush@h"))
