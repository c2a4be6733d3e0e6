-- Bring live counters to what PostgreSQL says. ARGV: a claim ('' = none), then for each correction, in order: id, customer,
-- period ('' = a level), meter, units. Each is applied once: `fixed`, which is answered, remembers the last. A level that
-- somebody else has claimed must wait.
local claim, fixed = ARGV[1], num(call('GET', P .. 'fixed'))
for i = 2, #ARGV, 5 do
  local id, customer, period_id, meter, units = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if id > fixed then
    if period_id == '' and (call('GET', claim_of(customer, meter)) or claim) ~= claim then break end
    local key = period_id == '' and (P .. 'l:' .. customer) or (P .. 'u:' .. customer .. ':' .. period_id)
    call('HINCRBY', key, meter, units)
    fixed = id
  end
end
call('SET', P .. 'fixed', int(fixed))
return int(fixed)
