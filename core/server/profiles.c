/* server/profiles.c - see profiles.h. */
#include "server/profiles.h"

#include <string.h>

#include "base/err.h"
#include "log/flame.h"
#include "log/pprof_read.h"
#include "server/admin.h"
#include "server/profile.h"

#define TABLE_LINES_MAX 40u

/* How a topic is asked. */
enum manner {
  BY_QUERY,  /* it takes the query, and knows all forms */
  BY_NAME,   /* it takes the profile's name, and makes it for pprof */
  BY_DETAIL, /* "0": for pprof, "1": as text */
};

static const struct {
  const char *name;
  const char *topic;
  enum manner manner;
} known[] = {
    {"profile", "profile", BY_QUERY},
    {"shares", "shares", BY_QUERY},
    {"heap", "heap", BY_NAME},
    {"allocs", "heap", BY_NAME},
    {"coroutine", "coroutine", BY_DETAIL},
    {"goroutine", "coroutine", BY_DETAIL},
    {"coroutineleak", "coroutineleak", BY_DETAIL},
    {"block", "block", BY_DETAIL},
};

const char *pl__profiles_type(struct pl_slice query) {
  switch (pl__profile_form(query)) {
  case PL_PROFILE_PPROF:
    return "application/octet-stream";
  case PL_PROFILE_SVG:
    return "image/svg+xml";
  default:
    return "text/plain; charset=utf-8";
  }
}

/* In which unit people read such values. */
static struct pl_flame_unit unit_of(const struct pl_pprof_read *r) {
  struct pl_flame_unit unit = {.what = r->type, .symbol = "", .divisor = 1};

  if (strcmp(r->unit, "bytes") == 0) {
    unit.symbol = "KiB";
    unit.divisor = 1024;
  } else if (strcmp(r->unit, "nanoseconds") == 0) {
    unit.symbol = "ms";
    unit.divisor = 1e6;
  }
  return unit;
}

static int render(const struct pl_flame *flame, const struct pl_pprof_read *r,
                  enum pl_profile_form form, struct pl_buf *out) {
  struct pl_flame_unit unit = unit_of(r);

  if (form == PL_PROFILE_FOLDED)
    return pl__flame_folded(flame, out);
  if (form == PL_PROFILE_SVG)
    return pl__flame_svg(flame, &unit, r->type, out);
  return pl__flame_text(flame, &unit, TABLE_LINES_MAX, out);
}

/* What is made for pprof, in the form that was asked for. */
static int convert(const struct pl_fabric *f, struct pl_slice topic,
                   struct pl_slice argument, enum pl_profile_form form,
                   struct pl_buf *out) {
  struct pl_pprof_read read;
  struct pl_flame flame;
  struct pl_buf file;
  int failed;

  pl__buf_init(&file, NULL, PL_PROFILE_BYTES_MAX);
  failed = pl__admin_answer(f, topic, argument, &file);
  if (failed)
    goto fail_file;
  failed = pl__flame_open(&flame);
  if (failed)
    goto fail_file;
  failed = pl__pprof_read(pl__slice(file.at, file.bytes), &flame, &read);
  failed = failed ? failed : render(&flame, &read, form, out);
  pl__flame_close(&flame);
fail_file:
  pl__buf_release(&file);
  return failed;
}

static int answer(const struct pl_fabric *f, size_t which,
                  struct pl_slice query, struct pl_buf *out) {
  enum pl_profile_form form = pl__profile_form(query);
  struct pl_slice topic = pl__slice_text(known[which].topic);
  struct pl_slice name = pl__slice_text(known[which].name);

  if (form == PL_PROFILE_FORMS)
    return PL_EBAD;
  if (known[which].manner == BY_QUERY)
    return pl__admin_answer(f, topic, query, out);
  if (known[which].manner == BY_DETAIL && form == PL_PROFILE_TEXT)
    return pl__admin_answer(f, topic, PL_SLICE("1"), out);
  if (known[which].manner == BY_DETAIL)
    name = PL_SLICE("0");
  return form == PL_PROFILE_PPROF ? pl__admin_answer(f, topic, name, out)
                                  : convert(f, topic, name, form, out);
}

int pl__profiles_answer(const struct pl_fabric *f, struct pl_slice name,
                        struct pl_slice query, struct pl_buf *out) {
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (pl__slice_equal(name, pl__slice_text(known[i].name)))
      return answer(f, i, query, out);
  return PL_EINVAL;
}
