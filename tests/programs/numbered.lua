-- wrk script: COUNT requests, each with a path of its own; then prints `finished`, with none left
-- unanswered, and waits for SIGINT, since wrk always takes the time it is given.
--
--     wrk -t1 … -s numbered.lua URL -- COUNT DELAY
--
-- DELAY milliseconds lie between a response and the next request on its connection. The output
-- ends with `made REQUESTS`, `wrong RESPONSES` and `seconds TIME` in three lines.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  count, pause = tonumber(arguments[1]), tonumber(arguments[2])
  -- wrk asks for one request more, to look at it, and does not send it.
  made, answered, wrong = -1, 0, 0
end

function delay()
  -- Longer than any run: this connection is done.
  return made < count and pause or 1000000
end

function request()
  made = made + 1
  return wrk.format("GET", "/r/" .. made)
end

function response(status)
  answered = answered + 1
  if status ~= 200 then wrong = wrong + 1 end
  if made >= count and answered == made then
    io.write("finished\n")
    io.flush()
  end
end

function done()
  for _, thread in ipairs(threads) do
    print("made " .. thread:get("made"))
    print("wrong " .. thread:get("wrong"))
  end
end
