/* server/client_js.h - the text of client.js, which the build puts into the
 * program (server/embed.cmake).
 */
#ifndef PL_SERVER_CLIENT_JS_H
#define PL_SERVER_CLIENT_JS_H

extern const char pl__client_js[]; /* NUL-terminated */
extern const unsigned pl__client_js_bytes;

#endif /* PL_SERVER_CLIENT_JS_H */
