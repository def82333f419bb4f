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
      .context_bytes = sizeof(struct pl_context),
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
