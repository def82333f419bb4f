/* fabric/dict_room.h - free blocks for a new entry of a dictionary.
 *
 * They come from the pool, or else from entries that are evicted: the hand of a
 * shard goes round its buckets, as fabric/dict.h says.
 *
 * Only the dictionary's own files include it.
 */
#ifndef PL_FABRIC_DICT_ROOM_H
#define PL_FABRIC_DICT_ROOM_H

#include "fabric/dict.h"

/* Sees to it that the shard, whose lock is held, has `want` free blocks, from
 * the pool or by letting the hand go round, twice at most.  False: it has less.
 */
bool pl__dict_room_make(const struct pl_dict_user *u, struct pl_shard *s,
                        uint32_t want, int64_t now_ms);

/* Evicts entries of another shard and leaves their blocks to the pool, so that
 * `mine` could have `want`.  With no lock held. */
void pl__dict_room_elsewhere(const struct pl_dict_user *u,
                             struct pl_shard *mine, struct pl_shard *other,
                             uint32_t want, int64_t now_ms);

#endif /* PL_FABRIC_DICT_ROOM_H */
