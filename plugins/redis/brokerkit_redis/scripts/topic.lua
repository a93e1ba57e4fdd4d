-- The bindings of one topic: a hash of field to value, and of "" to a version that rises with every change.
-- KEYS: the topic's key. ARGV: its database or empty; the version that the caller knows; then "add" or "remove", and fields
-- with their values (of "remove" without). Without these it reads.
-- Returns {1} if done; {0, bindings…} if there are others now, or if it was to read.
if redis.replicate_commands then redis.replicate_commands() end
if ARGV[1] ~= '' then redis.call('SELECT', ARGV[1]) end
if not ARGV[3] or (ARGV[2] ~= '*' and (redis.call('HGET', KEYS[1], '') or '') ~= ARGV[2]) then
  return {0, redis.call('HGETALL', KEYS[1])}
end
local changed = 0
if ARGV[3] == 'add' then
  for i = 4, #ARGV, 2 do
    if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
      changed = changed + 1
    end
  end
else
  changed = redis.call('HDEL', KEYS[1], unpack(ARGV, 4))
end
if changed > 0 then
  -- never a version that somebody saw before, also if the hash was gone meanwhile
  local t = redis.call('TIME')
  local before = tonumber(redis.call('HGET', KEYS[1], '') or '') or 0
  redis.call('HSET', KEYS[1], '', string.format('%.0f', math.max(before + 1, t[1] * 1000000 + t[2])))
  if redis.call('HLEN', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
end
return {1, changed}
