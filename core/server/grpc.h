/* server/grpc.h - one gRPC call on a stream of HTTP/2, the server's side.
 *
 * What the protocol asks of any service: which requests are calls at all, the
 * prefix of messages, status in trailers, deadlines, bearer tokens.  Only calls
 * with one message from the client; none is compressed.
 * Source: grpc/grpc doc/PROTOCOL-HTTP2.md and doc/compression.md.
 *
 * Knows no service, no protobuf and no clock.
 */
#ifndef PL_SERVER_GRPC_H
#define PL_SERVER_GRPC_H

#include "net/h2.h"

#define PL_GRPC_PREFIX_BYTES 5u

/* google.rpc.Code, those that are ours to send. */
enum pl_grpc_status {
  PL_GRPC_OK = 0,
  PL_GRPC_INVALID_ARGUMENT = 3,
  PL_GRPC_DEADLINE_EXCEEDED = 4,
  PL_GRPC_NOT_FOUND = 5,
  PL_GRPC_RESOURCE_EXHAUSTED = 8,
  PL_GRPC_UNIMPLEMENTED = 12,
  PL_GRPC_INTERNAL = 13,
  PL_GRPC_UNAVAILABLE = 14,
  PL_GRPC_UNAUTHENTICATED = 16
};

/* How a call ends. */
struct pl_grpc_end {
  enum pl_grpc_status status;
  const char *message;      /* static, printable ASCII without '%'; or NULL */
  struct pl_h2_field extra; /* a trailer more, if its name has bytes */
};

/* Whether the request is a call; else it is answered, by HTTP's means. */
bool pl__grpc_accept(struct pl_h2_stream *s);
/* Whether the call brings `token`; one of no bytes is not asked for. */
bool pl__grpc_is_authorized(const struct pl_h2_stream *s,
                            struct pl_slice token);
/* The call's one message, valid as long as the stream's body.  Not PL_GRPC_OK:
 * there is none, and *why says so in words. */
enum pl_grpc_status pl__grpc_message(const struct pl_h2_stream *s,
                                     struct pl_slice *message,
                                     const char **why);
/* Reads the call's grpc-timeout: *ms, rounded up; -1 when there is none. 0, or
 * PL_EBAD. */
int pl__grpc_timeout(const struct pl_h2_stream *s, int64_t *ms);

/* Begins the answer. 0, PL_ENOMEM. */
int pl__grpc_begin(struct pl_h2_stream *s);
/* Sends a message. 0; PL_EFULL, PL_ENOMEM: the stream can only be reset. */
int pl__grpc_send(struct pl_h2_stream *s, struct pl_slice message);
/* Ends an answer that has begun; without memory the stream is reset. */
void pl__grpc_end(struct pl_h2_stream *s, const struct pl_grpc_end *end);
/* Ends a call whose answer has not begun: one block of fields for all. Without
 * memory the stream is reset. */
void pl__grpc_refuse(struct pl_h2_stream *s, const struct pl_grpc_end *end);

#endif /* PL_SERVER_GRPC_H */
