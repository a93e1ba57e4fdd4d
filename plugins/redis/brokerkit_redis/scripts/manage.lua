-- KEYS: the queue's "m". ARGV: "depth", "delete" or "purge".
local K = string.sub(KEYS[1], 1, -2)

if ARGV[1] == 'delete' then
  local fields = call('HGETALL', KEYS[1])
  for _, suffix in ipairs({'m', 'b', 't', 's', 'z', 'w'}) do call('UNLINK', K .. suffix) end
  for priority = 0, 9 do call('UNLINK', K .. 'r' .. priority) end
  return fields
end

local used = call('HGET', KEYS[1], 'u')
if not used then return absent(K) end
local now = now_ms()

if ARGV[1] == 'depth' then
  local ready = call('ZCARD', K .. 'z') + call('ZCOUNT', K .. 's', '-inf', now) + call('ZCOUNT', K .. 't', '-inf', now)
  for i = 1, #used do ready = ready + call('LLEN', K .. 'r' .. string.sub(used, i, i)) end
  return {ready, call('ZCOUNT', K .. 't', '(' .. now, '(+inf'), call('ZCOUNT', K .. 's', '(' .. now, '+inf')}
end

-- purge: some thousands, so that others get their turn; the caller calls again until nothing is left
local ids, STEP = {}, 4000
for priority = 0, 9 do
  for _, id in ipairs(call('LPOP', K .. 'r' .. priority, STEP) or {}) do ids[#ids + 1] = id end
end
for _, suffix in ipairs({'z', 's'}) do
  local tokens = call('ZRANGE', K .. suffix, 0, STEP - 1)
  for _, token in ipairs(tokens) do ids[#ids + 1] = string.sub(token, 1, -10) end
  if #tokens > 0 then call('ZREMRANGEBYRANK', K .. suffix, 0, #tokens - 1) end
end
local ended = call('ZRANGEBYSCORE', K .. 't', '-inf', now, 'LIMIT', 0, STEP)
for _, token in ipairs(ended) do ids[#ids + 1] = string.sub(token, 1, -10) end
if #ended > 0 then in_chunks('ZREM', K .. 't', ended) end
local removed = 0
for i = 1, #ids, 4000 do
  removed = removed + call('HDEL', K .. 'b', unpack(ids, i, math.min(i + 3999, #ids)))
end
return {removed}
