/* vm/bind_response.c - how handlers answer, by FFI (vm/ffi.h). */
#define _GNU_SOURCE /* O_PATH, openat2's number */
#include "base/alloc.h"
#include "base/err.h"
#include "http/date.h"
#include "http/encode.h"
#include "http/headers.h"
#include "http/mime.h"
#include "http/problem.h"
#include "http/range.h"
#include "vm/coro.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bodies below it are copied behind their head: cheaper than a second piece. */
#define RESPONSE_PIN_BYTES_MIN 4096u
#define RESPONSE_PATH_BYTES 4096

static const struct pl_vm_host *host(void) {
  return &pl__vm_running->options.host;
}

static void touch(struct pl_req *req) { host()->touch(host()->arg, req); }

int pl_res_field(struct pl_req *req, const char *name, uint32_t name_bytes,
                 const char *value, uint32_t value_bytes, int append) {
  if (append < 0) {
    pl__extra_remove(req, pl__slice(name, name_bytes));
    return 0;
  }
  return pl__extra_set(req, pl__slice(name, name_bytes),
                       pl__slice(value, value_bytes), append);
}

/* Pages that get a script with them, under `perilune dev`; not the largest. */
#define RESPONSE_PAGE_BYTES_MAX 524288u

static const char *page_script(const struct pl_req *req, uint32_t status,
                               struct pl_slice media, uint64_t bytes) {
  const char *script = pl__vm_running->options.page_script;
  struct pl_slice set;

  if (!script || bytes > RESPONSE_PAGE_BYTES_MAX ||
      !pl__reply_has_body(req, (uint16_t)status))
    return NULL;
  set = pl__extra_get(req, PL_SLICE("content-type"));
  if (set.bytes)
    media = set;
  return media.bytes >= 9 && pl__slice_equal_nocase(pl__slice(media.at, 9),
                                                    PL_SLICE("text/html"))
             ? script
             : NULL;
}

/* Head, page and script, as one. */
static int send_page(struct pl_req *req, uint16_t status, struct pl_slice media,
                     struct pl_slice page, const char *script) {
  struct pl_slice more = pl__slice_text(script);
  int failed =
      pl__encode_head(req, status, media, (int64_t)page.bytes + more.bytes);

  failed = failed ? failed : pl__buf_append_slice(req->out, page);
  failed = failed ? failed : pl__buf_append_slice(req->out, more);
  if (failed)
    return failed;
  req->flags |= PL_REQ_DONE;
  req->sent_bytes = (double)page.bytes + more.bytes;
  touch(req);
  return 0;
}

int pl_res_send(struct pl_req *req, uint32_t status, const char *type,
                uint32_t type_bytes, const char *body, uint32_t body_bytes) {
  struct pl_slice media = {type, type_bytes};
  const char *script = page_script(req, status, media, body_bytes);
  int failed;

  if (script)
    return send_page(req, (uint16_t)status, media, pl__slice(body, body_bytes),
                     script);
  if (body_bytes < RESPONSE_PIN_BYTES_MIN) {
    failed = pl__encode_reply(req, (uint16_t)status, media,
                              pl__slice(body, body_bytes));
    if (!failed)
      touch(req);
    return failed;
  }
  failed = pl__encode_head(req, (uint16_t)status, media, body_bytes);
  if (failed)
    return failed;
  req->flags |= PL_REQ_DONE;
  if (!pl__reply_has_body(req, (uint16_t)status)) {
    touch(req);
    return 0;
  }
  req->sent_bytes = body_bytes;
  return host()->pin(host()->arg, req, body, body_bytes);
}

int pl_res_begin(struct pl_req *req, uint32_t status, const char *type,
                 uint32_t type_bytes) {
  int failed =
      pl__encode_head(req, (uint16_t)status, pl__slice(type, type_bytes), -1);
  if (failed)
    return failed;
  req->flags |= PL_REQ_STREAMING;
  touch(req);
  return 0;
}

int pl_res_write(struct pl_req *req, const char *at, uint32_t bytes) {
  struct pl_slice piece = {at, bytes};
  int failed;

  if (bytes > PL_PIECE_BYTES_MAX || !(req->flags & PL_REQ_STREAMING))
    return PL_EINVAL;
  if (req->flags & PL_REQ_ABORTED)
    return PL_EGONE;
  if (!pl__reply_has_body(req, req->status))
    return 0;
  failed = req->flags & PL_REQ_OUT_CHUNKED
               ? pl__encode_chunk(req->out, piece)
               : pl__buf_append_slice(req->out, piece);
  if (failed)
    return failed;
  req->sent_bytes += bytes;
  touch(req);
  return host()->has_room(host()->arg, req) ? 0 : 1;
}

