-- For wrk: every request is another event. WRK_CLOSE=1 asks for the connection to be closed, WRK_TOKEN is
-- sent as a bearer token.
local thread_number = 0
local number = 0
local headers = {}
if os.getenv("WRK_CLOSE") then headers["Connection"] = "close" end
if os.getenv("WRK_TOKEN") then headers["Authorization"] = "Bearer " .. os.getenv("WRK_TOKEN") end

function setup(thread)
  thread:set("id", thread_number)
  thread_number = thread_number + 1
end

function request()
  number = number + 1
  return wrk.format("POST", "/event?type=deploy&version=" .. number .. "&run=" .. os.getenv("WRK_RUN") .. id, headers)
end

function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
