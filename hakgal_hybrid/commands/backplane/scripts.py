"""The scripts that Redis runs: each call of the shared log is one of them, and is carried out whole or not at all.

All begin with a look at the keys, which finds out whether the log was cut: flushed, deleted, evicted, restarted without
its data, or taken over by a replica that lacked the last of it. It then takes nothing for a moment (it *settles*), in
which any process puts back what it has read; after that, a new generation begins with an opening.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """A script and its name in Redis.

    :ivar text: what Redis runs.
    :ivar sha: the SHA-1 of the text, in hexadecimal.
    """

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with a text.

        :param text: the text.
        """
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


#: KEYS log meta …   ARGV generation number settle_ms …
_LOOK = """
local function id(s) local a, b = string.match(s, '^(%d+)-(%d+)$') return tonumber(a), tonumber(b) end
local function int(x) return string.format('%.0f', x) end
local log, meta = KEYS[1], KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local info = redis.pcall('INFO', 'replication')
local repl = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
local m = redis.call('HMGET', meta, 'gen', 'n', 'repl', 'till', 'v', 'app')
local gen, n, till = tonumber(m[1] or '0'), tonumber(m[2] or '0'), tonumber(m[4] or '0')
local settle = tonumber(ARGV[3])
if m[5] and tonumber(m[5]) > 1 then return {'OTHER', 'v', m[5]} end
local function top(g, n)     -- the last entry of ours: a script that was stopped midway has not noted what it wrote
  for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 300)) do
    local a, b = id(entry[1])
    if a < g or (a == g and b <= n) then break end
    if entry[2][1] == 's' or entry[2][1] == 'o' then return a, b end
  end
  return g, n
end
"""

#: KEYS log meta record   ARGV generation number settle_ms | random maxlen ttl_ms sender expect previous token
#: acknowledged_generation app | (q lost payload)*
APPEND = Script.of(_LOOK + """
local fg, fn, app = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[12]
if m[6] and app ~= '' and m[6] ~= app then return {'OTHER', 'app', m[6]} end
local there = redis.call('EXISTS', log) == 1
local cut = not m[1] or m[3] ~= repl or fg > gen or (fg == gen and fn > n) or (not there and till == 0)
if cut and (till == 0 or m[3] ~= repl) then
  if there then gen, n = top(gen, n) else gen, n = 0, 0 end
  redis.call('HSET', meta, 'gen', int(gen), 'n', int(n), 'repl', repl, 'till', int(now + settle))
  return {'SETTLE', settle, int(gen) .. '-' .. int(n)}
end
if till > 0 then
  if till - now > settle then till = now + settle redis.call('HSET', meta, 'till', int(till)) end
  if now < till then return {'SETTLE', till - now, int(gen) .. '-' .. int(n)} end
  gen, n = top(gen, n)
  local new = math.max(now * 100 + tonumber(ARGV[4]), gen + 1, fg + 1)
  redis.call('XADD', log, int(new) .. '-0', 'o', int(gen) .. '-' .. int(n))
  redis.call('HSET', meta, 'gen', int(new), 'n', '0', 'till', '0')
  gen, n = new, 0
end
if not m[6] and app ~= '' then redis.call('HSET', meta, 'v', '1', 'app', app) end
local s, expect, prev, tok = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
if s == '' then return {'OK', int(gen) .. '-' .. int(n)} end
local rec = redis.call('GET', KEYS[3])
local rq, rtok = 0, ''
if rec then rq, rtok = string.match(rec, '^(%d+) (.*)$') rq = tonumber(rq) end
if not rec and ARGV[11] == int(gen) then rq = expect end     -- only the record is gone, the log was not cut
if rq < expect then return {'LOST', int(rq), rtok} end
if rtok ~= '' and rtok ~= prev and rtok ~= tok then return {'TWIN'} end
local n0, at, bad = n, nil, nil
for i = 13, #ARGV, 3 do
  if tonumber(ARGV[i]) > rq then
    at = int(gen) .. '-' .. int(n + 1)
    local r
    local fields = {'s', s, 'q', ARGV[i], 'p', ARGV[i+2]}
    if ARGV[i+1] ~= '0' then fields[7], fields[8] = 'l', ARGV[i+1] end
    r = redis.pcall('XADD', log, 'MAXLEN', '~', ARGV[5], at, unpack(fields))
    if type(r) == 'table' and r.err then bad = r.err break end
    n, rq = n + 1, tonumber(ARGV[i])
  end
end
if n > n0 then
  redis.call('HSET', meta, 'n', int(n))
  redis.call('SET', KEYS[3], int(rq) .. ' ' .. (bad and '' or tok), 'PX', ARGV[6])
end
if bad and string.find(bad, 'equal or smaller') then      -- written by hand, or not noted: open anew above it
  redis.call('HSET', meta, 'till', int(now)) return {'SETTLE', 0, at} end
if bad then return redis.error_reply(bad) end
if rec then redis.call('PEXPIRE', KEYS[3], ARGV[6]) end
return {'OK', int(gen) .. '-' .. int(n)}
""")

