-- What a queue knows of its own bindings, so that one that is gone from its topic is noticed.
-- KEYS: the queue's "m". ARGV: "add" or "remove", the field, the value; or "missed" and the topic, for its next consumer.
-- Returns 1 or 2, see `absent`, or {its expires, 1 if it was bound before}.
local K = string.sub(KEYS[1], 1, -2)
local meta = call('HMGET', KEYS[1], 'u', 'e')
if not meta[1] then return absent(K) end
local before = call('HEXISTS', KEYS[1], ARGV[2])
if ARGV[1] == 'missed' then
  local told = call('HGET', KEYS[1], 'gone')
  call('HSET', KEYS[1], 'gone', (told and told .. '\n' or '') .. 'B ' .. ARGV[2])
elseif ARGV[1] == 'add' then
  call('HSET', KEYS[1], ARGV[2], ARGV[3] .. (meta[2] and 'x' or ''))
  if before == 0 then call('HINCRBY', KEYS[1], 'n', 1) end
elseif call('HDEL', KEYS[1], ARGV[2]) == 1 and call('HINCRBY', KEYS[1], 'n', -1) <= 0 then
  call('HDEL', KEYS[1], 'n')
end
return {meta[2] or '', before}
