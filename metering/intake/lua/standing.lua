-- Where a customer stands now. ARGV: now, customer, then for each meter: meter, kind.
-- Answers {"ok", plan, status, period id, start, end, version, then for each meter: mode, limit, used, held} or {code}.
local now, customer = tonumber(ARGV[1]), ARGV[2]
if not generation then return { 'outage' } end
local state = customer_state(customer)
if not state then return { 'unknown_customer', customer } end
local current, which = in_force(state, now)
if not current then return { 'stale', customer } end
volatile()
expire_holds(customer, now)
local shown = {}
for i = 3, #ARGV, 2 do
  local meter, kind = ARGV[i], ARGV[i + 1]
  local mode, limit = limit_of(state, which, meter)
  shown[#shown + 1] = mode or 'none'
  shown[#shown + 1] = limit or ''
  shown[#shown + 1] = int(used_of(state, kind, current.id, meter))
  shown[#shown + 1] = int(held_of(customer, held_field(kind, current.id, meter)))
end
local plan = call('HGET', state.key, which .. 'plan')
return { 'ok', plan, state.status, current.id, int(current.starts), int(current.ends), unpack(shown) }