#: KEYS log meta record*   ARGV more - settle_ms ttl_ms | (id key ends sender q lost payload)*
#: ``more``: 1 if another call follows at once, which is waited for as long as at the beginning.
#: ``key``: the number of the sender's record among the keys, or 0 for an opening.
REFILL = Script.of(_LOOK + """
if till == 0 or now >= till or m[3] ~= repl then return {'CLOSED'} end
local qs, did = {}, 0
for i = 5, #ARGV, 7 do
  local g, k = id(ARGV[i])
  if g > gen or (g == gen and k > n) then
    local fits = (gen == 0 and n == 0) or (g == gen and k == n + 1) or ARGV[i+2] == int(gen) .. '-' .. int(n)
    if not fits then break end
    local key = tonumber(ARGV[i+1])
    if key == 0 then redis.call('XADD', log, ARGV[i], 'o', ARGV[i+2])
    elseif ARGV[i+5] == '0' then redis.call('XADD', log, ARGV[i], 's', ARGV[i+3], 'q', ARGV[i+4], 'p', ARGV[i+6])
    else redis.call('XADD', log, ARGV[i], 's', ARGV[i+3], 'q', ARGV[i+4], 'p', ARGV[i+6], 'l', ARGV[i+5])
    end
    if key > 0 then qs[key] = math.max(qs[key] or 0, tonumber(ARGV[i+4])) end
    gen, n, did = g, k, did + 1
  end
end
if did > 0 then
  till = math.max(till, now + (ARGV[1] == '1' and settle or 500))
  redis.call('HSET', meta, 'gen', int(gen), 'n', int(n), 'till', int(till))
  for key, q in pairs(qs) do
    local rec = redis.call('GET', KEYS[key])
    if not rec or tonumber(string.match(rec, '^(%d+)')) < q then
      redis.call('SET', KEYS[key], int(q) .. ' ', 'PX', ARGV[4]) end
  end
end
return {'OK', int(gen) .. '-' .. int(n), did}
""")

#: KEYS meta desk   ARGV process lease_ms
LEASE = Script.of("""
local owner = redis.call('GET', KEYS[2])
if owner and string.match(owner, '^%S+') ~= ARGV[1] then return {'OTHER', owner} end
local term = owner and string.match(owner, '%d+$')
if not term then      -- greater than any before, also than one that was given in a log that is lost
  local t, last = redis.call('TIME'), redis.call('HMGET', KEYS[1], 'term')[1]
  term = string.format('%.0f', math.max(t[1] * 1000 + math.floor(t[2] / 1000), tonumber(last or '0') + 1))
  redis.call('HSET', KEYS[1], 'term', term)
end
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. term, 'PX', ARGV[2])
return {'MINE', term}
""")

#: KEYS meta desk claim   ARGV process generation until_ms
CLAIM = Script.of("""
local info = redis.pcall('INFO', 'replication')
local repl = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
local m = redis.call('HMGET', KEYS[1], 'gen', 'till', 'repl')
if m[1] ~= ARGV[2] or m[2] ~= '0' or m[3] ~= repl then return {'STALE'} end
local t = redis.call('TIME')
if t[1] * 1000 + math.floor(t[2] / 1000) >= tonumber(ARGV[3]) then return {'STALE'} end
local owner = redis.call('GET', KEYS[2])
if not owner or string.match(owner, '^%S+') ~= ARGV[1] then return {'OTHER'} end
if redis.call('SET', KEYS[3], owner, 'NX', 'PX', 86400000) then return {'GO', string.match(owner, '%d+$')} end
return {'HAD', redis.call('GET', KEYS[3])}
""")
