/* server/adoption.c - see adoption.h. */
#include "server/adoption.h"
#include "base/alloc.h"
#include "server/layout.h"
#include "server/listeners.h"

#include <sys/socket.h>

void pl__adoption_init(struct pl_adoption *a, struct pl_listeners *listeners,
                       const struct pl_beat *beats, uint32_t worker,
                       struct pl_net *net, uv_loop_t *loop) {
  *a = (struct pl_adoption){.listeners = listeners,
                            .beats = beats,
                            .net = net,
                            .loop = loop,
                            .worker = worker};
}

static bool is_marked(const struct pl_adoption *a, uint32_t worker) {
  return worker != a->worker &&
         atomic_load_explicit(&a->beats[worker].is_adopted,
                              memory_order_relaxed);
}

/* The listeners for the sockets of a worker; NULL: no memory, another time. */
static struct pl_listener *room_for(struct pl_adoption *a, uint32_t worker) {
  uint32_t count = a->listeners->address_count;

  if (!a->adopted)
    a->adopted =
        pl__alloc_zero(a->listeners->worker_count * sizeof(*a->adopted));
  if (a->adopted && !a->adopted[worker])
    a->adopted[worker] = pl__alloc_zero(count * sizeof(**a->adopted));
  return a->adopted ? a->adopted[worker] : NULL;
}

static void adopt(struct pl_adoption *a, uint32_t worker) {
  const int *fds = pl__listeners_of(a->listeners, worker);
  struct pl_listener *list = room_for(a, worker);

  for (uint32_t i = 0; list && i < a->listeners->address_count; i++)
    if (!list[i].open && fds[i] >= 0 &&
        !pl__listeners_is_shared(a->listeners, i))
      pl__listener_open(&list[i], a->net, a->loop, fds[i], (uint8_t)i);
}

static void let_go(struct pl_adoption *a, uint32_t worker, bool shut) {
  struct pl_listener *list = a->adopted ? a->adopted[worker] : NULL;

  for (uint32_t i = 0; list && i < a->listeners->address_count; i++) {
    if (!list[i].open)
      continue;
    pl__listener_close(&list[i]);
    if (shut)
      shutdown(list[i].fd, SHUT_RDWR);
  }
}

void pl__adoption_look(struct pl_adoption *a) {
  for (uint32_t i = 0; a->listeners && i < a->listeners->worker_count; i++)
    if (is_marked(a, i))
      adopt(a, i);
    else
      let_go(a, i, false);
}

void pl__adoption_resume(struct pl_adoption *a) {
  for (uint32_t i = 0; a->adopted && i < a->listeners->worker_count; i++)
    for (uint32_t j = 0; a->adopted[i] && j < a->listeners->address_count; j++)
      if (!a->adopted[i][j].watching)
        pl__listener_resume(&a->adopted[i][j]);
}

void pl__adoption_stop(struct pl_adoption *a, bool shut) {
  for (uint32_t i = 0; a->listeners && i < a->listeners->worker_count; i++)
    let_go(a, i, shut);
}

void pl__adoption_deinit(struct pl_adoption *a) {
  for (uint32_t i = 0; a->adopted && i < a->listeners->worker_count; i++)
    pl__free(a->adopted[i]);
  pl__free(a->adopted);
  a->adopted = NULL;
}
