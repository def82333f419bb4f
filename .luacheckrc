std = "luajit"
max_line_length = 100
codes = true
ignore = { "581" } -- `not (x >= low)` is meant so: it catches NaN

files["**/*_spec.lua"].std = "+busted"
files["spec/support"].std = "+busted"
files["bench/peers/nginx"].std = "+ngx_lua"
files["rockspec"].std = "rockspec"
-- A wait inside a coroutine of the app passes through to the runner.
files["lua/perilune/wait.lua"].globals = { "coroutine" }
