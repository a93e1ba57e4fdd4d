-- KEYS: the queue's "m". ARGV: tokens. Returns the numbers of those that are no current claim.
local K = string.sub(KEYS[1], 1, -2)
local scores = call('ZMSCORE', K .. 't', unpack(ARGV))
local held, ids, lost, sub = {}, {}, {}, string.sub
local n = 0
for i = 1, #ARGV do
  local token = ARGV[i]
  if scores[i] then
    n = n + 1
    held[n], ids[n] = token, sub(token, 1, -10)
  else
    lost[#lost + 1] = i
  end
end
if n > 0 then
  call('ZREM', K .. 't', unpack(held))
  if call('HDEL', K .. 'b', unpack(ids)) < n then
    -- messages were gone while they were held; which ones cannot be told any more
    lost = {}
    for i = 1, #ARGV do lost[i] = i end
  end
end
return lost
