-- Record what a call really used, in full, and give back its reservation. Safe to repeat: an identity counts once.
-- ARGV: now, rid, customer, time of admission, identity ttl (ms), idempotency digest, fingerprint, idempotency ttl (ms),
--       stored answer, then for each event: meter, kind, op, units, digest, payload digest, message.
-- Answers {"busy"} where a request of several scripts has claimed one of the levels, {"conflict"} where it was settled
-- with other figures, {"below_zero"|"too_large", customer, meter} where it cannot be counted, or {"ok"|"duplicate", then
-- for each event: mode, limit, used, held, overshoot 0|1}.

local now, rid, customer, admitted = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local identity_ttl, idem, fingerprint, idem_ttl, answer = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local FIRST, WIDTH = 10, 7

if not generation then return { 'outage' } end
local state = customer_state(customer)
if not state then return { 'unknown_customer', customer } end

local known, fresh = {}, 0
for i = FIRST, #ARGV, WIDTH do
  known[i] = call('GET', P .. 'd:' .. ARGV[i + 4])
  if known[i] and known[i] ~= ARGV[i + 5] then return { 'conflict' } end
  if not known[i] then fresh = fresh + 1 end
end
local duplicate = FIRST <= #ARGV and fresh == 0
local idem_key = P .. 'i:' .. customer .. ':' .. idem
local answered = false
if idem ~= '' then
  local known = call('HMGET', idem_key, 'r', 'a')
  answered = known[2]
  duplicate = duplicate or (answered and known[1] ~= rid)  -- another run of this request was settled first: this is free
end

-- Everything is checked before anything is written: a script is not rolled back.
local holding = reservation_of(customer, rid)
local counted = holding and { id = holding.period } or counted_in(state, admitted, now)
if not counted then return { 'stale', customer } end
for i = FIRST, #ARGV, WIDTH do
  local meter, kind, op, units = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  if kind == 'l' and call('EXISTS', claim_of(customer, meter)) == 1 then return { 'busy' } end
  if kind ~= 'x' and not (duplicate or known[i]) then
    local effect = effect_of(state, op, kind, meter, units, admitted)
    local after = used_of(state, kind, counted.id, meter) + effect
    if after > EXACT and effect > 0 then return { 'too_large', customer, meter } end
    if kind == 'l' and after < 0 and effect < 0 then return { 'below_zero', customer, meter } end
  end
end

volatile()
local reservation = drop_hold(customer, rid)
local which = state.coming and counted.id == state.coming.id and '1:' or '0:'

durable()
local fields, shown = {}, {}
for i = FIRST, #ARGV, WIDTH do
  local meter, kind, op, units = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local field = held_field(kind, counted.id, meter)
  local mode, limit = limit_of(state, which, meter)
  local overshoot = 0
  local used
  if duplicate or known[i] then
    used = used_of(state, kind, counted.id, meter)
  else
    local effect = effect_of(state, op, kind, meter, units, admitted)
    used = count(state, op, kind, counted.id, meter, effect, admitted)
    local reserved = reservation and reservation.held[field] or 0
    -- A call that came late stands beside whoever was let in meanwhile.
    local others = reservation and 0 or held_of(customer, field)
    if mode == 'hard' and effect > reserved and used + others > tonumber(limit) then overshoot = 1 end
    fields[#fields + 1] = decision((i - FIRST) / WIDTH + 1, kind == 'u' and counted.id or '', effect,
                                   overshoot == 1 and 'o' or '')
    fields[#fields + 1] = ARGV[i + 6]
    call('SET', P .. 'd:' .. ARGV[i + 4], ARGV[i + 5], 'PX', identity_ttl)
  end
  shown[#shown + 1] = mode
  shown[#shown + 1] = limit
  shown[#shown + 1] = int(used)
  shown[#shown + 1] = int(reservation and reservation.left[field] or held_of(customer, field))
  shown[#shown + 1] = overshoot
end
if #fields > 0 then append(fields) end

if idem ~= '' and not answered then
  call('DEL', idem_key)
  call('HSET', idem_key, 'f', fingerprint, 'r', rid, 'a', answer)
  call('PEXPIRE', idem_key, idem_ttl)
end

return { duplicate and 'duplicate' or 'ok', unpack(shown) }
