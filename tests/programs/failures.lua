-- Has wrk wait so many milliseconds before each request, and print, when it ends, what failed:
-- `failures {"connect":0,…}`.

function init(arguments)
  pause = tonumber(arguments[1])
end

function delay()
  return pause
end

function done(summary, _, _)
  local errors = summary.errors
  io.write(string.format(
    'failures {"requests":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
