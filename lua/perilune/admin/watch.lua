--- What control runs where the admin plane has no socket: health checks and rules, without
--- anything that could be asked for.

local P = require("perilune")

P.detach("health", require("perilune.health").start)
P.detach("actions", require("perilune.admin.actions").start)

return P.app { title = "Perilune's watch", version = P.version }
