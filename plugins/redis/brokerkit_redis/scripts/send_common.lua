-- The commonest send, before all else is even defined, as that takes longer than this: new messages, of a priority in use, to
-- a queue that does not expire. Of any other, what is left to do is in send.lua; `added` says if it was stored.
local added
local meta = redis.call('HMGET', KEYS[1], 'u', 'p', 'o', 'x', 'h')
if meta[1] and not meta[3] and not meta[4] and string.find(meta[1], ARGV[1], 1, true) then
  local call, K, n = redis.call, string.sub(KEYS[1], 1, -2), tonumber(ARGV[2])
  added = call('HSET', K .. 'b', unpack(ARGV, 3 + n))
  if added == n then
    call('RPUSH', K .. 'r' .. ARGV[1], unpack(ARGV, 3, 2 + n))
    if call('EXISTS', K .. 'w') == 0 then
      call('RPUSH', K .. 'w', '')
      if meta[5] then redis.pcall('PUBLISH', K .. 'w', '') end
    end
    return 0
  end
end