int pl_res_end(struct pl_req *req) {
  int failed = 0;

  if (!(req->flags & PL_REQ_STREAMING) || (req->flags & PL_REQ_DONE))
    return PL_EINVAL;
  if ((req->flags & PL_REQ_OUT_CHUNKED) && !(req->flags & PL_REQ_ABORTED))
    failed = pl__encode_chunk_last(req->out);
  if (failed)
    return failed;
  req->flags |= PL_REQ_DONE;
  touch(req);
  return 0;
}

int pl_res_problem(struct pl_req *req, uint32_t status, const char *detail,
                   uint32_t detail_bytes) {
  int failed = pl__encode_problem(req, (uint16_t)status,
                                  pl__slice(detail, detail_bytes));
  if (!failed)
    touch(req);
  return failed;
}

int pl_res_flush(struct pl_req *req) { return host()->flush(host()->arg, req); }

void pl_res_abort(struct pl_req *req) { host()->abort(host()->arg, req); }

/* --- files ------------------------------------------------------------- */

/* Opens `path`, below `root` when there is one: neither ".." nor a symbolic
 * link leads out of it (openat2, RESOLVE_BENEATH). */
static int file_open(const char *root, const char *path) {
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                         .resolve = RESOLVE_BENEATH};
  int folder, fd;

  if (!*root) {
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
  }
  folder = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    return -errno;
  while (*path == '/')
    path++;
  fd = (int)syscall(SYS_openat2, folder, *path ? path : ".", &how, sizeof how);
  if (fd < 0)
    fd = errno == EXDEV ? -EACCES : -errno;
  close(folder);
  return fd;
}

static int copy_path(char *to, const char *at, uint32_t bytes) {
  if (bytes >= RESPONSE_PATH_BYTES)
    return -ENAMETOOLONG;
  if (memchr(at, '\0', bytes))
    return -EINVAL;
  memcpy(to, at, bytes);
  to[bytes] = '\0';
  return 0;
}

