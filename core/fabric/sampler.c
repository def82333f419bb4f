/* fabric/sampler.c - see sampler.h. */
#include "fabric/sampler.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"

#define PROBES 8u /* places that a site may be in */

void pl__sampler_init(struct pl_sampler *s, uint64_t seed) {
  *s = (struct pl_sampler){.seed = {{seed, ~seed}}};
}

void pl__sampler_deinit(struct pl_sampler *s) {
  pl__free(s->sites);
  s->sites = NULL;
}

int pl__sampler_set(struct pl_sampler *s, uint64_t first, uint64_t then) {
  s->first = 0;
  s->then = then;
  if (first && !s->sites)
    s->sites = pl__alloc_zero(PL_SAMPLER_SITES * sizeof *s->sites);
  if (first && !s->sites)
    return PL_ENOMEM;
  s->first = first;
  return 0;
}

static void begin_site(struct pl_sampler_site *site, uint64_t hash,
                       enum pl_level level, struct pl_slice message) {
  uint32_t bytes = pl__record_cut(message, sizeof site->text);

  *site = (struct pl_sampler_site){
      .hash = hash, .level = (uint8_t)level, .bytes = (uint8_t)bytes};
  if (bytes)
    memcpy(site->text, message.at, bytes);
}

/* The site of that hash, or the place for it; NULL: there is none.  A place
 * can be taken when its site was not met in this second and owes nothing. */
static struct pl_sampler_site *find(struct pl_sampler *s, uint64_t hash,
                                    int64_t second, bool *is_new) {
  struct pl_sampler_site *place = NULL;

  for (uint32_t i = 0; i < PROBES; i++) {
    struct pl_sampler_site *site = &s->sites[(hash + i) % PL_SAMPLER_SITES];
    *is_new = site->hash != hash;
    if (!*is_new)
      return site;
    if (!place && (!site->hash || (site->second != second && !site->away)))
      place = site;
  }
  return place;
}

bool pl__sampler_admit(struct pl_sampler *s, enum pl_level level,
                       struct pl_slice message, int64_t now_ns) {
  int64_t second = now_ns / PL_NS_PER_S;
  struct pl_sampler_site *site;
  uint64_t hash;
  bool is_new;

  if (!s->first || level == PL_LEVEL_ERROR)
    return true;
  hash = pl__siphash(&s->seed, message.at, message.bytes, 1, 3) + level;
  hash += hash == 0;
  site = find(s, hash, second, &is_new);
  if (!site)
    return true;
  if (is_new)
    begin_site(site, hash, level, message);
  if (site->second != second) {
    site->second = second;
    site->count = 0;
  }
  if (++site->count <= s->first ||
      (s->then && (site->count - s->first) % s->then == 0))
    return true;
  site->away++;
  s->away++;
  return false;
}

/* Whether the record is in the ring.  One that finds no room is no drop: it is
 * told another time. */
static bool tell_site(const struct pl_sampler_site *site,
                      struct pl_ring_writer *w, const struct pl_record *head) {
  _Alignas(8) char memory[512];
  struct pl_record own = *head;
  struct pl_record_draft draft;

  own.level = site->level;
  pl__record_begin(&draft, memory, sizeof memory, &own,
                   PL_SLICE("log records sampled away"));
  pl__record_str(&draft, PL_SLICE("of"), pl__slice(site->text, site->bytes));
  pl__record_num(&draft, PL_SLICE("count"), (double)site->away);
  return pl__record_try_end(&draft, w) == 0;
}

void pl__sampler_tell(struct pl_sampler *s, struct pl_ring_writer *w,
                      const struct pl_record *head, int64_t now_ns, bool now) {
  int64_t second = now_ns / PL_NS_PER_S;

  if (!s->away || (s->told == second && !now))
    return;
  s->told = second;
  for (uint32_t i = 0; i < PL_SAMPLER_SITES; i++) {
    struct pl_sampler_site *site = &s->sites[i];
    if (site->away && tell_site(site, w, head)) {
      s->away -= site->away;
      site->away = 0;
    }
  }
}
