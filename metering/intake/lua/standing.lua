-- Where a customer stands now. ARGV: now, customer, key id ('' = none), then for each meter: meter, kind.
-- Answers {"ok", plan, status, period id, start, end, rate of the customer, rate of the key (see reserve), then for each
-- meter: mode, limit, used, held} or {code}.
local now, customer, key_id = tonumber(ARGV[1]), ARGV[2], ARGV[3]
if not generation then return { 'outage' } end
local state = customer_state(customer)
if not state then return { 'unknown_customer', customer } end
local current, which = in_force(state, now)
if not current then return { 'stale', customer } end
volatile()
expire_holds(customer, now)
local shown = {}
for i = 4, #ARGV, 2 do
  local meter, kind = ARGV[i], ARGV[i + 1]
  local mode, limit = limit_of(state, which, meter)
  shown[#shown + 1] = mode
  shown[#shown + 1] = limit
  shown[#shown + 1] = int(used_of(state, kind, current.id, meter))
  shown[#shown + 1] = int(held_of(customer, held_field(kind, current.id, meter)))
end
local terms = call('HMGET', state.key, which .. '@plan', which .. '@customer', which .. '@key')
local for_customer, for_key = rates_of(customer, key_id, terms[2], terms[3], now)
return { 'ok', terms[1], state.status, current.id, int(current.starts), int(current.ends),
         shown_rate(for_customer), shown_rate(for_key), unpack(shown) }
