-- Store one record, unless a final one is there. The first byte of a stored record is "F" if it is final, else "N".
-- KEYS: the record's key. ARGV: "F" or "N", the value, time to live in ms or empty, 1 if only where none is.
-- Returns 1 if it was stored, else 0. Who waits for the key is told by the server itself, as it tracks who has read it.
if ARGV[4] == '1' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
elseif redis.call('GETRANGE', KEYS[1], 0, 0) == 'F' then
  return 0
end
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
end
return 1
