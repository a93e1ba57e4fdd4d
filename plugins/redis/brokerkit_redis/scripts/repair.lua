-- The invariant: each body stands in exactly one of: a ready list, the returned, the leases, the schedule. The bodies and
-- the leases have one entry more that is no message, so that an evicted key is told from an empty one.

local FLOOR = string.rep('-', 80) -- long enough to keep a sorted set from being packed

-- returns whether it holds, and how many are returned, ready in all, and scheduled
local function sound(K, used)
  local back, scheduled = call('ZCARD', K .. 'z'), call('ZCARD', K .. 's')
  local ready = back
  for i = 1, #used do
    ready = ready + call('LLEN', K .. 'r' .. string.sub(used, i, i))
  end
  local indexed = call('ZCARD', K .. 't') + scheduled + ready
  return call('HLEN', K .. 'b') == indexed and call('HEXISTS', K .. 'b', '') == 1, back, ready, scheduled
end

local function lay_floor(K)
  call('HSET', K .. 'b', '', '')
  call('ZADD', K .. 't', '+inf', FLOOR)
end

-- drop what has no body, or stands twice; returns the ids that stand somewhere, and the priorities in use
local function sift(K, used, bodies, lost)
  local seen = {['']=true}
  for priority = 0, 9 do
    local key = K .. 'r' .. priority
    for _, id in ipairs(call('LRANGE', key, 0, -1)) do
      if seen[id] or not bodies[id] then
        call('LREM', key, bodies[id] and -1 or 1, id)
        if not bodies[id] then lost[#lost + 1] = id end
      end
      seen[id] = true
    end
  end
  for _, suffix in ipairs({'z', 't', 's'}) do
    for _, token in ipairs(call('ZRANGE', K .. suffix, 0, -1)) do
      if token ~= FLOOR then
        local id = string.sub(token, 1, -10)
        if seen[id] or not bodies[id] then
          call('ZREM', K .. suffix, token)
          if not bodies[id] then lost[#lost + 1] = id end
        else
          used = note_priority(K, used, string.byte(token, -9))
        end
        seen[id] = true
      end
    end
  end
  return seen, used
end

-- put a body back whose index is gone, with claim numbers that no old receipt has
local function put_back(K, id, fresh, now)
  local value = call('HGET', K .. 'b', id)
  local flags = string.byte(value) or 0
  local priority = math.min(flags % 16, 9)
  local from = 2 + (math.floor(flags / 16) % 2) * 8
  if math.floor(flags / 32) % 2 == 1 and #value >= from + 7 then
    local due = struct.unpack('>I8', value, from)
    if due > now then
      call('ZADD', K .. 's', due, token_of(id, priority, 0, 0))
      return priority
    end
  end
  call('ZADD', K .. 'z', 9 - priority, token_of(id, priority, fresh, fresh))
  return priority
end

-- takes time in proportion to the queue's length; returns the priorities in use. What is gone is kept for a consumer.
local function repair(K, used, now, quiet)
  local had_floor = call('HEXISTS', K .. 'b', '') == 1
  local bodies, lost, back = {}, {}, 0
  for _, id in ipairs(call('HKEYS', K .. 'b')) do bodies[id] = true end
  local seen
  seen, used = sift(K, used, bodies, lost)
  local moment = call('TIME') -- a count would begin again when it is evicted, too
  local fresh = (moment[1] * 1000000 + moment[2]) % 4000000000
  for id in pairs(bodies) do
    if not seen[id] then
      used = note_priority(K, used, put_back(K, id, fresh, now))
      back = back + 1
    end
  end
  for priority = 0, 9 do
    if call('EXISTS', K .. 'r' .. priority) == 1 then used = note_priority(K, used, priority) end
  end
  lay_floor(K)
  if #lost > 0 or not had_floor or not quiet then
    local names = {}
    for i = 1, math.min(#lost, 100) do
      names[i] = string.gsub(lost[i], '.', function(c) return string.format('%02x', string.byte(c)) end)
    end
    local line = string.format('%d %d %d %s', #lost, back, had_floor and 1 or 0, table.concat(names, ','))
    local before = call('HGET', K .. 'm', 'gone')
    call('HSET', K .. 'm', 'gone', before and before .. '\n' .. line or line)
  end
  if back > 0 then wake(K) end
  return used
end
