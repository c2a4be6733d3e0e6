-- Keep a running call's reservation. ARGV: new expiry, lease, rid, customer, idempotency digest. Answers 1, or 0 when
-- it has expired already: its quota may be somebody else's by now.
local expiry, lease, rid, customer, idem = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
volatile()
local until_now = call('ZSCORE', P .. 'z:' .. customer, rid)
if not until_now or tonumber(until_now) <= tonumber(expiry) - lease then return 0 end
call('ZADD', P .. 'z:' .. customer, expiry, rid)
if idem ~= '' then
  local idem_key = P .. 'i:' .. customer .. ':' .. idem
  if call('HGET', idem_key, 'r') == rid then
    call('HSET', idem_key, 'x', expiry)
    call('PEXPIRE', idem_key, remembered(lease))
  end
end
return 1
