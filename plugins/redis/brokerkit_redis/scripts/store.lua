-- Messages one by one. KEYS: the queue's "m". ARGV: for each message id, value, ttl and delay in ms, both may be empty.
-- Returns 1 or 2, see `absent`; or a list with 0, stored; 3, priority too high; 4, full.
local K = string.sub(KEYS[1], 1, -2)
local meta = call('HMGET', KEYS[1], 'u', 'p', 't', 'l', 'x')
if not meta[1] then return absent(K) end
local now, used, outcomes = now_ms(), meta[1], {}
local highest, bound = tonumber(meta[2] or 9), tonumber(meta[4] or 'inf') or math.huge
local first = call('ZRANGE', K .. 's', 0, 0, 'WITHSCORES')[2]
for i = 1, #ARGV, 4 do
  local outcome = 0
  if string.byte(ARGV[i + 1]) % 16 > highest then
    outcome = 3
  elseif call('HEXISTS', K .. 'b', ARGV[i]) == 0 then
    if call('HLEN', K .. 'b') > bound then
      outcome = 4
    else
      local ttl = tonumber(ARGV[i + 2]) or tonumber(meta[3] or '')
      used = note_priority(K, used, store(K, ARGV[i], ARGV[i + 1], ttl, tonumber(ARGV[i + 3]), now))
    end
  end
  outcomes[#outcomes + 1] = outcome
end
local ready = false
for i = 1, #used do
  ready = ready or call('EXISTS', K .. 'r' .. string.sub(used, i, i)) == 1
end
-- who waits must also learn of a delay that ends before all others
if ready or call('ZRANGE', K .. 's', 0, 0, 'WITHSCORES')[2] ~= first then wake(K) end
if meta[5] then keep_until(K, meta[5]) end
return outcomes
