/* log/outlet.c - a note before each attempt, and one behind it. */
#define _GNU_SOURCE /* splice */
#include "log/outlet.h"

#include "base/alloc.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW_BYTES (4u << 20) /* of a file, looked through at most */
/* Of a socket's send buffer, given to it at once after a poll: as little never
 * makes one wait. */
#define SOCKET_SHARE 8
#define SOCKET_BYTES_MIN 512
#define SOCKET_BYTES_MAX 16384

static bool by_transit(const struct pl_outlet *o) {
  return o->transit[0] >= 0 && (o->sink->medium == PL_MEDIUM_PIPE ||
                                o->sink->medium == PL_MEDIUM_STREAM);
}

/* Bytes in the transit, or a negated errno. */
static int transit_fill(const struct pl_outlet *o) {
  int bytes = 0;
  return ioctl(o->transit[0], FIONREAD, &bytes) ? -errno : bytes;
}

/* Bytes of the batch that have gone on. */
static uint32_t progress(const struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  int fill = note.phase == PL_LEDGER_MOVING ? transit_fill(o) : 0;
  return note.phase == PL_LEDGER_MOVING && fill >= 0
             ? note.from + note.bytes - (uint32_t)fill
             : note.from;
}

/* --- what a file holds --------------------------------------------------- */

/* Where in the file the next write goes, by a descriptor without O_APPEND
 * shared with others as well. */
static uint64_t place_of(int fd, const struct stat *st) {
  off_t at = lseek(fd, 0, SEEK_CUR);
  return fcntl(fd, F_GETFL) & O_APPEND || at < 0 ? (uint64_t)st->st_size
                                                 : (uint64_t)at;
}

static uint32_t common_bytes(const char *a, size_t a_bytes, const char *b,
                             size_t b_bytes) {
  size_t n = 0, most = a_bytes < b_bytes ? a_bytes : b_bytes;
  while (n < most && a[n] == b[n])
    n++;
  return (uint32_t)n;
}

/* How much of the batch's rest stands in the window.  It begins there, unless
 * somebody else has appended to the file as well, or cut it: then it is looked
 * for behind each line. */
static uint32_t find_rest(const char *window, size_t bytes, const char *rest,
                          size_t rest_bytes) {
  const char *end = memchr(rest, '\n', rest_bytes);
  uint32_t line = end ? (uint32_t)(end - rest) + 1 : (uint32_t)rest_bytes;
  uint32_t best = common_bytes(window, bytes, rest, rest_bytes);
  if (best == bytes || best == rest_bytes)
    return best;
  if (best < line)
    best = 0;
  for (const char *at = window;
       (at = memchr(at, '\n', bytes - (size_t)(at - window)));) {
    size_t left = bytes - (size_t)(++at - window);
    uint32_t n = common_bytes(at, left, rest, rest_bytes);
    if (n > best && (n >= line || n == left))
      best = n;
  }
  return best;
}

/* How much of the rest stands in the file, which can be read by `fd`, or not
 * (-1): then its growth must do. */
static uint32_t count_written(const struct pl_outlet *o, int fd, uint64_t end) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  uint32_t rest = note.batch - note.from, written = 0;
  uint64_t from = note.size <= end ? note.size : 0;
  size_t bytes =
      end - from < WINDOW_BYTES ? (size_t)(end - from) : WINDOW_BYTES;
  char *window = bytes ? pl__alloc(bytes) : NULL;
  ssize_t n = window && fd >= 0 ? pread(fd, window, bytes, (off_t)from) : -1;
  if (n >= 0)
    written = find_rest(window, (size_t)n, o->ledger->data + note.from, rest);
  else if (from == note.size)
    written = bytes < rest ? (uint32_t)bytes : rest;
  pl__free(window);
  return written;
}

static bool is_noted(const struct pl_ledger_note *note, const struct stat *st) {
  return note->device == (uint64_t)st->st_dev &&
         note->inode == (uint64_t)st->st_ino;
}

/* The noted file under another name: in the folder of the sink's path, as
 * logrotate leaves it.  -1: it is not there. */
