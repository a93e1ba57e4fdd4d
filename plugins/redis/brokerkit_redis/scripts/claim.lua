-- Take what is ready, and record it as leased, in one step for each queue.
-- KEYS: the queues' "m", in the order to serve; or in a cluster all keys of one queue, "m" first. ARGV: limit, visibility
-- timeout (ms), bytes of bodies to return at most, 1 to tell losses, 1 if the caller subscribes to the channels of its queues.
-- Returns now; when to look again (ms; -1: nothing is known to come); and of each queue that has something to say:
-- {its number, 1 or 2} as `absent` says, or {its number, 0, dropped, gone, tokens, bodies, expires, bindings}.
local now = now_ms()
local limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local queues = KEYS
if KEYS[2] and string.sub(KEYS[2], -1) ~= 'm' then queues = {KEYS[1]} end
local STEP = 1000 -- what one fetch makes ready again of one queue, so that others get their turn

-- what is due, of delays that are over (s) or leases that have ended (t); returns how many
local function ripen(K, suffix)
  local due = call('ZRANGEBYSCORE', K .. suffix, '-inf', now, 'LIMIT', 0, STEP)
  if #due > 0 then
    in_chunks('ZREM', K .. suffix, due)
    for _, token in ipairs(due) do make_ready(K, token) end
  end
  return #due
end

local function again(token)
  local id, priority, claims, uncounted = parts_of(token)
  return token_of(id, priority, claims + 1, uncounted), id
end

-- of one priority, those that came back stand among those that wait by the age of their ids
local function merge(K, priority, back, count, tokens, ids)
  local key, tail = K .. 'r' .. priority, struct.pack('>BI4I4', priority, 1, 0)
  local waiting = call('LRANGE', key, 0, count - 1)
  local w, b = 1, 1
  for _ = 1, math.min(count, #waiting + #back) do
    if back[b] and (not waiting[w] or string.sub(back[b], 1, -10) <= waiting[w]) then
      tokens[#tokens + 1], ids[#ids + 1] = again(back[b])
      b = b + 1
    else
      tokens[#tokens + 1], ids[#ids + 1] = waiting[w] .. tail, waiting[w]
      w = w + 1
    end
  end
  if w > 1 then call('LPOP', key, w - 1) end
  for i = #back, b, -1 do back[i] = nil end
  in_chunks('ZREM', K .. 'z', back)
end

local function take(K, used, count, any_back)
  local tokens, ids = {}, {}
  for i = 1, #used do
    local priority, left = tonumber(string.sub(used, i, i)), count - #tokens
    if left == 0 then break end
    local back = any_back and call('ZRANGEBYSCORE', K .. 'z', 9 - priority, 9 - priority, 'LIMIT', 0, left) or {}
    if #back > 0 then
      merge(K, priority, back, left, tokens, ids)
    else
      local tail = struct.pack('>BI4I4', priority, 1, 0)
      local some, n = call('LPOP', K .. 'r' .. priority, left) or {}, #tokens
      for j = 1, #some do
        tokens[n + j], ids[n + j] = some[j] .. tail, some[j]
      end
    end
  end
  return tokens, ids
end

local function record(K, tokens)
  local leases, until_ = {}, string.format('%.0f', now + lease) -- a text, as a number would be written out for each
  for i = 1, #tokens do
    leases[2 * i - 1], leases[2 * i] = until_, tokens[i]
  end
  in_chunks('ZADD', K .. 't', leases)
end

-- none if they are large: copying them here takes longer than another round trip of the client. The first speaks for all
local function bodies_of(K, ids)
  if call('HSTRLEN', K .. 'b', ids[1]) * #ids > tonumber(ARGV[3]) then return {} end
  if #ids <= 4000 then return call('HMGET', K .. 'b', unpack(ids)) end
  local bodies = {}
  for i = 1, #ids, 4000 do
    for _, body in ipairs(call('HMGET', K .. 'b', unpack(ids, i, math.min(i + 3999, #ids)))) do
      bodies[#bodies + 1] = body
    end
  end
  return bodies
end

local function stay(K, expires, until_, tokens)
  if not expires then return end
  if tonumber(until_) - now < 0.75 * expires then
    until_ = now + expires
    call('HSET', K .. 'm', 'x', until_)
  end
  keep_until(K, until_)
end

local function claim(number, K, count)
  local meta = call('HMGET', K .. 'm', 'u', 'v', 'e', 'x', 'd', 'gone', 'n', 'h')
  local used = meta[1]
  if not used then return {number, absent(K)}, 0 end
  local gone = meta[6]
  local holds, back, ready, scheduled = sound(K, used)
  if not holds then
    used = repair(K, used, now, false)
    gone = call('HGET', K .. 'm', 'gone')
    holds, back, ready, scheduled = sound(K, used)
  end
  if ARGV[5] == '1' and not meta[8] then call('HSET', K .. 'm', 'h', '1') end
  local ripe = ripen(K, 't') + (scheduled > 0 and ripen(K, 's') or 0)
  local bodies, dropped = {}, 0
  local tokens, ids = take(K, used, count, back + ripe > 0)
  if #tokens > 0 then
    record(K, tokens)
    bodies = bodies_of(K, ids)
    if not meta[2] or lease < tonumber(meta[2]) then
      call('HSET', K .. 'm', 'v', lease)
      -- who waits now may plan to sleep for longer than that
      if lease < 1000 then
        call('RPUSH', K .. 'w', unpack({'', '', '', '', '', '', '', ''}))
        announce(K)
      end
    end
    if meta[5] then
      dropped = tonumber(meta[5])
      call('HDEL', K .. 'm', 'd')
    end
  end
  if gone and ARGV[4] == '1' then
    call('HDEL', K .. 'm', 'gone')
  else
    gone = ''
  end
  if ready + ripe > #tokens then
    wake(K)
  elseif #tokens == 0 then
    call('DEL', K .. 'w')
  end
  stay(K, tonumber(meta[3] or ''), meta[4], tokens)
  if #tokens == 0 and gone == '' and not meta[3] and not meta[7] then return nil, 0 end
  return {number, 0, dropped, gone, tokens, bodies, meta[3] or '', meta[7] or ''}, #tokens
end

local function look_again()
  local moment = -1
  for _, key in ipairs(queues) do
    local K = string.sub(key, 1, -2)
    local shortest = tonumber(call('HGET', key, 'v') or '')
    for _, suffix in ipairs({'s', 't'}) do
      local due = tonumber(call('ZRANGE', K .. suffix, 0, 0, 'WITHSCORES')[2] or '')
      if due and due < math.huge and (moment < 0 or due < moment) then moment = due end
    end
    -- what others claim after this ends no sooner
    if shortest and (moment < 0 or now + shortest < moment) then moment = now + shortest end
  end
  return moment
end

local found, total = {}, 0
for number, key in ipairs(queues) do
  if total >= limit then break end
  local answer, count = claim(number, string.sub(key, 1, -2), limit - total)
  total = total + count
  if answer then found[#found + 1] = answer end
end
return {now, total == 0 and look_again() or -1, found}
