-- Give claims back, those that still stand. ARGV: claim, number of levels, for each level: customer, meter; then digests.
local claim, FIRST = ARGV[1], 3 + 2 * tonumber(ARGV[2])
volatile()
local function drop(name, value) if call('GET', name) == value then call('DEL', name) end end
for i = 3, FIRST - 1, 2 do drop(claim_of(ARGV[i], ARGV[i + 1]), claim) end
for i = FIRST, #ARGV do drop(P .. 'd:' .. ARGV[i], '?' .. claim) end
return 1
