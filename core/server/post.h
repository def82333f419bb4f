/* server/post.h - a client that posts bodies to one address by HTTP/1.1, one at
 * a time, over a connection that is kept.
 *
 *          send                      resolved            connected
 *   IDLE --------> RESOLVING ------------------> CONNECTING ------> EXCHANGING
 *     ^  \__ the kept connection is used again _______________________/   |
 *     |                                                                   |
 *     +---- answered, failed or late: the connection is kept or closed ---+
 *
 * All addresses that a name has are tried, the one that has answered last before
 * the others, those in their order.  Each has its share of the time that is left
 * to connect and to begin an answer, so that one which swallows connections, or
 * takes them and says nothing, leaves time for the rest; what it was sent may
 * then arrive twice, as after any time limit.  A kept connection that ends before
 * it has answered anything is replaced once, without a word: the peer may just
 * have closed it.  Each send has one end, its callback, and one time limit for
 * all of it.
 *
 * Knows http only, no proxies and no redirects.  Lives on the loop it is given.
 */
#ifndef PL_SERVER_POST_H
#define PL_SERVER_POST_H

#include "http/response_parser.h"
#include "server/endpoint.h"

#include <uv.h>

#define PL_POST_FIELDS_BYTES 4096u /* of header fields of the owner's */
#define PL_POST_ADDRESSES_MAX 16u  /* of a name; more are not tried */
#define PL_POST_HEAD_BYTES (PL_POST_FIELDS_BYTES + 2 * PL_ENDPOINT_BYTES + 512u)

struct pl_post_conn;
struct pl_post_lookup;

/* A send has ended.
 *
 *   failed  0: `answer` is complete; else a UV_E* or PL_E*: PL_ETIMEOUT, PL_EBAD
 *           (what came is no answer), PL_EGONE
 *
 * May send again. */
typedef void (*pl__post_fn)(void *arg, int failed,
                            const struct pl_response_parser *answer);

struct pl_post {
  uv_loop_t *uv; /* borrowed */
  struct pl_endpoint to;
  const char *fields;            /* "Name: value\r\n" each; borrowed */
  uv_timer_t timer;              /* of the send that is under way */
  struct pl_post_lookup *lookup; /* of the name; NULL: none is under way */
  uv_timer_t turn;               /* of one address, if others are left */
  struct addrinfo *list;         /* what it has found; owned */
  const struct addrinfo *order[PL_POST_ADDRESSES_MAX]; /* in `list` */
  uint32_t count, next;         /* how many, the first not tried yet */
  struct sockaddr_storage best; /* has answered last; family 0: none has */
  uint64_t due_ms;              /* of the send, by the loop's clock */
  struct pl_post_conn *conn;    /* NULL: none */
  struct pl_slice body;         /* borrowed until the callback */
  bool is_gzip;
  bool is_busy;
  pl__post_fn on_end;
  void *arg;
  char head[PL_POST_HEAD_BYTES];
  struct pl_response_parser answer;
};

/* fields: at most PL_POST_FIELDS_BYTES, without what the client writes itself. */
void pl__post_init(struct pl_post *p, uv_loop_t *uv,
                   const struct pl_endpoint *to, const char *fields);
/* Posts `body`, which stays where it is until the callback; none may be under
 * way.  is_gzip: it is compressed.  The callback runs later, never from here. */
void pl__post_send(struct pl_post *p, struct pl_slice body, bool is_gzip,
                   uint64_t timeout_ms, pl__post_fn on_end, void *arg);
/* Gives up what is under way, without its callback, and closes all handles: the
 * struct may go when the loop has run empty. */
void pl__post_close(struct pl_post *p);

#endif /* PL_SERVER_POST_H */
