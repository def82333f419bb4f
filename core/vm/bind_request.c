/* vm/bind_request.c - what handlers read of a request, by FFI (vm/ffi.h). */
#include "http/cookies.h"
#include "http/encode.h"
#include "http/headers.h"
#include "http/query.h"
#include "vm/coro.h"

const struct pl_abi *pl_abi(void) {
  static const struct pl_abi abi = {
      .version = PL_ABI_VERSION,
      .req_bytes = sizeof(struct pl_req),
      .header_bytes = sizeof(struct pl_header),
      .param_bytes = sizeof(struct pl_param),
  };
  return &abi;
}

int pl_req_header(struct pl_req *req, const char *name, uint32_t bytes,
                  int from) {
  return pl__headers_find(req, pl__slice(name, bytes), (uint32_t)from);
}

int pl_req_query(struct pl_req *req, const char *name, uint32_t bytes,
                 int from) {
  if (!(req->parsed & 1) && pl__req_queries(req))
    return -2;
  return pl__fields_find(req->queries, req->query_count, pl__slice(name, bytes),
                         (uint32_t)from);
}

int pl_req_cookie(struct pl_req *req, const char *name, uint32_t bytes,
                  int from) {
  if (!(req->parsed & 2) && pl__req_cookies(req))
    return -2;
  return pl__fields_find(req->cookies, req->cookie_count,
                         pl__slice(name, bytes), (uint32_t)from);
}

uint32_t pl_req_remote(struct pl_req *req, char *out) {
  struct pl_vm *vm = pl__vm_running;

  return pl__peer_text(vm->options.host.peer(vm->options.host.arg, req), out);
}

static void put_hex(uint64_t n, char *out) {
  for (int i = 15; i >= 0; i--, n >>= 4)
    out[i] = "0123456789abcdef"[n & 15];
}

uint32_t pl_req_id(struct pl_req *req, char *out) {
  put_hex(req->context.request_id, out);
  return 16;
}

static int is_lower_hex(const char *at, uint32_t bytes) {
  int other_than_zero = 0;

  for (uint32_t i = 0; i < bytes; i++) {
    if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
      return 0;
    other_than_zero |= at[i] != '0';
  }
  return other_than_zero;
}

/* W3C Trace Context, 3.2: version "-" 32 hex "-" 16 hex "-" 2 hex; versions
 * above 00 may go on behind that. */
uint32_t pl_req_trace_id(struct pl_req *req, char *out) {
  struct pl_slice parent = pl__headers_get(req, PL_SLICE("traceparent"));

  if (parent.bytes >= 55 && parent.at[2] == '-' && parent.at[35] == '-' &&
      parent.at[52] == '-' && memcmp(parent.at, "ff", 2) != 0 &&
      (parent.bytes == 55 || memcmp(parent.at, "00", 2) != 0) &&
      is_lower_hex(parent.at + 3, 32) && is_lower_hex(parent.at + 36, 16)) {
    memcpy(out, parent.at + 3, 32);
    return 32;
  }
  put_hex(req->context.request_id * 0x9e3779b97f4a7c15u ^ 0x5851f42d4c957f2du, out);
  put_hex(req->context.request_id, out + 16);
  return 32;
}

int pl_body_poll(struct pl_req *req) {
  struct pl_vm *vm = pl__vm_running;

  if (req->body.bytes)
    return PL_BODY_BYTES;
  if (req->body_status)
    return PL_BODY_FAILED;
  if (req->flags & PL_REQ_BODY_DONE)
    return PL_BODY_END;
  if (req->flags & PL_REQ_EXPECT) {
    req->flags &= ~(uint32_t)PL_REQ_EXPECT;
    if (!(req->flags & PL_REQ_HEAD_SENT) && !pl__encode_continue(req->out))
      vm->options.host.touch(vm->options.host.arg, req);
  }
  return PL_BODY_WAIT;
}

void pl_body_take(struct pl_req *req, uint32_t bytes) {
  struct pl_vm *vm = pl__vm_running;

  if (bytes <= req->body.bytes)
    vm->options.host.take_body(vm->options.host.arg, req, bytes);
}
