/* server/founding.c - what a master has before it serves, and gives back at its
 * end: lock, sockets, shared memory, wires to its children; and the rights that
 * it gives up in between.
 */
#define _GNU_SOURCE /* pipe2 */
#include "server/realm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/err.h"
#include "perilune.h"
#include "server/error.h"
#include "server/layout.h"
#include "server/privileges.h"

#define ADMIN_PORTS 10 /* in development: how many more are tried */

static int inheritance_take(struct master *m) {
  char text[PL_INHERIT_ERROR_BYTES];
  int status = pl__inherit(&m->inheritance, &m->admin_inheritance, text);
  char admin[PL_STANDING_ADDRESS_BYTES];

  if (!status && m->config->admin_on) {
    pl__address_format(&m->config->admin_listen, admin, sizeof admin);
    pl__inherit_move(&m->inheritance, admin, &m->admin_inheritance);
  }
  return status ? pl__error_set(m->error, status, "%s", text) : 0;
}

static int lock_take(struct master *m) {
  char text[PL_LOCKFILE_ERROR_BYTES];
  int status;

  if (m->inheritance.lock_fd >= 0)
    status = pl__lockfile_inherit(&m->lock, m->inheritance.lock_fd,
                                  m->config->pid_file, m->config->name, text);
  else
    status =
        pl__lockfile_take(&m->lock, m->config->pid_file, m->config->name, text);
  return status ? pl__error_set(m->error, PL_EFAIL, "%s", text) : 0;
}

static int listeners_make(struct master *m) {
  char text[PL_LISTENERS_ERROR_BYTES] = "";
  struct pl_address handed[PL_INHERIT_ADDRESSES_MAX];
  const struct pl_inheritance *given = &m->inheritance;
  const struct pl_address *addresses = m->config->listen;
  uint32_t count = m->config->listen_count;
  int status;

  if (given->is_activation) { /* systemd's sockets are all there is */
    for (count = 0; count < given->count; count++)
      handed[count] = given->at[count].address;
    addresses = handed;
  }
  status = pl__listeners_open(&m->listeners, addresses, count, m->capacity,
                              given, text);
  pl__inherit_close_rest(given, &m->listeners);
  for (uint32_t i = 0; i < m->capacity && !status; i++) {
    m->children[i].listens =
        i < m->config->workers || i < pl__inherited_sockets(given);
    if (m->children[i].listens && pl__listeners_listen(&m->listeners, i))
      status = pl__error_set(m->error, PL_EBIND, "listen: %s", strerror(errno));
  }
  if (status && m->listeners.fds)
    pl__listeners_close(&m->listeners);
  return status ? pl__error_set(m->error, status, text[0] ? "%s" : NULL, text)
                : 0;
}

/* A unix socket of it is for its own user alone. */
static int admin_open(struct master *m, const struct pl_address *a,
                      char *error) {
  mode_t mask = umask(0177);
  int status =
      pl__listeners_open(&m->admin, a, 1, 1, &m->admin_inheritance, error);

  umask(mask);
  if (!status && pl__listeners_listen(&m->admin, 0)) {
    snprintf(error, PL_LISTENERS_ERROR_BYTES, "listen: %s", strerror(errno));
    pl__listeners_close(&m->admin);
    status = PL_EBIND;
  }
  return status;
}

/* Whether the admin plane is to have an address of the server's own. */
static bool admin_is_public(const struct pl_config *c) {
  const struct pl_address *a = &c->admin_listen;

  for (uint32_t i = 0; i < c->listen_count; i++)
    if (c->listen[i].bytes == a->bytes &&
        memcmp(&c->listen[i].storage, &a->storage, a->bytes) == 0)
      return true;
  return false;
}

