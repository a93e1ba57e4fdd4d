"""The demonstration's topics on Redis: a second virtual host is found in each form."""

import pytest

from brokerkit._targets import target
from brokerkit.demo.plan import Plan
from brokerkit.demo.topic import tell_the_subscribers


@pytest.mark.parametrize(
    ("url", "how"),
    [
        (lambda server: server.url(), "the path"),
        (lambda server: server.url(database=15), "the option fanout_prefix"),
        (lambda server: server.url(unix=True), "the option virtual_host"),
        (lambda server: server.url(unix=True).partition("?")[0], "the option virtual_host"),
    ],
    ids=["host", "the last database", "socket", "socket without database"],
)
def test_two_virtual_hosts_of_one_server_do_not_hear_each_other(plain, url, how):
    heard = tell_the_subscribers(target(url(plain)), Plan(notices=20))
    assert heard.isolated_by == how
    assert (heard.published, heard.copies, heard.heard, heard.leaked) == (40, 60, 60, 0)


def test_a_cluster_has_one_database_and_isolates_by_name(cluster):
    heard = tell_the_subscribers(target(cluster.url().replace("redis:", "cluster:")), Plan(notices=20))
    assert heard.isolated_by == "the option fanout_prefix"
    assert (heard.heard, heard.leaked) == (60, 0)
