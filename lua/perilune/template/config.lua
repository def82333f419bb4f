--- Configuration of @NAME@: every key with its default is shown by `perilune config`. Flags and
-- PERILUNE_* variables come before what stands here.
return {
  -- listen = "127.0.0.1:8080",
  -- workers = "auto",
  -- timeouts = { handler = "30s", drain = "30s" },
  -- log = { level = "info" },

  -- The app's own settings, read as P.settings.name.
  settings = {},
}