static int64_t mtime_ns(const struct stat *st) {
  return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static void set_field(struct pl_req *req, struct pl_slice name,
                      const char *value, size_t bytes) {
  /* Names and values are ours and valid: only memory can fail, and a missing
   * validator is no wrong answer. */
  (void)pl__extra_set(req, name, pl__slice(value, bytes), 0);
}

static void set_validators(struct pl_req *req, const struct stat *st,
                           char *etag, uint32_t *etag_bytes) {
  char date[PL_DATE_BYTES];

  *etag_bytes = pl__etag_format((uint64_t)st->st_size, mtime_ns(st), etag);
  set_field(req, PL_SLICE("ETag"), etag, *etag_bytes);
  pl__date_format(st->st_mtim.tv_sec, date);
  set_field(req, PL_SLICE("Last-Modified"), date, sizeof date);
  set_field(req, PL_SLICE("Accept-Ranges"), "bytes", 5);
}

/* Content-Disposition (RFC 6266): the name in quotes, and where it isn't plain
 * ASCII also percent-encoded (RFC 8187). */
static void set_download(struct pl_req *req, const char *name, uint32_t bytes) {
  char value[2048];
  size_t n = (size_t)snprintf(value, sizeof value, "attachment; filename=\"");
  bool plain = true;

  for (uint32_t i = 0; i < bytes && n < 512; i++) {
    unsigned char ch = (unsigned char)name[i];
    bool safe = ch >= 0x20 && ch < 0x7f && ch != '"' && ch != '\\';
    value[n++] = safe ? (char)ch : '_';
    plain = plain && safe;
  }
  value[n++] = '"';
  if (!plain) {
    n += (size_t)snprintf(value + n, sizeof value - n, "; filename*=UTF-8''");
    for (uint32_t i = 0; i < bytes && n < sizeof value - 8; i++) {
      unsigned char ch = (unsigned char)name[i];
      bool token = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                   (ch >= '0' && ch <= '9') || ch == '.' || ch == '-' ||
                   ch == '_';
      if (token)
        value[n++] = (char)ch;
      else
        n += (size_t)snprintf(value + n, sizeof value - n, "%%%02X", ch);
    }
  }
  set_field(req, PL_SLICE("Content-Disposition"), value, n);
}

/* Answers without a body from the file: 304 or 416. */
static int file_answer_empty(struct pl_req *req, int fd, uint16_t status) {
  int failed;

  close(fd);
  failed = status == 416
               ? pl__encode_problem(req, status, PL_SLICE(""))
               : pl__encode_reply(req, status, PL_SLICE(""), PL_SLICE(""));
  if (!failed)
    touch(req);
  return failed;
}

static int file_send(struct pl_req *req, int fd, uint16_t status,
                     struct pl_slice type, uint64_t first, uint64_t bytes) {
  int failed = pl__encode_head(req, status, type, (int64_t)bytes);

  if (failed) {
    close(fd);
    return failed;
  }
  req->flags |= PL_REQ_DONE;
  if (bytes == 0 || !pl__reply_has_body(req, status)) {
    close(fd);
    touch(req);
    return 0;
  }
  req->sent_bytes = (double)bytes;
  return host()->send_file(host()->arg, req, fd, (off_t)first, bytes);
}

static int file_answer(struct pl_req *req, int fd, uint16_t status,
                       struct pl_slice type, const struct stat *st) {
  char etag[PL_ETAG_BYTES_MAX], range[80];
  uint32_t etag_bytes;
  uint64_t size = (uint64_t)st->st_size, first = 0, last = 0;
  struct pl_slice wanted = pl__headers_get(req, PL_SLICE("range"));
  bool may_be_partial = status == 200 && req->method == PL_METHOD_GET;

  set_validators(req, st, etag, &etag_bytes);
  struct pl_slice tag = {etag, etag_bytes};
  if (status == 200 && pl__is_not_modified(req, tag, st->st_mtim.tv_sec))
    return file_answer_empty(req, fd, 304);
  if (!may_be_partial || !pl__range_applies(req, tag, st->st_mtim.tv_sec))
    return file_send(req, fd, status, type, 0, size);
  switch (pl__range_parse(wanted, size, &first, &last)) {
  case PL_RANGE_NONE:
    set_field(req, PL_SLICE("Content-Range"), range,
              (size_t)snprintf(range, sizeof range, "bytes */%llu",
                               (unsigned long long)size));
    return file_answer_empty(req, fd, 416);
  case PL_RANGE_PART:
    set_field(req, PL_SLICE("Content-Range"), range,
              (size_t)snprintf(range, sizeof range, "bytes %llu-%llu/%llu",
                               (unsigned long long)first,
                               (unsigned long long)last,
                               (unsigned long long)size));
    return file_send(req, fd, 206, type, first, last - first + 1);
  case PL_RANGE_ALL:
    break;
  }
  return file_send(req, fd, status, type, 0, size);
}

/* A file that is a page, with its script: read, and sent as it is. */
static int page_send(struct pl_req *req, int fd, uint16_t status,
                     struct pl_slice media, off_t bytes, const char *script) {
  char *page = pl__alloc((size_t)bytes + 1);
  ssize_t n = page ? read(fd, page, (size_t)bytes) : -1;
  int failed =
      n < 0 ? PL_ENOMEM
            : send_page(req, status, media, pl__slice(page, (size_t)n), script);

  pl__free(page);
  close(fd);
  return failed;
}

int pl_res_file(struct pl_req *req, uint32_t status, const char *root,
                uint32_t root_bytes, const char *path, uint32_t path_bytes,
                const char *type, uint32_t type_bytes, const char *download,
                uint32_t download_bytes) {
  char folder[RESPONSE_PATH_BYTES], name[RESPONSE_PATH_BYTES];
  struct pl_slice media = {type, type_bytes};
  const char *script;
  struct stat st;
  int fd = copy_path(folder, root, root_bytes);

  if (!fd)
    fd = copy_path(name, path, path_bytes);
  if (!fd)
    fd = file_open(folder, name);
  if (fd < 0)
    return fd;
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
    close(fd);
    return S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
  }
  if (type_bytes == 0)
    media = pl__mime_find(pl__slice(path, path_bytes));
  if (download_bytes)
    set_download(req, download, download_bytes);
  script = page_script(req, status, media, (uint64_t)st.st_size);
  if (script && !download_bytes)
    return page_send(req, fd, (uint16_t)status, media, st.st_size, script);
  return file_answer(req, fd, (uint16_t)status, media, &st);
}
