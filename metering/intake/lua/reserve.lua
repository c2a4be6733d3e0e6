-- Admit a call: all limits and rates, or none. Holds the quota under a lease; records nothing.
-- ARGV: now, lease, rid, key digest ('' = none), scope, customer ('' = the key's), whether rates hold it (0|1),
--       idempotency digest ('' = none), fingerprint, then for each meter: meter, kind ('u' usage, 'l' level), units.
-- Answers {"ok"|"limit"|"rate", customer, key id, period id, start, end, refused limit (1-based, 0 = none), rate of the
--       customer, rate of the key ("count|seconds|burst|interval|arrival", '' = none), then for each meter: mode, limit,
--       used, held} or {code, …}.

local now, lease, rid = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local key_digest, scope, customer, is_call = ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
local idem, fingerprint = ARGV[8], ARGV[9]
local FIRST, WIDTH = 10, 3

if not generation then return { 'outage' } end

local key_id = ''
if key_digest ~= '' then
  local key = call('HMGET', P .. 'k:' .. key_digest, 'c', 'i', 's', 'x', 'e')
  if not key[2] or key[4] == '1' or expired(key[5], now) then return { 'unknown_key' } end
  customer, key_id = key[1], key[2]
  if customer == '' then return { 'no_customer', scope } end
  if not string.find(' ' .. key[3] .. ' ', ' ' .. scope .. ' ', 1, true) then return { 'scope', scope } end
  volatile()
  call('HSET', P .. 'seen', key_id, ARGV[1])
end

local state = customer_state(customer)
if not state then return { 'unknown_customer', customer } end
if state.status ~= 'active' then return { 'inactive', customer } end
local current, which = in_force(state, now)
if not current then return { 'stale', customer } end

local idem_key = P .. 'i:' .. customer .. ':' .. idem
if idem ~= '' then
  local known = call('HMGET', idem_key, 'f', 'r', 'x', 'a')
  if known[1] and (known[4] or num(known[3]) > now) then
    if known[1] ~= fingerprint then return { 'idempotency_mismatch', customer } end
    if known[4] then return { 'replay', customer, key_id, known[4] } end
    return { 'idempotency_running', customer }
  end
end

volatile()
expire_holds(customer, now)

local refused = 0
local shown, hold = {}, {}
for i = FIRST, #ARGV, WIDTH do
  local meter, kind, units = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local mode, limit = limit_of(state, which, meter)
  local field = held_field(kind, current.id, meter)
  local used, held = used_of(state, kind, current.id, meter), held_of(customer, field)
  if mode == 'hard' and used + held + units > tonumber(limit) and refused == 0 then refused = (i - FIRST) / WIDTH + 1 end
  if used + held + units > EXACT then return { 'too_large', customer, meter } end
  if units > 0 then hold[field] = units end  -- nothing held is nothing to give back: "-0" is no integer to Redis
  shown[#shown + 1] = mode
  shown[#shown + 1] = limit
  shown[#shown + 1] = int(used)
  shown[#shown + 1] = int(held)
end

local for_customer, for_key
if is_call then
  local rates = call('HMGET', state.key, which .. '@customer', which .. '@key')
  for_customer, for_key = rates_of(customer, key_id, rates[1], rates[2], now)
end
local verdict = refused > 0 and 'limit' or 'ok'
if verdict == 'ok' and (for_customer and not for_customer.open or for_key and not for_key.open) then verdict = 'rate' end

if verdict == 'ok' then
  pass(for_customer, now)
  pass(for_key, now)
  local held = keep_hold(customer, rid, current.id, hold, now + lease)
  for i = FIRST, #ARGV, WIDTH do
    local total = held[held_field(ARGV[i + 1], current.id, ARGV[i])]
    if total then shown[(i - FIRST) / WIDTH * 4 + 4] = int(total) end
  end
  if idem ~= '' then
    call('DEL', idem_key)
    call('HSET', idem_key, 'f', fingerprint, 'r', rid, 'x', int(now + lease))
    call('PEXPIRE', idem_key, remembered(lease))
  end
end

return { verdict, customer, key_id, current.id, int(current.starts), int(current.ends), refused,
         shown_rate(for_customer), shown_rate(for_key), unpack(shown) }
