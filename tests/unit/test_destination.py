"""Where webhooks may go, and that they go nowhere else."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

import pytest

from metering.notify.destination import BadDestination, destination, is_public, resolve
from metering.notify.wire import post
from tests.factories.hooks import HookReceiver

IPV4 = """
0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1
192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
"""
IPV6 = """
:: ::1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1
2002:a00:1::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1
"""
INTERNAL = [*IPV4.split(), *IPV6.split()]


@pytest.mark.parametrize("text", INTERNAL)
def test_an_internal_address_is_refused_however_it_is_found(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    assert not is_public(ip_address(text))
    with pytest.raises(BadDestination):
        destination(f"https://{host}/hook")
    where = destination("https://innocent.example/hook")
    with pytest.raises(BadDestination):
        resolve(where, lambda *_: ["93.184.216.34", text])  # one of several is enough


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111"])
def test_a_public_address_is_let_in(text: str) -> None:
    assert is_public(ip_address(text))
    assert resolve(destination("https://example.com/"), lambda *_: [text]) == [text]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "//example.com/",
        "https:///path",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com:22/",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Evil: 1",
        "https://localhost/",
        "https://redis:6379/",
        "https://bücher.example/",
        "https://[fe80::1%25eth0]/",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_a_url_that_is_more_or_less_than_an_address_is_refused(url: str) -> None:
    with pytest.raises(BadDestination):
        destination(url)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost.localdomain"])
def test_other_ways_to_write_loopback_end_at_the_check_of_what_they_resolve_to(host: str) -> None:
    outcome = post(f"https://{host}.:8443/", b"", {}, resolver=lambda *_: ["127.0.0.1"])
    assert outcome.status is None
    assert outcome.fault is not None


def test_a_name_that_says_something_else_a_moment_later_leads_nowhere_else() -> None:
    """The connection is made to the address that was checked: the name is asked once."""
    asked: list[str] = []
    meant, other = HookReceiver(), HookReceiver(host="127.0.0.2")

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    outcome = post(f"http://rebinding.example:{meant.port}/x", b"{}", {}, loopback=True, resolver=rebinding)

    assert (outcome.status, asked) == (204, ["rebinding.example"])
    assert [hook.headers["host"] for hook in meant.hooks] == [f"rebinding.example:{meant.port}"]
    assert other.hooks == []
    meant.close()
    other.close()


def test_what_is_internal_is_not_even_connected_to() -> None:
    """The same receiver, without leave to go to loopback."""
    receiver = HookReceiver()
    outcome = post(f"https://inner.example:{receiver.port}/", b"{}", {}, resolver=lambda *_: ["127.0.0.1"])

    assert "is no public address" in (outcome.fault or "")
    assert receiver.hooks == []
    receiver.close()


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    receiver = HookReceiver(lambda _: (302, b"over there"))
    outcome = post(receiver.url, b"{}", {}, loopback=True)

    assert (outcome.status, outcome.response, outcome.succeeded) == (302, "over there", False)
    assert len(receiver.hooks) == 1
    receiver.close()


def test_of_a_long_answer_the_beginning_is_kept() -> None:
    receiver = HookReceiver(lambda _: (200, b"\0" + b"x" * 100_000))
    outcome = post(receiver.url, b"{}", {}, loopback=True)

    assert (outcome.status, outcome.response) == (200, "x" * 1023)
    receiver.close()


def test_who_answers_a_byte_now_and_then_is_hung_up_on() -> None:
    """A time-out of the socket alone would begin anew with each byte."""
    listening = socket.create_server(("127.0.0.1", 0))
    enough = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while not enough.wait(0.02):
                connection.sendall(b"H")

    thread = threading.Thread(target=drip)
    thread.start()
    outcome = post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}", {}, loopback=True, seconds=0.3)
    enough.set()
    thread.join()
    listening.close()

    assert outcome.fault == "TimeoutError: no answer within 0.3 seconds"
