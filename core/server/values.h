/* server/values.h - the configuration as Lua sees it (core.config). */
#ifndef PL_SERVER_VALUES_H
#define PL_SERVER_VALUES_H

#include "vm/vm.h"

struct pl_config;

/* Fills in key and value pairs that point into `config`; the last one has key
 * NULL. max: room, that one included. */
void pl__values_fill(const struct pl_config *config, struct pl_vm_value *out,
                     uint32_t max);

#endif /* PL_SERVER_VALUES_H */
