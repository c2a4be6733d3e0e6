-- Take a newer state of a customer or a key. ARGV: name below the prefix ("c:…" or "k:…"), version, then fields and
-- values. Answers 1 when it was newer and taken, 0 when what is here is as new.
local PAST_COUNTERS_MS = '7776000000'  -- 90 days

local name, version = ARGV[1], tonumber(ARGV[2])
if num(call('HGET', P .. name, 'v')) >= version then return 0 end
call('DEL', P .. name)
call('HSET', P .. name, 'v', ARGV[2], unpack(ARGV, 3))
local past = period(call('HGET', P .. name, 'pp'))
if past then  -- its counters are read no longer than late events are taken
  call('PEXPIRE', P .. 'u:' .. string.sub(name, 3) .. ':' .. past.id, PAST_COUNTERS_MS)
end
return 1
