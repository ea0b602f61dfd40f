"""The Redis or Valkey that was promised is there: one that is absent fails the tests, it does not skip them."""

from __future__ import annotations

from uuid import uuid4

import redis

from fixtures.servers import Servers


def test_the_promised_redis_answers_and_remembers(servers: Servers) -> None:
    with redis.Redis.from_url(servers.redis_url, socket_timeout=5) as client:
        key = f"dataarch:test:{uuid4()}"
        assert client.set(key, "here", ex=60)
        assert client.get(key) == b"here"
        assert client.delete(key) == 1
