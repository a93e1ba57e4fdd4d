-- The rest of the common case, behind send_common.lua: messages of one priority, without time to live and delay, to a queue without bounds.
-- KEYS: the queue's "m". ARGV: priority, n, n ids, then n times id and value.
-- Returns 0: stored. 1, 2: see `absent`. 3: not the common case, nothing was stored.
local K = string.sub(KEYS[1], 1, -2)
if not meta[1] then return absent(K) end
local priority, n = ARGV[1], tonumber(ARGV[2])
if meta[3] or tonumber(priority) > tonumber(meta[2] or 9) then return 3 end
added = added or call('HSET', K .. 'b', unpack(ARGV, 3 + n))
local used = meta[1]
if added == n then
  call('RPUSH', K .. 'r' .. priority, unpack(ARGV, 3, 2 + n))
  used = note_priority(K, used, priority)
elseif added > 0 then
  -- a repeated send of which some was consumed meanwhile: whatever stands in no index is new
  repair(K, used, now_ms(), true)
end
wake(K)
if meta[4] then keep_until(K, meta[4]) end
return 0
