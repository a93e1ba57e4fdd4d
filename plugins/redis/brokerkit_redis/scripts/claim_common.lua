-- The commonest claim, before all else is even defined, as that takes longer than this: of one queue with one priority in use,
-- of which something is ready and nothing came back, is due, was lost or is to be told. Of any other nothing is done here.
-- See claim.lua.
if redis.replicate_commands then redis.replicate_commands() end
if #KEYS == 1 or string.sub(KEYS[2], -1) ~= 'm' then
  local call, m, limit, lease = redis.call, KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
  local meta = call('HMGET', m, 'u', 'v', 'n', 'h', 'e', 'd', 'gone')
  local used = meta[1]
  if used and #used == 1 and meta[2] and lease >= tonumber(meta[2]) and limit <= 4000
    and (meta[4] or ARGV[5] ~= '1') and not (meta[5] or meta[6] or meta[7]) then
    local K = string.sub(m, 1, -2)
    local b, r, t = K .. 'b', K .. 'r' .. used, K .. 't'
    local ready, time = call('LLEN', r), call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if ready > 0 and call('ZCARD', K .. 'z') == 0 and call('ZCARD', K .. 's') == 0
      and call('HLEN', b) == ready + call('ZCARD', t) and call('HEXISTS', b, '') == 1
      and not call('ZRANGEBYSCORE', t, '-inf', now, 'LIMIT', 0, 1)[1] then
      local ids, tokens, leases = call('LPOP', r, limit), {}, {}
      -- the end as a text: a number would be written out anew for each token
      local tail, until_, bodies = struct.pack('>BI4I4', used, 1, 0), string.format('%.0f', now + lease), {}
      for i = 1, #ids do
        local token = ids[i] .. tail
        tokens[i], leases[2 * i - 1], leases[2 * i] = token, until_, token
      end
      for i = 1, #leases, 4000 do call('ZADD', t, unpack(leases, i, math.min(i + 3999, #leases))) end
      if call('HSTRLEN', b, ids[1]) * #ids <= tonumber(ARGV[3]) then bodies = call('HMGET', b, unpack(ids)) end
      if ready > limit and call('EXISTS', K .. 'w') == 0 then
        call('RPUSH', K .. 'w', '')
        if meta[4] then redis.pcall('PUBLISH', K .. 'w', '') end
      end
      return {now, -1, {{1, 0, 0, '', tokens, bodies, '', meta[3] or ''}}}
    end
  end
end
