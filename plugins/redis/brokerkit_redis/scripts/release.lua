-- KEYS: the queue's "m". ARGV: delay (ms), 1 if it does not count as an attempt, tokens.
-- Returns the numbers of those that are no current claim.
local K = string.sub(KEYS[1], 1, -2)
local now, lost = now_ms(), {}
for i = 3, #ARGV do
  local id, priority, claims, uncounted = parts_of(ARGV[i])
  if call('ZREM', K .. 't', ARGV[i]) == 0 or call('HEXISTS', K .. 'b', id) == 0 then
    lost[#lost + 1] = i - 2
  else
    local token = token_of(id, priority, claims, uncounted + ARGV[2])
    if tonumber(ARGV[1]) > 0 then
      call('ZADD', K .. 's', now + ARGV[1], token)
    else
      call('ZADD', K .. 'z', 9 - priority, token)
    end
  end
end
if #lost < #ARGV - 2 then wake(K) end -- else there may be no queue to which a token would belong
local moment = call('HGET', KEYS[1], 'x')
if moment then keep_until(K, moment) end
return lost
