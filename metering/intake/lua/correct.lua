-- Bring live counters to what PostgreSQL says. ARGV: for each correction, in order: id, customer, period ('' = a level),
-- meter, units. Each is applied once: `fixed`, which is answered, remembers the last. A level that is claimed must wait.
local fixed = num(call('GET', P .. 'fixed'))
for i = 1, #ARGV, 5 do
  local id, customer, period_id, meter, units = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if id > fixed then
    if period_id == '' and call('EXISTS', claim_of(customer, meter)) == 1 then break end
    local key = period_id == '' and (P .. 'l:' .. customer) or (P .. 'u:' .. customer .. ':' .. period_id)
    call('HINCRBY', key, meter, units)
    fixed = id
  end
end
call('SET', P .. 'fixed', int(fixed))
return int(fixed)
