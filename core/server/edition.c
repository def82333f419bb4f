/* server/edition.c - the configuration as two blobs, and a mark. */
#include "server/edition.h"

#include "base/alloc.h"
#include "base/err.h"
#include "fabric/bundle.h"
#include "server/config.h"

/* No path: nothing that Lua can ask for. */
#define CONFIG_KEY PL_SLICE("\1config")
#define SETTINGS_KEY PL_SLICE("\1settings")
#define WATCHED_KEY PL_SLICE("\1watched")

int pl__edition_write(struct pl_bundle *b, const struct pl_config *config) {
  struct pl_slice settings =
      pl__slice(config->settings_json, config->settings_bytes);
  int status = pl__bundle_add(b, CONFIG_KEY,
                              pl__slice((const char *)config, sizeof *config));

  status = status ? status : pl__bundle_add(b, SETTINGS_KEY, settings);
  if (!status)
    pl__bundle_hash(b, SETTINGS_KEY, settings);
  return status;
}

int pl__edition_mark_watched(struct pl_bundle *b) {
  return pl__bundle_add(b, WATCHED_KEY, PL_SLICE("+"));
}

bool pl__edition_is_watched(const struct pl_bundle *b) {
  struct pl_slice mark;

  return pl__bundle_find(b, WATCHED_KEY, &mark);
}

static char *copy_text(struct pl_slice s) {
  char *copy = pl__alloc((size_t)s.bytes + 1);

  if (!copy)
    return NULL;
  if (s.bytes)
    memcpy(copy, s.at, s.bytes);
  copy[s.bytes] = '\0';
  return copy;
}

int pl__edition_read(const struct pl_bundle *b, uint32_t generation,
                     struct pl_config *out) {
  struct pl_slice config, settings;

  if (!pl__bundle_is(b, generation) ||
      !pl__bundle_find(b, CONFIG_KEY, &config) ||
      !pl__bundle_find(b, SETTINGS_KEY, &settings) ||
      config.bytes != sizeof *out)
    return PL_EGONE;
  memcpy(out, config.at, sizeof *out);
  out->settings_json = copy_text(settings);
  out->settings_bytes = settings.bytes;
  if (!out->settings_json)
    return PL_ENOMEM;
  if (pl__bundle_is(b, generation))
    return 0;
  pl__config_deinit(out);
  return PL_EGONE;
}
