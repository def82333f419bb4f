/* vm/json_reply.h - JSON replies in one C call.
 *
 * A table that a handler returns is encoded here straight into the response,
 * when it is plain and small: no Lua string is made, and the runner, which is
 * interpreted, pays for one C call.  Whatever is unusual (large, deep, cdata,
 * metatables, holes, bad UTF-8) is left to the encoder in Lua, which can be
 * preempted and has the words for what is wrong.  Both write the same bytes:
 * they use the same functions of bind_json.h.
 */
#ifndef PL_VM_JSON_REPLY_H
#define PL_VM_JSON_REPLY_H

struct lua_State;

/* A larger document is left to Lua: C code cannot be preempted, and this much
 * takes some hundred microseconds. */
#define PL_JSON_REPLY_BYTES_MAX 65536

/* reply_json(value, status, type) -> true when the running request has been
 * answered with it; false: nothing was written. */
int pl__json_reply(struct lua_State *L);

#endif /* PL_VM_JSON_REPLY_H */
