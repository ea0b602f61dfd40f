"""RESP3 is read wherever its bytes are cut, and what is no RESP3 is refused."""

from __future__ import annotations

import pytest

from dataarch.caching.resp import Incomplete, Push, Refusal, parse

pytestmark = pytest.mark.cache

MESSAGES: list[tuple[bytes, object]] = [
    (b"+OK\r\n", b"OK"),
    (b"-NOPERM no\r\n", Refusal("NOPERM no")),
    (b":-12\r\n", -12),
    (b",1.5\r\n", 1.5),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b"_\r\n", None),
    (b"(123456789012345678901234567890\r\n", 123456789012345678901234567890),
    (b"$5\r\na\r\nb\x00\r\n", b"a\r\nb\x00"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"=7\r\ntxt:abc\r\n", b"txt:abc"),
    (b"*-1\r\n", None),
    (b"*3\r\n$1\r\na\r\n_\r\n*1\r\n:1\r\n", [b"a", None, [1]]),
    (b"~1\r\n:1\r\n", [1]),
    (b"%2\r\n+a\r\n:1\r\n+b\r\n_\r\n", [(b"a", 1), (b"b", None)]),
    (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", Push([b"invalidate", [b"k"]])),
    (b">2\r\n$10\r\ninvalidate\r\n_\r\n", Push([b"invalidate", None])),
]


@pytest.mark.parametrize(("data", "value"), MESSAGES)
def test_a_message_is_read_when_all_of_it_has_come(data: bytes, value: object) -> None:
    for length in range(len(data)):
        with pytest.raises(Incomplete):
            parse(bytearray(b"xx" + data[:length]), 2)
    assert parse(bytearray(b"xx" + data + b"more"), 2) == (value, 2 + len(data))


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad\r\n", b"\r\n", b"$x\r\n", b"*1.5\r\n", b"\x80\r\n"])
def test_what_is_no_resp3_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"RESP3|invalid literal"):
        parse(bytearray(data), 0)