static int open_moved(const struct pl_outlet *o,
                      const struct pl_ledger_note *note) {
  char folder[PL_SINK_PATH_BYTES];
  snprintf(folder, sizeof folder, "%s", o->sink->path);
  char *slash = strrchr(folder, '/');
  if (slash)
    slash[slash == folder] = '\0';
  DIR *dir = opendir(slash ? folder : ".");
  struct dirent *entry;
  struct stat st;
  int fd = -1;
  while (dir && fd < 0 && (entry = readdir(dir))) {
    if ((uint64_t)entry->d_ino != note->inode)
      continue;
    fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &st) || !is_noted(note, &st))) {
      close(fd);
      fd = -1;
    }
  }
  if (dir)
    closedir(dir);
  return fd;
}

/* A line that was begun in another file is written again, whole. */
static uint32_t line_start(const struct pl_ledger *l, uint32_t at) {
  while (at > 0 && l->data[at - 1] != '\n')
    at--;
  return at;
}

static void resume_file(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  char path[64];
  struct stat st;
  bool same = fstat(o->sink->fd, &st) == 0 && is_noted(&note, &st);
  snprintf(path, sizeof path, "/proc/self/fd/%d", o->sink->fd);
  int fd = same ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                : open_moved(o, &note);
  if (same) {
    note.from += count_written(o, fd, place_of(o->sink->fd, &st));
  } else if (fd >= 0 && fstat(fd, &st) == 0) {
    note.from += count_written(o, fd, (uint64_t)st.st_size);
    note.from = line_start(o->ledger, note.from);
  }
  if (fd >= 0)
    close(fd);
  pl__ledger_turn(o->ledger,
                  note.from == note.batch ? PL_LEDGER_DONE : PL_LEDGER_HELD,
                  note.from);
}

/* --- resuming ------------------------------------------------------------ */

/* Nothing of what was put into the transit had gone on. */
static void resume_loading(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  int fill = transit_fill(o);
  note.phase = fill > 0 ? PL_LEDGER_MOVING : PL_LEDGER_HELD;
  note.bytes = fill > 0 ? (uint32_t)fill : 0;
  pl__ledger_put(o->ledger, &note);
}

/* Where there may be half a line, it is ended. */
static void resume_sending(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  size_t taken;
  if (o->sink->medium != PL_MEDIUM_MESSAGES) {
    note.from = line_start(o->ledger, note.from);
    pl__sink_write(o->sink, "\n", 1, &taken);
  }
  pl__ledger_turn(o->ledger, PL_LEDGER_HELD, note.from);
}

/* What lies in the transit is of no batch that we know. */
static void transit_clear(struct pl_outlet *o) {
  char bytes[4096];
  while (o->transit[0] >= 0 && read(o->transit[0], bytes, sizeof bytes) > 0) {
  }
}

void pl__outlet_resume(struct pl_outlet *o) {
  switch (pl__ledger_note(o->ledger).phase) {
  case PL_LEDGER_FILE:
    resume_file(o);
    break;
  case PL_LEDGER_LOADING:
    resume_loading(o);
    break;
  case PL_LEDGER_SENDING:
    resume_sending(o);
    break;
  case PL_LEDGER_MOVING:
    break;
  default:
    transit_clear(o);
  }
}

/* --- getting it out ------------------------------------------------------ */

static int flush_file(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  struct stat st;
  size_t taken = 0;
  if (fstat(o->sink->fd, &st))
    return -errno;
  note.phase = PL_LEDGER_FILE;
  note.device = (uint64_t)st.st_dev;
  note.inode = (uint64_t)st.st_ino;
  note.size = place_of(o->sink->fd, &st);
  pl__ledger_put(o->ledger, &note);
  int status = pl__sink_write(o->sink, o->ledger->data + note.from,
                              note.batch - note.from, &taken);
  pl__ledger_turn(o->ledger, PL_LEDGER_HELD, note.from + (uint32_t)taken);
  return status;
}

/* Puts as much of the batch into the empty transit as it takes. */
static int transit_load(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  note.phase = PL_LEDGER_LOADING;
  pl__ledger_put(o->ledger, &note);
  ssize_t n =
      write(o->transit[1], o->ledger->data + note.from, note.batch - note.from);
  int status = n < 0 ? -errno : 0;
  note.phase = n > 0 ? PL_LEDGER_MOVING : PL_LEDGER_HELD;
  note.bytes = n > 0 ? (uint32_t)n : 0;
  pl__ledger_put(o->ledger, &note);
  return status;
}

