/* server/dashboard.h - the page of the admin plane: dashboard.html, .css and .js,
 * which the build puts into the program (server/embed.cmake).  They are served as
 * they are, by lua/perilune/admin/dashboard.lua.
 */
#ifndef PL_SERVER_DASHBOARD_H
#define PL_SERVER_DASHBOARD_H

#include "base/slice.h"

extern const char pl__dashboard_html[]; /* all NUL-terminated */
extern const unsigned pl__dashboard_html_bytes;
extern const char pl__dashboard_css[];
extern const unsigned pl__dashboard_css_bytes;
extern const char pl__dashboard_js[];
extern const unsigned pl__dashboard_js_bytes;

/* "html", "css" or "js"; 0 bytes: there is no other. */
struct pl_slice pl__dashboard_file(struct pl_slice name);

#endif /* PL_SERVER_DASHBOARD_H */
