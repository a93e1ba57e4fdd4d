-- KEYS: the queues' "m"; or in a cluster all keys of one queue, "m" first. ARGV: tokens; those of several queues stand each
-- queue's behind their number. Returns the numbers of those tokens, of all, that are no current claim.
local lost, sub = {}, string.sub

-- those from ARGV[first] to ARGV[last], of which so many stand before
local function ack(K, first, last, before)
  local scores = call('ZMSCORE', K .. 't', unpack(ARGV, first, last))
  local held, ids, refused, n = {}, {}, {}, 0
  for i = first, last do
    if scores[i - first + 1] then
      n = n + 1
      held[n], ids[n] = ARGV[i], sub(ARGV[i], 1, -10)
    else
      refused[#refused + 1] = i
    end
  end
  if n > 0 then
    call('ZREM', K .. 't', unpack(held))
    if call('HDEL', K .. 'b', unpack(ids)) < n then
      -- messages were gone while they were held; which ones cannot be told any more
      refused = {}
      for i = first, last do refused[#refused + 1] = i end
    end
  end
  for i = 1, #refused do lost[#lost + 1] = refused[i] - first + 1 + before end
end

if KEYS[2] and sub(KEYS[2], -1) == 'm' then
  local at, before = 1, 0
  for _, key in ipairs(KEYS) do
    local count = tonumber(ARGV[at])
    ack(sub(key, 1, -2), at + 1, at + count, before)
    at, before = at + 1 + count, before + count
  end
else
  ack(sub(KEYS[1], 1, -2), 1, #ARGV, 0)
end
return lost
