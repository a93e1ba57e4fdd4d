-- KEYS: the queue's "m". ARGV: visibility timeout (ms), tokens. Returns the numbers of those that are no current claim.
local K = string.sub(KEYS[1], 1, -2)
local until_, lost, leases = now_ms() + ARGV[1], {}, {}
-- Redis lets a script go on that has begun to write, also where it has no room left: what is held can be kept then
call('ZREM', K .. 't', '')
local scores = call('ZMSCORE', K .. 't', unpack(ARGV, 2))
for i = 2, #ARGV do
  if scores[i - 1] and call('HEXISTS', K .. 'b', string.sub(ARGV[i], 1, -10)) == 1 then
    leases[#leases + 1] = until_
    leases[#leases + 1] = ARGV[i]
  else
    lost[#lost + 1] = i - 1
  end
end
if #leases > 0 then call('ZADD', K .. 't', unpack(leases)) end
local meta = call('HMGET', KEYS[1], 'e', 'v')
if meta[2] and tonumber(ARGV[1]) < tonumber(meta[2]) then
  call('HSET', KEYS[1], 'v', ARGV[1])
  wake(K)
end
if meta[1] then -- a handler that runs for long uses its queue, too
  local moment = now_ms() + meta[1]
  call('HSET', KEYS[1], 'x', moment)
  keep_until(K, moment)
end
return lost
