-- Let admission in again after a rebuild. ARGV: generation. Answers 1, or 0 when another rebuild has begun since: then
-- it is that one's to open. Entries of older generations are all stored.
if generation or call('GET', P .. 'opening') ~= ARGV[1] then return 0 end
call('XTRIM', P .. 'stream', 'MINID', ARGV[1] .. '-0')
call('DEL', P .. 'opening')
call('SET', P .. 'gen', ARGV[1])
return 1
