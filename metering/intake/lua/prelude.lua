-- Shared by all scripts of the intake. KEYS[1] is the partition's prefix, "m:{7}:": every key starts with it, so all of
-- them lie in one slot.
--
--   gen                 generation of the counters; missing: nothing here may be believed (answer: "outage")
--   seq, stream         last sequence number, and the usage stream with entries <gen>-<seq>
--   fixed               id of the last correction that was applied
--   c:<customer>        what must be known of a customer: version, status, periods, limits
--   k:<digest>          what must be known of an API key
--   u:<customer>:<id>   used units by meter in the period with that id
--   l:<customer>        level by meter; "<meter>@" the time of its last set, "<meter>~" of its last change
--   h:, r:, z:<customer>  held units, reservations, and their leases by expiry
--   t:<customer>, t:<customer>:<key id>  theoretical arrival time of the next call, for the rates of each
--   d:<digest>          payload digest of an identity, for the remembered window; "?<claim>" while a request of several
--                       scripts is about to record it
--   w:<customer> <meter>  the claim of such a request to a level
--   i:<customer>:<d>    Idempotency-Key: fingerprint, running reservation, stored answer
--   seen                time of last use by API key id
--
-- Reservations and claims are kept out of the append-only file (`volatile`): a call then costs one fsync, at its
-- settlement, and a Redis that was killed has merely forgotten what was held, as if the leases had run out.
-- Numbers travel as the strings that came; sums stay below 2^53, where a double is exact.

if redis.replicate_commands then redis.replicate_commands() end

local call = redis.call
local P = KEYS[1]
local EXACT = 9007199254740991

local function volatile() redis.set_repl(redis.REPL_NONE) end
local function durable() redis.set_repl(redis.REPL_ALL) end

local function int(number) return string.format('%.0f', number) end
local function num(text) return tonumber(text or '0') or 0 end

-- Whether a key that works until `ends` ('' or nothing: for good) has stopped to.
local function expired(ends, now) return ends and ends ~= '' and now >= tonumber(ends) end

local function period(text)
  if not text then return nil end
  local id, starts, ends = string.match(text, '^(%d+)|(%d+)|(%d+)$')
  return { id = id, starts = tonumber(starts), ends = tonumber(ends) }
end

-- The state of a customer, or nil. `limits` looks up the current period's ("0:") or the next one's ("1:").
local function customer_state(customer)
  local fields = call('HMGET', P .. 'c:' .. customer, 'v', 's', 'p0', 'p1', 'pp')
  if not fields[1] then return nil end
  return { status = fields[2], now = period(fields[3]), coming = period(fields[4]), past = period(fields[5]),
           key = P .. 'c:' .. customer, u = P .. 'u:' .. customer .. ':', l = P .. 'l:' .. customer }
end

local function within(span, time) return span and time >= span.starts and time < span.ends end

-- The period in force at `time` and the prefix of its limits; nil when the stored state is too old to tell.
local function in_force(state, time)
  if within(state.now, time) then return state.now, '0:' end
  if within(state.coming, time) then return state.coming, '1:' end
  return nil
end

-- The period an event of `time` counts in, admitted `now`: its own while that is open, else the one in force.
local function counted_in(state, time, now)
  local own = in_force(state, time)
  if own then return own end
  if within(state.past, time) then return state.past end
  return (in_force(state, now))
end

-- The prefix of the limits that hold usage of the period with that id, or a level now; nil where none does any more.
local function limits_for(state, kind, period_id, now)
  local current, which = in_force(state, now)
  if not current then return nil end
  if kind == 'l' or period_id == current.id then return which end
  return state.coming and period_id == state.coming.id and '1:' or nil
end

-- A limit as it is stored: its mode and value. A meter that stands nowhere has none.
local function mode_and_value(text)
  if not text then return 'none', '' end
  return string.match(text, '^(%a+)|(%d+)$')
end

local function limit_of(state, which, meter) return mode_and_value(call('HGET', state.key, which .. meter)) end

local function used_of(state, kind, period_id, meter)
  return num(call('HGET', kind == 'l' and state.l or state.u .. period_id, meter))
end

local function held_field(kind, period_id, meter)
  return kind == 'l' and ('L:' .. meter) or (period_id .. ':' .. meter)
end

local function held_of(customer, field) return num(call('HGET', P .. 'h:' .. customer, field)) end

-- A reservation, or nil. It is stored as "period|field=units|field=units…".
local function reservation_of(customer, rid)
  local text = call('HGET', P .. 'r:' .. customer, rid)
  if not text then return nil end
  local held = {}
  for field, units in string.gmatch(text, '|([^|=]+)=(%d+)') do held[field] = tonumber(units) end
  return { period = string.match(text, '^[^|]*'), held = held, left = {} }
end

