-- One token of a bucket that all workers share, or how long it is empty (generic cell rate algorithm).
-- KEYS: 1 when the bucket is full again, in milliseconds of Redis' own clock. 2 a pause for all: it exists while it lasts.
-- ARGV: 1 milliseconds a token, 2 how many tokens the bucket holds.
-- Answers 0 and takes a token, or the milliseconds until there is one and takes none.
local paused = redis.call('PTTL', KEYS[2])
if paused > 0 then
    return tostring(paused)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = full_at + interval - size * interval - now
if wait > 0 then
    return tostring(math.ceil(wait))
end
redis.call('SET', KEYS[1], string.format('%.3f', full_at + interval), 'PX', math.ceil(size * interval) + 1000)
return '0'
