#include "http/mime.h"

#include <stddef.h>

#define TYPES(X)                                                               \
  X("html", "text/html; charset=utf-8")                                        \
  X("css", "text/css; charset=utf-8")                                          \
  X("js", "text/javascript; charset=utf-8")                                    \
  X("mjs", "text/javascript; charset=utf-8")                                   \
  X("json", "application/json")                                                \
  X("txt", "text/plain; charset=utf-8")                                        \
  X("png", "image/png")                                                        \
  X("jpg", "image/jpeg")                                                       \
  X("jpeg", "image/jpeg")                                                      \
  X("svg", "image/svg+xml")                                                    \
  X("gif", "image/gif")                                                        \
  X("webp", "image/webp")                                                      \
  X("avif", "image/avif")                                                      \
  X("ico", "image/vnd.microsoft.icon")                                         \
  X("bmp", "image/bmp")                                                        \
  X("woff2", "font/woff2")                                                     \
  X("woff", "font/woff")                                                       \
  X("ttf", "font/ttf")                                                         \
  X("otf", "font/otf")                                                         \
  X("htm", "text/html; charset=utf-8")                                         \
  X("xml", "text/xml; charset=utf-8")                                          \
  X("csv", "text/csv; charset=utf-8")                                          \
  X("md", "text/markdown; charset=utf-8")                                      \
  X("log", "text/plain; charset=utf-8")                                        \
  X("lua", "text/plain; charset=utf-8")                                        \
  X("ics", "text/calendar; charset=utf-8")                                     \
  X("vtt", "text/vtt; charset=utf-8")                                          \
  X("map", "application/json")                                                 \
  X("webmanifest", "application/manifest+json")                                \
  X("jsonld", "application/ld+json")                                           \
  X("wasm", "application/wasm")                                                \
  X("pdf", "application/pdf")                                                  \
  X("zip", "application/zip")                                                  \
  X("gz", "application/gzip")                                                  \
  X("tar", "application/x-tar")                                                \
  X("rtf", "application/rtf")                                                  \
  X("atom", "application/atom+xml")                                            \
  X("rss", "application/rss+xml")                                              \
  X("xhtml", "application/xhtml+xml")                                          \
  X("mp3", "audio/mpeg")                                                       \
  X("m4a", "audio/mp4")                                                        \
  X("ogg", "audio/ogg")                                                        \
  X("oga", "audio/ogg")                                                        \
  X("opus", "audio/ogg")                                                       \
  X("wav", "audio/wav")                                                        \
  X("flac", "audio/flac")                                                      \
  X("aac", "audio/aac")                                                        \
  X("mp4", "video/mp4")                                                        \
  X("webm", "video/webm")                                                      \
  X("ogv", "video/ogg")                                                        \
  X("mpeg", "video/mpeg")                                                      \
  X("mov", "video/quicktime")

static const struct {
  struct pl_slice extension, type;
} TABLE[] = {
#define ENTRY(extension, type)                                                 \
  {{extension, sizeof(extension) - 1}, {type, sizeof(type) - 1}},
    TYPES(ENTRY)
#undef ENTRY
};

struct pl_slice pl__mime_find(struct pl_slice path) {
  uint32_t i = path.bytes;
  while (i && path.at[i - 1] != '.' && path.at[i - 1] != '/')
    i--;
  if (i && path.at[i - 1] == '.') {
    struct pl_slice extension = pl__slice(path.at + i, path.bytes - i);
    for (size_t k = 0; k < sizeof(TABLE) / sizeof(*TABLE); k++)
      if (pl__slice_equal_nocase(extension, TABLE[k].extension))
        return TABLE[k].type;
  }
  return PL_SLICE("application/octet-stream");
}