-- Hold units by field until `expiry`; for each field what is held now, of all reservations.
local function keep_hold(customer, rid, period_id, units_by_field, expiry)
  local parts, held = { period_id }, {}
  for field, units in pairs(units_by_field) do
    held[field] = call('HINCRBY', P .. 'h:' .. customer, field, int(units))
    parts[#parts + 1] = field .. '=' .. int(units)
  end
  call('HSET', P .. 'r:' .. customer, rid, table.concat(parts, '|'))
  call('ZADD', P .. 'z:' .. customer, int(expiry), rid)
  return held
end

-- Of the reservation that is answered, `held` is what it held, `left` what others still hold.
local function drop_hold(customer, rid)
  local found = reservation_of(customer, rid)
  if not found then return nil end
  for field, units in pairs(found.held) do
    found.left[field] = call('HINCRBY', P .. 'h:' .. customer, field, '-' .. int(units))
    if found.left[field] == 0 then call('HDEL', P .. 'h:' .. customer, field) end
  end
  call('HDEL', P .. 'r:' .. customer, rid)
  call('ZREM', P .. 'z:' .. customer, rid)
  return found
end

-- Quota whose process died comes free here, at the next call: no job is needed.
local function expire_holds(customer, now)
  local due = call('ZRANGEBYSCORE', P .. 'z:' .. customer, '-inf', now, 'LIMIT', 0, 1000)
  for _, rid in ipairs(due) do drop_hold(customer, rid) end
end

local function claim_of(customer, meter) return P .. 'w:' .. customer .. ' ' .. meter end

-- The effect that `op` has on the live counter. For a level a set that comes late cannot be told here: the drain,
-- which has the history, corrects the counter.
local function effect_of(state, op, kind, meter, units, time)
  if kind == 'x' then return 0 end
  if kind == 'u' then return units end
  local set_at = num(call('HGET', state.l, meter .. '@'))
  if op == 'change' then return time < set_at and 0 or units end
  local changed_at = num(call('HGET', state.l, meter .. '~'))
  if time < set_at or time < changed_at then return 0 end
  return units - num(call('HGET', state.l, meter))
end

-- Count an effect; the live counter after it.
local function count(state, op, kind, period_id, meter, effect, time)
  if kind == 'u' then return call('HINCRBY', state.u .. period_id, meter, int(effect)) end
  if kind == 'x' then return 0 end
  local mark = meter .. (op == 'set' and '@' or '~')
  if time > num(call('HGET', state.l, mark)) then call('HSET', state.l, mark, int(time)) end
  return call('HINCRBY', state.l, meter, int(effect))
end

-- Rates, by GCRA. A rate is "count|seconds|burst|interval", with the interval between calls in µs. All that is kept of
-- the calls so far is their theoretical arrival time: when they would have come at the rate's own pace. A call may come
-- while that lies less than a whole burst ahead.
local CLOCKS_DIFFER = 60000000

local function arrival_at(key, rate, now)
  local burst, interval = string.match(rate, '(%d+)|(%d+)$')
  interval = tonumber(interval)
  local latest = now + (burst - 1) * interval
  local arrival = math.max(now, num(call('GET', key)))
  -- This rate never came so far: a slower one before it did, or a clock that ran away. That must lock nobody out.
  if arrival > latest + interval + CLOCKS_DIFFER then arrival = latest end
  return { key = key, rate = rate, arrival = arrival, interval = interval, open = arrival <= latest }
end

-- The rates of a customer and of one of its keys, each nil where there is none.
local function rates_of(customer, key_id, customer_rate, key_rate, now)
  return customer_rate and arrival_at(P .. 't:' .. customer, customer_rate, now),
         key_id ~= '' and key_rate and arrival_at(P .. 't:' .. customer .. ':' .. key_id, key_rate, now)
end

-- Let one call pass. The figure outlives its use a little: a clock that lags behind must not find it gone.
local function pass(at, now)
  if not at then return end
  at.arrival = at.arrival + at.interval
  call('SET', at.key, int(at.arrival), 'PX', int(math.ceil((at.arrival - now + CLOCKS_DIFFER) / 1000)))
end

local function shown_rate(at) return at and (at.rate .. '|' .. int(at.arrival)) or '' end

-- How long a running call's Idempotency-Key stays, in ms: a little longer than its lease, which is what counts.
local function remembered(lease) return int(math.ceil(lease / 1000) + 1000) end

-- The generation, or false: then nothing here may be believed.
local generation = call('GET', P .. 'gen')

-- Append one entry to the stream. `fields` alternate decision and message.
local function append(fields)
  local entry = generation .. '-' .. int(call('INCR', P .. 'seq'))
  call('XADD', P .. 'stream', entry, unpack(fields))
  return entry
end

local function decision(item, period_id, effect, flags)
  return (item - 1) .. '|' .. period_id .. '|' .. int(effect) .. '|' .. flags
end
