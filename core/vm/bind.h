/* vm/bind.h - the C module "perilune.core" and how it gets into a VM. */
#ifndef PL_VM_BIND_H
#define PL_VM_BIND_H

struct lua_State;
struct pl_vm;

/* Puts "perilune.core" and "perilune.core.json" into package.preload. Raises
 * on no memory. */
void pl__bind_core(struct lua_State *L);
/* Adds the functions of bind_inject.c to the module on top of the stack. */
void pl__bind_inject(struct lua_State *L);

/* Adds those of bind_traces.c, likewise. */
void pl__bind_traces(struct lua_State *L);

/* Gives back what bind_shared.c has made for the VM. */
void pl__bind_shared_close(struct pl_vm *vm);

/* What bind_metric.c counts for the VM: it begins to serve, on the thread that
 * counts in the process's shard; it is about to be closed; it was. */
void pl__bind_metric_start(struct pl_vm *vm);
void pl__bind_metric_leave(struct pl_vm *vm);
void pl__bind_metric_close(struct pl_vm *vm);

#endif /* PL_VM_BIND_H */
