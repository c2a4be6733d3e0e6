-- Who carries this key? ARGV: now, key digest. Answers {"ok", customer, key id, scopes}, or {code}.
if not generation then return { 'outage' } end
local key = call('HMGET', P .. 'k:' .. ARGV[2], 'c', 'i', 's', 'x', 'e')
if not key[2] or key[4] == '1' or expired(key[5], tonumber(ARGV[1])) then return { 'unknown_key' } end
volatile()
call('HSET', P .. 'seen', key[2], ARGV[1])
return { 'ok', key[1], key[2], key[3] }
