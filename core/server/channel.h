/* server/channel.h - what the master and one of its children say to each other.
 *
 * A pair of sockets per child, which lasts as long as it: whole messages in
 * order, in both directions.  Its end means that the other one is gone.  What
 * is said when, is the matter of server/reload.h (the master's side) and
 * server/succession.h (a worker's); and of server/dumper.h and server/wish.h,
 * for control.
 */
#ifndef PL_SERVER_CHANNEL_H
#define PL_SERVER_CHANNEL_H

#include <stdint.h>

#define PL_MESSAGE_TEXT_BYTES 7936 /* NUL included; cut past it */

enum pl_message_kind {
  /* from a child */
  PL_NEWS_STARTED = 1, /* it is ready, or why not; `generation` serves */
  PL_NEWS_TRIED,       /* a trial: the generation loads, or why not */
  PL_NEWS_PREPARED,    /* the generation is loaded beside, or why not */
  PL_NEWS_COMMITTED,   /* it serves, or why not */
  PL_NEWS_RETIRED,     /* the one before it is closed */
  PL_NEWS_RECORDED,    /* control: text is the file of a record, or why there
                          is none; `generation`: the asker */
  PL_NEWS_WISH,        /* control: an action (server/wish.h); `generation` is
                          which and its number, `code` and text belong to it */
  /* from the master */
  PL_ORDER_PREPARE, /* load that generation from its bundle */
  PL_ORDER_COMMIT,  /* serve it */
  PL_ORDER_ABORT,   /* forget it */
  PL_ORDER_LOOK,    /* struct pl_server_state has changed */
  PL_ORDER_RECORD,  /* control: write a record; see server/dumper.h */
  PL_ORDER_GRANTED, /* control: what became of a wish; see server/wish.h */
  PL_ORDER_COLLECT, /* begin a cycle of the collector */
  PL_ORDER_HURRY    /* end what is left of the generation before at once */
};

struct pl_message {
  uint32_t kind; /* enum pl_message_kind */
  uint32_t generation;
  int32_t code;                     /* 0: well; else a PL_E* or UV_E* */
  char text[PL_MESSAGE_TEXT_BYTES]; /* why: `file:line: what`, a traceback */
};

/* Both ends, close-on-exec and non-blocking. Returns 0 or a negated errno. */
int pl__channel_open(int fds[2]);

/* Says one thing; `text` may be NULL, and is cut when it is too long. Waits up
 * to a second when the other side does not read. Returns 0 or a negated errno.
 */
int pl__channel_say(int fd, enum pl_message_kind kind, uint32_t generation,
                    int code, const char *text);

/* Reads one message. Returns 0 with *out filled, -EAGAIN when there is none
 * yet, PL_EGONE when the other side is gone, or has said nonsense. */
int pl__channel_read(int fd, struct pl_message *out);

#endif /* PL_SERVER_CHANNEL_H */
