/* net/h2.h - the server's side of one HTTP/2 connection (RFC 9113), bytes in
 * and bytes out.
 *
 * A session is fed what has been received and asked for what is to be sent.
 * Requests are told whole, with their body: this is for small calls, such as
 * gRPC's, not for uploads.  Responses may go on for as long as both sides
 * like.
 *
 * What a peer can make us keep or do is bounded by the limits below.  Frames
 * and bytes cost tokens, requests and time give some back; who has none left is told
 * ENHANCE_YOUR_CALM and closed: floods of pings, of settings, of empty frames,
 * of streams that are opened to be reset by either side.
 *
 * Knows no socket, no clock and no gRPC.  A session and its streams belong to
 * one thread.
 */
#ifndef PL_NET_H2_H
#define PL_NET_H2_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define PL_H2_STREAM_COUNT 100u   /* open at once */
#define PL_H2_FIELDS_BYTES 16384u /* of a request, as RFC 9113 6.5.2 counts */
#define PL_H2_BODY_BYTES 65536u   /* of a request */
#define PL_H2_HELD_BYTES 262144u  /* fields and bodies of all streams */
#define PL_H2_OUTPUT_BYTES 65536u /* of a response, not yet sent */
#define PL_H2_REQUEST_MS 30000    /* for a request to be complete */
#define PL_H2_RESET_BURST 100u    /* streams that the peer resets: at once, */
#define PL_H2_RESETS_PER_S 20u    /* and in the long run */
#define PL_H2_TOKENS 1000         /* see above */
#define PL_H2_TOKENS_PER_S 100    /* come back by themselves */
#define PL_H2_BYTES_PER_TOKEN 1024u
#define PL_H2_TOKENS_PER_REQUEST 8 /* come back with a request */
#define PL_H2_TOKENS_FOR_FAULT 20  /* a stream that we had to reset */

/* RFC 9113 section 7, those that are ours to send. */
#define PL_H2_INTERNAL_ERROR 2u
#define PL_H2_CANCEL 8u

/* The first bytes of a connection. */
enum pl_h2_preface {
  PL_H2_PREFACE_NO,   /* not HTTP/2 */
  PL_H2_PREFACE_MORE, /* may become it */
  PL_H2_PREFACE_YES   /* with prior knowledge (RFC 9113 3.3) */
};

struct pl_h2;
struct pl_h2_stream;

struct pl_h2_field {
  struct pl_slice name; /* lower case */
  struct pl_slice value;
};

/* on_request, on_closed: from inside pl__h2_feed, _expire or _free.
 * on_drained: from inside pl__h2_take. */
struct pl_h2_events {
  /* A request is complete, or its body is too large (pl__h2_is_cut): respond,
   * now or later. */
  void (*on_request)(void *arg, struct pl_h2_stream *s);
  /* All that was pushed has been taken: more may be pushed. */
  void (*on_drained)(void *arg, struct pl_h2_stream *s);
  /* The stream has ended, by whatever way, and its memory goes after this
   * returns. Only for those that were told by on_request. */
  void (*on_closed)(void *arg, struct pl_h2_stream *s);
  /* There is something to take, and nobody has called _feed, _expire or _take:
   * may not call any function of this header from inside. */
  void (*on_output)(void *arg);
};

enum pl_h2_preface pl__h2_preface(struct pl_slice first);

/* A new session; `events` must outlive it. NULL: no memory. */
struct pl_h2 *pl__h2_open(const struct pl_h2_events *events, void *arg);

/* Understands bytes, the preface among them.
 *
 *   now_ms   monotonic
 *
 * Returns 0, or when nothing more can be understood (what there is to take
 * should still be sent): PL_EBAD, PL_ENOMEM. A peer at fault is mostly told by
 * GOAWAY instead: then 0, and pl__h2_is_over soon. */
int pl__h2_feed(struct pl_h2 *h, struct pl_slice bytes, int64_t now_ms);
/* Resets streams whose request does not become complete. */
void pl__h2_expire(struct pl_h2 *h, int64_t now_ms);
/* The next bytes to send, valid until the next call; none: 0 bytes. */
struct pl_slice pl__h2_take(struct pl_h2 *h);

/* Asks the peer for a sign of life. */
void pl__h2_ping(struct pl_h2 *h);
/* No new streams; it is over when those that are open have ended. */
void pl__h2_finish(struct pl_h2 *h);
/* Once all is taken the connection can be closed. */
bool pl__h2_is_over(const struct pl_h2 *h);
/* Streams open. */
uint32_t pl__h2_stream_count(const struct pl_h2 *h);
/* Ends it; on_closed comes for each stream told. */
void pl__h2_free(struct pl_h2 *h);

/* --- a stream: all of a request is valid until on_closed ---------------- */

/* The value of a field, pseudo fields (":path") included; the first one of
 * that name; absent: 0 bytes at NULL. */
struct pl_slice pl__h2_field(const struct pl_h2_stream *s, const char *name);
struct pl_slice pl__h2_body(const struct pl_h2_stream *s);
/* The body is not whole, as it passes PL_H2_BODY_BYTES. */
bool pl__h2_is_cut(const struct pl_h2_stream *s);
/* What the owner keeps with it. */
void *pl__h2_data(const struct pl_h2_stream *s);
void pl__h2_set_data(struct pl_h2_stream *s, void *data);

/* Begins the response, once: `:status` first, 16 fields at most, copied. end:
 * and ends it. 0, PL_ENOMEM. */
int pl__h2_respond(struct pl_h2_stream *s, const struct pl_h2_field *fields,
                   uint32_t field_count, bool end);
/* Copies bytes to the response. 0, PL_EFULL, PL_ENOMEM: nothing is pushed. */
int pl__h2_push(struct pl_h2_stream *s, struct pl_slice bytes);
/* Ends the response, with trailers (16 at most, copied). 0, PL_ENOMEM. */
int pl__h2_end(struct pl_h2_stream *s, const struct pl_h2_field *trailers,
               uint32_t trailer_count);
/* Ends the stream at once; a PL_H2_* code. */
void pl__h2_reset(struct pl_h2_stream *s, uint32_t code);

#endif /* PL_NET_H2_H */
