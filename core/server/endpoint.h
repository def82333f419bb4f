/* server/endpoint.h - the address of a collector: http://host:port/path as text,
 * taken apart.
 *
 * Names are not resolved here.  There is no TLS: PL_ENDPOINT_EXPECTED says what to
 * do instead.
 */
#ifndef PL_SERVER_ENDPOINT_H
#define PL_SERVER_ENDPOINT_H

#define PL_ENDPOINT_BYTES 512 /* of one as text, NUL included */
#define PL_ENDPOINT_EXPECTED                                                   \
  "http://host:port, such as http://127.0.0.1:4318; https is not spoken: let " \
  "a collector beside the server (a sidecar) take it and pass it on by TLS"

struct pl_endpoint {
  char host[256];                     /* without brackets */
  char port[6];                       /* decimal; "80" where none is given */
  char authority[272];                /* as a Host field has it */
  char path[PL_ENDPOINT_BYTES + 16u]; /* begins with / */
};

/* Takes `text` apart; behind its path comes `suffix` ("/v1/logs", or "").  *out
 * may be NULL.  Returns 0 or PL_EINVAL. */
int pl__endpoint_parse(const char *text, const char *suffix,
                       struct pl_endpoint *out);

#endif /* PL_SERVER_ENDPOINT_H */