static int admin_make(struct master *m) {
  const struct pl_inheritance *given = &m->admin_inheritance;
  struct pl_address a = m->config->admin_listen;
  char text[PL_LISTENERS_ERROR_BYTES] = "";
  int status;

  if (!m->config->admin_on)
    return 0;
  if (given->count && given->at[0].is_foreign)
    a = given->at[0].address;
  status = admin_open(m, &a, text);
  /* In development its port is a matter of convenience. */
  for (int i = 0; i < ADMIN_PORTS && status == PL_EBIND && m->config->dev &&
                  a.family != AF_UNIX && a.port && a.port < UINT16_MAX;
       i++) {
    pl__address_set_port(&a, (uint16_t)(a.port + 1));
    status = admin_open(m, &a, text);
  }
  if (status == PL_EBIND && admin_is_public(m->config))
    return pl__error_set(m->error, status,
                         "admin.listen: %s is in listen, too: the admin plane "
                         "needs an address of its own",
                         a.text);
  return status ? pl__error_set(m->error, status, "admin.listen: %s", text) : 0;
}

static int sockets_make(struct master *m) {
  int status = listeners_make(m);

  if (status)
    return status;
  status = admin_make(m);
  pl__inherit_close_rest(&m->admin_inheritance, &m->admin);
  if (status)
    pl__listeners_close(&m->listeners);
  return status;
}

static int fabric_make(struct master *m) {
  char text[PL_FABRIC_ERROR_BYTES];
  struct pl_event_rings *events = NULL;
  struct pl_ring *ring;
  int status = pl__layout_open(&m->fabric, m->config, m->capacity, text);

  if (status)
    return pl__error_set(m->error, PL_ENOMEM, "no shared memory: %s",
                         text[0] ? text : pl_strerror(status));
  status = pl__layout_ring(&m->fabric, PL_RECORD_MASTER, &ring);
  status = status ? status : pl__layout_standing(&m->fabric, &m->standing);
  if (!status && m->config->recorder_on)
    status = pl__layout_events(&m->fabric, m->capacity, &events);
  status =
      status ? status : pl__tally_open(&m->tally, &m->fabric, PL_RECORD_MASTER);
  status = status ? status
                  : pl__watch_init(&m->watch, m->config, &m->fabric,
                                   m->children, m->capacity, &m->log);
  if (status) {
    pl__fabric_close(&m->fabric);
    return pl__error_set(m->error, status, NULL);
  }
  pl__ring_writer_init(&m->log, ring, m->wake_fd);
  pl__recorder_open(&m->recorder, events, &m->stopwatch);
  return 0;
}

static int wires_make(struct master *m) {
  m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (m->wake_fd < 0)
    return pl__error_set(m->error, PL_EFAIL, "eventfd: %s", strerror(errno));
  if (pipe2(m->lifeline, O_CLOEXEC)) {
    close(m->wake_fd);
    return pl__error_set(m->error, PL_EFAIL, "pipe: %s", strerror(errno));
  }
  if (pipe2(m->transit, O_CLOEXEC | O_NONBLOCK)) {
    close(m->wake_fd);
    close(m->lifeline[0]);
    close(m->lifeline[1]);
    return pl__error_set(m->error, PL_EFAIL, "pipe: %s", strerror(errno));
  }
  return 0;
}

static void wires_close(struct master *m) {
  close(m->wake_fd);
  close(m->lifeline[0]);
  close(m->lifeline[1]);
  close(m->transit[0]);
  close(m->transit[1]);
}

static int children_make(struct master *m) {
  m->capacity =
      pl__config_capacity(m->config, pl__inherited_sockets(&m->inheritance));
  m->children = pl__alloc((m->capacity + 1) * sizeof(*m->children));
  if (!m->children)
    return pl__error_set(m->error, PL_ENOMEM, NULL);
  for (uint32_t i = 0; i <= m->capacity; i++)
    pl__child_init(&m->children[i]);
  for (uint32_t i = m->config->workers; i < m->capacity; i++)
    m->children[i].unwanted = true;
  return 0;
}

/* Files of sockets that we have made. */
static void sockets_own(const struct pl_privileges *p,
                        const struct pl_listeners *l) {
  for (uint32_t i = 0; i < l->address_count; i++) {
    const struct pl_address *a = &l->addresses[i];
    if (a->family == AF_UNIX && !l->is_foreign[i])
      pl__privileges_own(p,
                         ((const struct sockaddr_un *)&a->storage)->sun_path);
  }
}

