-- KEYS: the queue's "m". ARGV: tokens. Returns the numbers of those that are no current claim.
local K = string.sub(KEYS[1], 1, -2)
local scores = call('ZMSCORE', K .. 't', unpack(ARGV))
local held, ids, lost = {}, {}, {}
for i, token in ipairs(ARGV) do
  if scores[i] then
    held[#held + 1], ids[#ids + 1] = token, string.sub(token, 1, -10)
  else
    lost[#lost + 1] = i
  end
end
if #held > 0 then
  call('ZREM', K .. 't', unpack(held))
  if call('HDEL', K .. 'b', unpack(ids)) < #held then
    -- messages were gone while they were held; which ones cannot be told any more
    lost = {}
    for i = 1, #ARGV do lost[i] = i end
  end
end
return lost
