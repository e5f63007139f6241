-- What wrk sends, from its arguments (method, bytes of body, requests in a batch, "close" or "keep"), and one line of
-- figures for the caller to read. The request is made once: wrk calls no Lua while it measures.

function init(args)
   local size, depth = tonumber(args[2]), tonumber(args[3])
   wrk.method = args[1]
   if size > 0 then wrk.body = string.rep("0123456789abcdef", size / 16) end
   if args[4] == "close" then wrk.headers["Connection"] = "close" end
   if depth > 1 then
      local batch = string.rep(wrk.format(), depth)
      wrk.format = function() return batch end
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
      e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