/* What needed the rights of root is done. */
static int privileges_drop(struct master *m) {
  char text[PL_PRIVILEGES_ERROR_BYTES], folder[PL_LOCKFILE_PATH_BYTES];
  struct pl_privileges p;
  int status = pl__privileges_find(&p, m->config->user, m->config->group, text);

  if (status || !p.is_wanted)
    return status ? pl__error_set(m->error, status, "%s", text) : 0;
  pl__privileges_own(&p, m->lock.path);
  if (!m->config->pid_file[0]) { /* the folder is for our files alone */
    snprintf(folder, sizeof folder, "%s", m->lock.path);
    *strrchr(folder, '/') = '\0';
    pl__privileges_own(&p, folder);
  }
  sockets_own(&p, &m->listeners);
  sockets_own(&p, &m->admin);
  pl__privileges_own_log(&p, m->config->log_output);
  status = pl__privileges_drop(&p, text);
  return status ? pl__error_set(m->error, status, "%s", text) : 0;
}

static void dev_say(void *arg, const char *text, size_t bytes) {
  struct master *m = arg;

  m->options->on_message(m->options->arg, text, bytes);
}

/* Watching begins before anything is loaded. */
/* Where browsers listen: this machine alone, beside the admin plane. */
static bool events_address(const struct master *m, struct pl_address *out) {
  uint16_t port = m->config->admin_listen.port;

  if (!m->config->admin_on || pl__address_parse("127.0.0.1:0", out))
    return false;
  if (port)
    pl__address_set_port(out, (uint16_t)(m->admin.addresses[0].port + 1));
  return true;
}

static int dev_begin(struct master *m) {
  struct pl_address events;

  if (!m->config->dev)
    return 0;
  if (pl__config_copy(&m->owned, m->config))
    return pl__error_set(m->error, PL_ENOMEM, NULL);
  m->config = &m->owned;
  pl__dev_open(&m->dev, m->config, events_address(m, &events) ? &events : NULL,
               dev_say, m);
  pl__dev_set_port(&m->dev, m->listeners.addresses[0].port);
  m->owned.dev_port = m->dev.events.port;
  return 0;
}

bool pl__is_owner(const struct master *m) {
  return !m->upgrade.is_replaced && m->inheritance.ready_fd < 0;
}

static void lock_leave(struct master *m) {
  if (pl__is_owner(m))
    pl__lockfile_give(&m->lock);
  else
    pl__lockfile_forget(&m->lock);
}

static void listeners_leave(struct master *m) {
  if (!pl__is_owner(m)) { /* files of unix sockets are another's */
    pl__listeners_forget(&m->listeners);
    pl__listeners_forget(&m->admin);
  }
  pl__listeners_close(&m->listeners);
  pl__listeners_close(&m->admin);
}

int pl__found(struct master *m) {
  int status;

  if ((status = inheritance_take(m)))
    return status;
  if ((status = children_make(m)))
    return status;
  if ((status = lock_take(m)))
    goto fail_lock;
  if ((status = sockets_make(m)))
    goto fail_listeners;
  if ((status = wires_make(m)))
    goto fail_wires;
  if ((status = fabric_make(m)))
    goto fail_fabric;
  if ((status = privileges_drop(m)) || (status = dev_begin(m)))
    goto fail_rights;
  return 0;

fail_rights:
  pl__watch_deinit(&m->watch);
  pl__fabric_close(&m->fabric);
fail_fabric:
  wires_close(m);
fail_wires:
  listeners_leave(m);
fail_listeners:
  lock_leave(m);
fail_lock:
  pl__free(m->children);
  return status;
}

void pl__unfound(struct master *m) {
  pl__trends_deinit(&m->trends);
  pl__dev_close(&m->dev);
  pl__config_deinit(&m->owned);
  pl__watch_deinit(&m->watch);
  pl__fabric_close(&m->fabric);
  wires_close(m);
  listeners_leave(m);
  lock_leave(m);
  pl__free(m->children);
}