/* How much may be moved at once, or a negated errno. */
static int room_of(const struct pl_outlet *o, int fill) {
  struct pollfd p = {.fd = o->sink->fd, .events = POLLOUT};
  int size = 0;
  socklen_t bytes = sizeof size;
  if (o->sink->medium == PL_MEDIUM_PIPE)
    return fill;
  if (poll(&p, 1, 0) <= 0)
    return -EAGAIN;
  getsockopt(o->sink->fd, SOL_SOCKET, SO_SNDBUF, &size, &bytes);
  size /= SOCKET_SHARE;
  size = size < SOCKET_BYTES_MIN   ? SOCKET_BYTES_MIN
         : size > SOCKET_BYTES_MAX ? SOCKET_BYTES_MAX
                                   : size;
  return size < fill ? size : fill;
}

/* The kernel moves nothing here (splice is not for this output, or not for us):
 * from now on it is written to directly. */
static void transit_leave(struct pl_outlet *o) {
  pl__ledger_turn(o->ledger, PL_LEDGER_HELD, progress(o));
  transit_clear(o);
  o->transit[0] = o->transit[1] = -1;
}

/* Moves what lies in the transit on.  0 when it is empty, or left. */
static int transit_move(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  int fill;
  while ((fill = transit_fill(o)) > 0) {
    int room = room_of(o, fill);
    if (room < 0)
      return room;
    ssize_t n = splice(o->transit[0], NULL, o->sink->fd, NULL, (size_t)room,
                       SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n == 0)
      return -EIO;
    if (n < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM)) {
      transit_leave(o);
      return 0;
    }
    if (n < 0 && errno != EINTR)
      return -errno;
  }
  if (fill == 0)
    pl__ledger_turn(o->ledger, PL_LEDGER_HELD, note.from + note.bytes);
  return fill;
}

static int flush_transit(struct pl_outlet *o) {
  int status = 0;
  if (pl__ledger_note(o->ledger).phase != PL_LEDGER_MOVING)
    status = transit_load(o);
  return status ? status : transit_move(o);
}

/* Bytes of the first message, with the NUL that ends it. */
static size_t message_bytes(const char *at, size_t bytes) {
  const char *end = memchr(at, '\0', bytes);
  return end ? (size_t)(end - at) + 1 : bytes;
}

static int flush_sending(struct pl_outlet *o) {
  struct pl_ledger_note note = pl__ledger_note(o->ledger);
  const char *at = o->ledger->data + note.from;
  size_t taken = 0, bytes = note.batch - note.from;
  if (o->sink->medium == PL_MEDIUM_MESSAGES)
    bytes = message_bytes(at, bytes);
  pl__ledger_turn(o->ledger, PL_LEDGER_SENDING, note.from);
  int status = pl__sink_write(o->sink, at, bytes, &taken);
  pl__ledger_turn(o->ledger, PL_LEDGER_HELD, note.from + (uint32_t)taken);
  return status;
}

static int flush_once(struct pl_outlet *o) {
  if (by_transit(o))
    return flush_transit(o);
  return o->sink->medium == PL_MEDIUM_FILE ? flush_file(o) : flush_sending(o);
}

int pl__outlet_flush(struct pl_outlet *o, bool *moved) {
  uint32_t before = progress(o);
  int status = 0;
  while (!status) {
    struct pl_ledger_note note = pl__ledger_note(o->ledger);
    if (note.phase == PL_LEDGER_HELD && note.from == note.batch) {
      pl__ledger_turn(o->ledger, PL_LEDGER_DONE, note.from);
      break;
    }
    status = flush_once(o);
  }
  *moved = !status || progress(o) != before;
  return status;
}

int pl__outlet_reopen(struct pl_outlet *o) {
  bool moved;
  uint32_t phase = pl__ledger_note(o->ledger).phase;
  if (phase == PL_LEDGER_HELD || phase == PL_LEDGER_MOVING)
    pl__outlet_flush(o, &moved); /* a whole line is better than half of one */
  int status = pl__sink_reopen(o->sink);
  phase = pl__ledger_note(o->ledger).phase;
  bool is_left = phase == PL_LEDGER_MOVING && !by_transit(o);
  if (status || !o->sink->path[0] || !(phase == PL_LEDGER_HELD || is_left))
    return status;
  pl__ledger_turn(o->ledger, PL_LEDGER_HELD,
                  line_start(o->ledger, progress(o)));
  if (is_left) /* it was a pipe and is no more */
    transit_clear(o);
  return 0;
}
