-- KEYS: the queue's "m". ARGV: expires, message_ttl (ms), max_length, each may be empty; max_priority.
-- Returns what is stored, if that is not the same; else nothing.
local K = string.sub(KEYS[1], 1, -2)

local function keep_for_ever(K)
  for _, suffix in ipairs({'b', 't', 's', 'z', 'w'}) do call('PERSIST', K .. suffix) end
  for priority = 0, 9 do call('PERSIST', K .. 'r' .. priority) end
end

local now = now_ms()
local known = call('HMGET', KEYS[1], 'u', 'e', 't', 'l', 'p')
if not known[1] then
  local left = absent(K) == 2
  call('HSET', KEYS[1], 'u', '0', 'p', ARGV[4])
  for i, field in ipairs({'e', 't', 'l'}) do
    if ARGV[i] ~= '' then call('HSET', KEYS[1], field, ARGV[i]) end
  end
  if ARGV[2] ~= '' or ARGV[3] ~= '' then call('HSET', KEYS[1], 'o', '1') end
  if left then
    repair(K, '0', now, false)
    keep_for_ever(K) -- it may have had another expiry
  else
    lay_floor(K)
  end
else
  local stored = {known[2] or '', known[3] or '', known[4] or '', known[5] or '9'}
  for i = 1, 4 do
    if stored[i] ~= ARGV[i] then return stored end
  end
end
if ARGV[1] ~= '' then
  call('HSET', KEYS[1], 'x', now + ARGV[1])
  keep_until(K, now + ARGV[1])
end
return false
