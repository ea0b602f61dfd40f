"""The protocol's steps as scripts for Redis and Valkey; what they do is said in :mod:`dataarch.caching.protocol`.

Each runs atomically on the server. A test compares every one with the function of the same name, step by step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["CLEAR", "DROP", "FENCE", "KEEP", "LEASE", "RELEASE", "STAMPS", "Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that the server knows it by."""

    text: bytes
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        # the server itself names scripts by SHA-1
        object.__setattr__(self, "sha", hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode())


_WRITERS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function writers(value)
    local found, last, any = {}, 0, false
    if value and string.sub(value, 1, 1) == '!' then
        for token, deadline in string.gmatch(string.sub(value, 2), '([^:,]+):(%d+)') do
            if tonumber(deadline) > now then
                found[token] = tonumber(deadline)
                any = true
            end
        end
    end
    return found, any
end
local function put(tag, found)
    local parts, last = {}, 0
    for token, deadline in pairs(found) do
        parts[#parts + 1] = token .. ':' .. string.format('%d', deadline)
        if deadline > last then last = deadline end
    end
    redis.call('SET', tag, '!' .. table.concat(parts, ','), 'PX', last - now)
end
"""


_STAMP = """
local function stamp(tag, value, milliseconds)
    -- a write, even of the same stamp, would be told to all who keep something near that was made under it
    if redis.call('GET', tag) == value and redis.call('PTTL', tag) >= tonumber(milliseconds) then return end
    redis.call('SET', tag, value, 'PX', 2 * milliseconds)
end
"""


def _script(text: str) -> Script:
    return Script((_WRITERS + _STAMP + text).encode())


FENCE = _script("""
for _, tag in ipairs(KEYS) do
    local found = writers(redis.call('GET', tag))
    found[ARGV[1]] = now + tonumber(ARGV[2])
    put(tag, found)
end
return 1
""")
"""KEYS: tags. ARGV: token, milliseconds."""

CLEAR = _script("""
for _, tag in ipairs(KEYS) do
    local found = writers(redis.call('GET', tag))
    found[ARGV[1]] = nil
    if next(found) == nil then redis.call('DEL', tag) else put(tag, found) end
end
return 1
""")
"""KEYS: tags. ARGV: token."""

DROP = _script("""
for _, tag in ipairs(KEYS) do
    local _, any = writers(redis.call('GET', tag))
    if not any then redis.call('DEL', tag) end
end
return 1
""")
"""KEYS: tags."""

STAMPS = _script("""
local stamps = {}
for i, tag in ipairs(KEYS) do
    local value = redis.call('GET', tag)
    local _, any = writers(value)
    if any then return false end
    if not value or string.sub(value, 1, 1) == '!' then value = ARGV[1] end
    stamps[i] = value
end
for i, tag in ipairs(KEYS) do stamp(tag, stamps[i], ARGV[2]) end
return stamps
""")
"""KEYS: tags. ARGV: token, milliseconds that a stamp lasts at the least. Returns the stamps; False: one is fenced."""

LEASE = _script("""
local stamps, missing = {}, false
local _, replaced = writers(redis.call('GET', KEYS[1]))
if replaced then return {'fenced'} end
for i = 3, #KEYS do
    local value = redis.call('GET', KEYS[i])
    local _, any = writers(value)
    if any then return {'fenced'} end
    if not value or string.sub(value, 1, 1) == '!' then
        missing = true
        value = ARGV[1]
    end
    stamps[#stamps + 1] = value
end
if ARGV[4] == '' and not missing then
    local alive = ARGV[5] .. table.concat(stamps, ',') .. '|'
    if redis.call('GETRANGE', KEYS[1], 0, #alive - 1) == alive then return {'present'} end
end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'busy'} end
for i = 3, #KEYS do stamp(KEYS[i], stamps[i - 2], ARGV[3]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
table.insert(stamps, 1, 'granted')
return stamps
""")
"""KEYS: entry, lease, tags. ARGV: token, milliseconds of lease and stamps, 'refresh' or '', how an entry begins."""

KEEP = _script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
for i = 3, #KEYS do
    if redis.call('GET', KEYS[i]) ~= ARGV[i + 1] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
"""KEYS: entry, lease, tags. ARGV: token, the whole entry, its milliseconds, the stamps. Returns 1 where it was kept."""

RELEASE = _script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
""")
"""KEYS: lease. ARGV: token."""
