/* fuzz/fuzz_response_parser.c - answers of collectors: whatever comes, in
 * whatever pieces, ends alike; and what a body says is within it.
 *
 * The first byte says in how many pieces the rest comes.
 */
#include "http/response_parser.h"
#include "log/otlp.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                            \
  do                                                                           \
    if (!(cond)) {                                                             \
      fprintf(stderr, "not so: %s (line %d)\n", #cond, __LINE__);              \
      abort();                                                                 \
    }                                                                          \
  while (0)

static enum pl_response_outcome read_all(struct pl_response_parser *p,
                                         const char *at, size_t bytes,
                                         size_t step) {
  enum pl_response_outcome outcome = PL_RESPONSE_MORE;

  pl__response_parser_init(p);
  for (size_t from = 0; from < bytes && outcome == PL_RESPONSE_MORE;
       from += step)
    outcome = pl__response_parser_run(
        p, pl__slice(at + from, bytes - from < step ? bytes - from : step));
  return outcome == PL_RESPONSE_MORE ? pl__response_parser_finish(p) : outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t bytes) {
  static struct pl_response_parser whole, pieces;
  enum pl_response_outcome outcome, again;
  struct pl_slice body, message;
  uint64_t rejected;

  if (bytes < 2)
    return 0;
  outcome = read_all(&whole, (const char *)at + 1, bytes - 1, bytes);
  again = read_all(&pieces, (const char *)at + 1, bytes - 1, at[0] % 16 + 1u);
  CHECK(outcome == PL_RESPONSE_DONE || outcome == PL_RESPONSE_BAD);
  CHECK(whole.body_bytes <= PL_RESPONSE_BODY_BYTES);
  CHECK(pieces.body_bytes <= PL_RESPONSE_BODY_BYTES);
  if (outcome == PL_RESPONSE_DONE && bytes < PL_RESPONSE_HEAD_BYTES_MAX) {
    CHECK(again == outcome);
    CHECK(whole.status == pieces.status && whole.status >= 200);
    CHECK(whole.retry == pieces.retry);
    CHECK(
        pl__slice_equal(pl__response_body(&whole), pl__response_body(&pieces)));
  }
  body = pl__response_body(&whole);
  pl__otlp_partial(body, &rejected, &message);
  CHECK(message.bytes == 0 ||
        (message.at >= body.at &&
         message.at + message.bytes <= body.at + body.bytes));
  pl__otlp_partial(pl__slice((const char *)at + 1, bytes - 1), &rejected,
                   &message);
  return 0;
}
