-- Give a reservation back: the call failed, so it consumes nothing. ARGV: rid, customer, idempotency digest.
local rid, customer, idem = ARGV[1], ARGV[2], ARGV[3]
volatile()
local released = drop_hold(customer, rid) and 1 or 0
if idem ~= '' then
  local idem_key = P .. 'i:' .. customer .. ':' .. idem
  local known = call('HMGET', idem_key, 'r', 'a')
  if known[1] == rid and not known[2] then call('DEL', idem_key) end
end
return released
