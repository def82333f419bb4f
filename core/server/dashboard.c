/* server/dashboard.c - see dashboard.h. */
#include "server/dashboard.h"

struct pl_slice pl__dashboard_file(struct pl_slice name) {
  const struct {
    struct pl_slice name, text;
  } files[] = {
      {PL_SLICE("html"),
       pl__slice(pl__dashboard_html, pl__dashboard_html_bytes)},
      {PL_SLICE("css"), pl__slice(pl__dashboard_css, pl__dashboard_css_bytes)},
      {PL_SLICE("js"), pl__slice(pl__dashboard_js, pl__dashboard_js_bytes)},
  };

  for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
    if (pl__slice_equal(files[i].name, name))
      return files[i].text;
  return pl__slice("", 0);
}
