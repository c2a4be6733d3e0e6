-- Hold the quota that a claimed request of one customer will use, in whatever periods: all limits, or none.
-- ARGV: now, lease, claim, customer, then for each counter: field, units.
-- Answers {"ok"} or {"limit", which counter (0-based), mode, limit, used, held, start and end of its period} or {code, …}.

local now, lease, claim, customer = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]

if not generation then return { 'outage' } end
local state = customer_state(customer)
if not state then return { 'unknown_customer', customer } end

volatile()
expire_holds(customer, now)
drop_hold(customer, claim)  -- where this is a repetition
local wanted = {}
for i = 5, #ARGV, 2 do
  local field, units = ARGV[i], tonumber(ARGV[i + 1])
  local period_id, meter = string.match(field, '^([^:]+):(.+)$')
  local kind = period_id == 'L' and 'l' or 'u'
  local which = limits_for(state, kind, period_id, now)
  local mode, limit = 'none', ''
  if which then mode, limit = limit_of(state, which, meter) end
  local used, held = used_of(state, kind, period_id, meter), held_of(customer, field)
  if mode == 'hard' and used + held + units > tonumber(limit) then
    local span = kind == 'u' and state.coming and state.coming.id == period_id and state.coming or in_force(state, now)
    return { 'limit', (i - 5) / 2, mode, limit, int(used), int(held), int(span.starts), int(span.ends) }
  end
  wanted[field] = units
end
keep_hold(customer, claim, '', wanted, now + lease)
return { 'ok' }
