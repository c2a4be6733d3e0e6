-- Record events, all or none: with `enforce` within the hard limits, else in full, flagged where they pass one.
-- ARGV: now, enforce (0|1), identity ttl (ms), backlog limit, look (0|1), the claim of a request of several scripts ('' =
--       none), how many counters were carried, for each of these its place and by how much, then for each event:
--       digest, payload digest, customer, meter, kind ('u', 'l', 'x' = not counted live), op, units, time, message.
-- Answers {"ok", number recorded} or {code, item (0-based), …}; {"busy"} where another request has claimed some of it,
-- {"unclaimed"} where this one has lost its claim.
-- With `look` nothing is written. It answers {"ok", number that is new, for each counter that would move: customer,
-- field, by how much in all, 1 where a hard limit holds it}; carried into the next look, several looks see what one of all would.

local now, enforce, identity_ttl, backlog = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])
local look, claim, WIDTH = ARGV[5] == '1', ARGV[6], 9
local mine, recording_claimed = '?' .. claim, claim ~= '' and not look
local FIRST = 8 + 2 * tonumber(ARGV[7])
local carried = {}
for i = 8, FIRST - 1, 2 do carried[ARGV[i]] = tonumber(ARGV[i + 1]) end

if not generation then return { 'outage' } end
if call('XLEN', P .. 'stream') >= backlog then return { 'backlog' } end

local states, counters, payloads, fresh, conflicts = {}, {}, {}, {}, {}

local function state_of(customer)
  if states[customer] == nil then
    states[customer] = customer_state(customer) or false
    volatile()
    expire_holds(customer, now)
    durable()
  end
  return states[customer]
end

-- What others hold of a counter.
local function held_by_others(state, customer, field)
  if state.own == nil then
    state.own = claim ~= '' and reservation_of(customer, claim) or { held = {} }
  end
  return held_of(customer, field) - (state.own.held[field] or 0)
end

-- A counter as it will stand after the events so far, looked up once: `value`, and `limit` and `held` where a hard
-- limit holds it. `moved` is by how much since it was read, carried looks included; of a level `set_at` and `changed_at`
-- are when it last was, and `claim` is whose it is for now.
local function new_counter(state, customer, kind, counted, meter)
  local field = held_field(kind, counted.id, meter)
  local moved = carried[customer .. ' ' .. field] or 0
  local counter = { customer = customer, field = field, meter = meter, kind = kind, period = counted, moved = moved,
                    value = moved + (kind == 'x' and 0 or used_of(state, kind, counted.id, meter)) }
  if kind == 'l' then
    counter.set_at, counter.changed_at = num(call('HGET', state.l, meter .. '@')), num(call('HGET', state.l, meter .. '~'))
    counter.claim = call('GET', claim_of(customer, meter)) or ''
  end
  local which = kind ~= 'x' and limits_for(state, kind, counted.id, now)
  if which then
    local mode, limit = limit_of(state, which, meter)
    if mode == 'hard' then counter.limit, counter.held = tonumber(limit), held_by_others(state, customer, field) end
  end
  return counter
end

-- An identity that is claimed by this very request is new.
local identities = {}
for i = FIRST, #ARGV, WIDTH do identities[#identities + 1] = P .. 'd:' .. ARGV[i] end
local remembered_payloads = #identities > 0 and call('MGET', unpack(identities)) or {}

for i = FIRST, #ARGV, WIDTH do
  local item = (i - FIRST) / WIDTH
  local digest, payload, customer, meter, kind, op = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local units, time = tonumber(ARGV[i + 6]), tonumber(ARGV[i + 7])
  local known = payloads[digest] or remembered_payloads[item + 1]
  if known and known ~= mine and string.sub(known, 1, 1) == '?' then return { 'busy' } end
  if not known and recording_claimed then return { 'unclaimed' } end
  if known and known ~= mine then
    if known ~= payload then conflicts[#conflicts + 1] = item end
  else
    payloads[digest] = payload
    local state = state_of(customer)
    if not state then return { 'unknown_customer', item } end
    local counted = counted_in(state, time, now)
    if not counted then return { 'stale', item, customer } end
    local name = counted.id .. kind .. customer .. ' ' .. meter
    local counter = counters[name]
    if not counter then
      counter = new_counter(state, customer, kind, counted, meter)
      counters[name] = counter
      if counter.claim and counter.claim ~= claim then return { counter.claim == '' and 'unclaimed' or 'busy' } end
    end
    local before = counter.value
    local effect = kind == 'u' and units or 0
    if kind == 'l' and op == 'change' then
      if time >= counter.set_at then effect = units end
      if time > counter.changed_at then counter.changed_at = time end
    elseif kind == 'l' then  -- a set that comes late cannot be told here: the drain, which has the history, corrects it
      if time >= counter.set_at and time >= counter.changed_at then effect = units - before end
      if time > counter.set_at then counter.set_at = time end
    end
    local after = before + effect
    -- What was looked at is not refused for what others counted since: Redis adds whole numbers far beyond 2^53.
    if after > EXACT and effect > 0 and not (recording_claimed and kind == 'u') then return { 'too_large', item } end
    -- What is late can have brought a level below zero: it may rise from there.
    if kind == 'l' and after < 0 and effect < 0 then return { 'below_zero', item } end
    -- What running calls hold is theirs: whoever takes the rest passes the limit.
    local over = effect > 0 and counter.limit and after + counter.held > counter.limit
    if over and enforce then
      local span = kind == 'l' and in_force(state, now) or counted
      return { 'limit', item, 'hard', int(counter.limit), int(before), int(counter.held), int(span.starts),
               int(span.ends) }
    end
    counter.value, counter.moved = after, counter.moved + effect
    fresh[#fresh + 1] = { at = i, counter = counter, effect = effect, flags = over and 'o' or '' }
  end
end

if #conflicts > 0 then return { 'conflict', unpack(conflicts) } end
if look then
  local answer = { 'ok', #fresh }
  for _, counter in pairs(counters) do
    local parts = { counter.customer, counter.field, int(counter.moved), counter.limit and 1 or 0 }
    for _, part in ipairs(parts) do answer[#answer + 1] = part end
  end
  return answer
end
if #fresh == 0 then return { 'ok', 0 } end

-- Usage is counted once a counter; a level event by event, for each of them may set it anew.
for _, counter in pairs(counters) do
  if counter.kind == 'u' then
    call('HINCRBY', states[counter.customer].u .. counter.period.id, counter.meter, int(counter.moved))
  end
end

-- Short entries keep what a drain reads at once within bounds.
local ENTRY = 50
local fields = {}
for number, event in ipairs(fresh) do
  local i, counter, place = event.at, event.counter, #fields / 2
  if counter.kind == 'u' then
    fields[#fields + 1] = place .. '|' .. counter.period.id .. '|' .. ARGV[i + 6] .. '|' .. event.flags
  else
    count(states[counter.customer], ARGV[i + 5], counter.kind, '', counter.meter, event.effect, tonumber(ARGV[i + 7]))
    fields[#fields + 1] = decision(place + 1, '', event.effect, event.flags)
  end
  fields[#fields + 1] = ARGV[i + 8]
  call('SET', identities[(i - FIRST) / WIDTH + 1], ARGV[i + 1], 'PX', identity_ttl)
  if place + 1 == ENTRY or number == #fresh then
    append(fields)
    fields = {}
  end
end
return { 'ok', #fresh }
