-- Copy messages to queues, all copies in one step or none.
-- KEYS: the topic's key; or, with "*" for the version, the "m" of the one queue to copy to, as a cluster needs it. ARGV: the topics' database or empty; the version of the bindings that
-- the caller knows; how many messages; for each id, value, ttl and delay in ms (both may be empty); then for each queue
-- its database or empty, K, how many of the messages it gets (0: all), and their numbers.
-- Returns {0}; {1, bindings…} if there are others now; {2, number of each queue that is not there…}.
local function select_database(number)
  if number ~= '' then call('SELECT', number) end
end

local function drop_oldest(K, used)
  local oldest, where
  for i = 1, #used do
    local priority = string.sub(used, i, i)
    local id = call('LINDEX', K .. 'r' .. priority, 0)
    if id and (not oldest or id < oldest) then oldest, where = id, 'r' .. priority end
    local token = call('ZRANGEBYSCORE', K .. 'z', 9 - priority, 9 - priority, 'LIMIT', 0, 1)[1]
    if token and (not oldest or token < oldest) then oldest, where = token, 'z' end
  end
  if not oldest then
    oldest, where = call('ZRANGE', K .. 's', 0, 0)[1], 's'
  end
  if not oldest then return false end
  local id = oldest
  if where == 'z' or where == 's' then
    call('ZREM', K .. where, oldest)
    id = string.sub(oldest, 1, -10)
  else
    call('LPOP', K .. where)
  end
  call('HDEL', K .. 'b', id)
  return true
end

local function copy_to(K, numbers, now)
  local meta = call('HMGET', K .. 'm', 'u', 't', 'l', 'x')
  local used, bound = meta[1], tonumber(meta[3] or '')
  for _, number in ipairs(numbers) do
    local at = 4 * number
    if call('HEXISTS', K .. 'b', ARGV[at]) == 0 then
      local room = true
      if bound and call('HLEN', K .. 'b') > bound then
        call('HINCRBY', K .. 'm', 'd', 1)
        room = drop_oldest(K, used)
      end
      if room then
        local ttl = tonumber(ARGV[at + 2]) or tonumber(meta[2] or '')
        used = note_priority(K, used, store(K, ARGV[at], ARGV[at + 1], ttl, tonumber(ARGV[at + 3]), now))
      end
    end
  end
  wake(K)
  if meta[4] then keep_until(K, meta[4]) end
end

select_database(ARGV[1])
if ARGV[2] ~= '*' and (call('HGET', KEYS[1], '') or '') ~= ARGV[2] then
  return {1, call('HGETALL', KEYS[1])}
end

local count, targets, missing = tonumber(ARGV[3]), {}, {}
local everything = {}
for number = 1, count do everything[number] = number end
local at = 4 * (count + 1)
while at <= #ARGV do
  local some = tonumber(ARGV[at + 2])
  local target = {ARGV[at], ARGV[at + 1], everything}
  if some > 0 then
    target[3] = {}
    for i = 1, some do target[3][i] = tonumber(ARGV[at + 2 + i]) end
  end
  targets[#targets + 1] = target
  at = at + 3 + some
  select_database(target[1])
  if call('HEXISTS', target[2] .. 'm', 'u') == 0 then missing[#missing + 1] = #targets end
end
if #missing > 0 then return {2, unpack(missing)} end

local now = now_ms()
for _, target in ipairs(targets) do
  select_database(target[1])
  copy_to(target[2], target[3], now)
end
return {0}
