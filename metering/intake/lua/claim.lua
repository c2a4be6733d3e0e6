-- Claim what a request of several scripts will record: its identities and the levels it changes. Until it has, nobody else
-- may record these, so that nothing can refuse one part of it after another was recorded.
-- ARGV: claim, how long it lasts (ms), number of levels, for each level: customer, meter; then for each event: digest,
--       payload digest.
-- Answers {"ok"}, {"busy"} where another request has claimed some of it, {"conflict", item (0-based)…} or {code}. Claimed
-- is all or nothing. May be repeated.

local claim, ttl, FIRST = ARGV[1], ARGV[2], 4 + 2 * tonumber(ARGV[3])
local mine = '?' .. claim

if not generation then return { 'outage' } end

local names, busy, conflicts, wanted = {}, false, {}, {}
for i = FIRST, #ARGV, 2 do names[#names + 1] = P .. 'd:' .. ARGV[i] end
for place, known in ipairs(#names > 0 and call('MGET', unpack(names)) or {}) do
  if not known or known == mine then
    wanted[#wanted + 1] = names[place]
  elseif string.sub(known, 1, 1) == '?' then
    busy = true
  elseif known ~= ARGV[FIRST + 2 * place - 1] then
    conflicts[#conflicts + 1] = place - 1
  end
end
for i = 4, FIRST - 1, 2 do
  local by = call('GET', claim_of(ARGV[i], ARGV[i + 1]))
  busy = busy or by and by ~= claim
end
if #conflicts > 0 then return { 'conflict', unpack(conflicts) } end
if busy then return { 'busy' } end

volatile()
for _, name in ipairs(wanted) do call('SET', name, mine, 'PX', ttl) end
for i = 4, FIRST - 1, 2 do call('SET', claim_of(ARGV[i], ARGV[i + 1]), claim, 'PX', ttl) end
return { 'ok' }
