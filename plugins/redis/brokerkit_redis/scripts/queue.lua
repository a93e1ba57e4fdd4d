-- What every script on queues begins with. A queue's keys begin with one text, K, that ends in "{name}:"; see layout.py.
-- A token names one claim: the message's id, then 9 bytes: priority, claims so far, claims that do not count as attempts.

local call = redis.call

-- before Redis 7 a script may write after it has asked for the time only if its effects are what is replicated
if redis.replicate_commands then redis.replicate_commands() end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function token_of(id, priority, claims, uncounted)
  return id .. struct.pack('>BI4I4', priority, claims, uncounted)
end

local function parts_of(token)
  local priority, claims, uncounted = struct.unpack('>BI4I4', token, #token - 8)
  return string.sub(token, 1, -10), priority, claims, uncounted
end

local function in_chunks(command, key, values)
  for i = 1, #values, 4000 do
    call(command, key, unpack(values, i, math.min(i + 3999, #values)))
  end
end

-- every key of a queue that expires goes at the same moment; one made since has no such moment yet
local function keep_until(K, moment)
  for _, suffix in ipairs({'m', 'b', 't', 's', 'z', 'w'}) do
    call('PEXPIREAT', K .. suffix, moment)
  end
  for priority = 0, 9 do
    call('PEXPIREAT', K .. 'r' .. priority, moment)
  end
end

-- in a cluster, who waits for several queues hears of them; see ADR 0017. A user without the right to tell stores none the less
local function announce(K)
  if call('HEXISTS', K .. 'm', 'h') == 1 then redis.pcall('PUBLISH', K .. 'w', '') end
end

-- one token is enough: whoever takes it and leaves something ready puts it back
local function wake(K)
  if call('EXISTS', K .. 'w') == 0 then
    call('RPUSH', K .. 'w', '')
    announce(K)
  end
end

local function note_priority(K, used, priority)
  if string.find(used, priority, 1, true) then
    return used
  end
  local digits = {}
  for digit in string.gmatch(used .. priority, '%d') do
    digits[#digits + 1] = digit
  end
  table.sort(digits, function(a, b) return a > b end)
  used = table.concat(digits)
  call('HSET', K .. 'm', 'u', used)
  return used
end

-- 1: there is no such queue. 2: its settings are gone, and something of it is left.
local function absent(K)
  local left = call('EXISTS', K .. 'b', K .. 't', K .. 's', K .. 'z')
  for priority = 0, 9 do
    left = left + call('EXISTS', K .. 'r' .. priority)
  end
  return left > 0 and 2 or 1
end

local function make_ready(K, token)
  call('ZADD', K .. 'z', 9 - string.byte(token, -9), token)
end

-- with the moments that its flags announce; see layout.py
local function with_moments(value, expires_at, due)
  local flags, moments = string.byte(value), ''
  if expires_at then
    flags, moments = flags + 16, struct.pack('>I8', expires_at)
  end
  if due then
    flags, moments = flags + 32, moments .. struct.pack('>I8', due)
  end
  return string.char(flags) .. moments .. string.sub(value, 2)
end

-- store one message that is new in the queue
local function store(K, id, value, ttl, delay, now)
  local priority = string.byte(value) % 16
  local due = delay and delay > 0 and now + delay
  local expires_at = ttl and now + ttl
  if expires_at or due then
    value = with_moments(value, expires_at, due)
  end
  call('HSET', K .. 'b', id, value)
  if due then
    call('ZADD', K .. 's', due, token_of(id, priority, 0, 0))
  else
    call('RPUSH', K .. 'r' .. priority, id)
  end
  return priority
end
