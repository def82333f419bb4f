/* server/values.c - see values.h. */
#include "server/values.h"
#include "base/cpus.h"
#include "fabric/record.h"
#include "server/config.h"

void pl__values_fill(const struct pl_config *c, struct pl_vm_value *out,
                     uint32_t max) {
  const struct pl_vm_value all[] = {
      {"name", c->name, 0},
      {"workers", NULL, c->workers},
      {"timeouts.header", NULL, c->timeout_header_s},
      {"timeouts.body", NULL, c->timeout_body_s},
      {"timeouts.idle", NULL, c->timeout_idle_s},
      {"timeouts.write", NULL, c->timeout_write_s},
      {"timeouts.handler", NULL, c->timeout_handler_s},
      {"timeouts.drain", NULL, c->timeout_drain_s},
      {"timeouts.pre_drain", NULL, c->timeout_pre_drain_s},
      {"limits.output", NULL, (double)c->limit_output_bytes},
      {"limits.target", NULL, (double)c->limit_target_bytes},
      {"limits.headers", NULL, (double)c->limit_headers_bytes},
      {"limits.header_count", NULL, (double)c->limit_header_count},
      {"limits.body", NULL, (double)c->limit_body_bytes},
      {"limits.connections", NULL, (double)c->limit_connections},
      {"limits.requests_per_connection", NULL,
       (double)c->limit_requests_per_connection},
      {"limits.tasks", NULL, (double)c->limit_tasks},
      {"limits.tasks_per_worker", NULL, (double)c->limit_tasks_per_worker},
      {"vm.slice", NULL, c->vm_slice_s},
      {"vm.load_timeout", NULL, c->vm_load_timeout_s},
      {"vm.memory_soft", NULL, (double)c->vm_memory_soft_bytes},
      {"vm.memory_hard", NULL, (double)c->vm_memory_hard_bytes},
      {"vm.stuck_timeout", NULL, c->vm_stuck_timeout_s},
      {"vm.quarantine", NULL, c->vm_quarantine_s},
      {"leaks.collect", NULL, c->leaks_collect_s},
      {"leaks.after", NULL, c->leaks_after_s},
      {"leaks.window", NULL, c->leaks_window_s},
      {"shared.memory", NULL, (double)c->shared_memory_bytes},
      {"metrics.series_max", NULL, (double)c->metrics_series_max},
      {"recorder.on", NULL, c->recorder_on},
      {"actions.on", NULL, c->actions_on},
      {"actions.p99", NULL, c->actions_p99_s},
      {"actions.allocation", NULL, (double)c->actions_allocation_bytes},
      {"actions.workers_max", NULL, (double)c->actions_workers_max},
      {"cpus", NULL, pl__cpus_usable()},
      {"context.request_id_header", c->context_request_id_header, 0},
      {"context.tenant_header", c->context_tenant_header, 0},
      {"context.tier_header", c->context_tier_header, 0},
      {"log.level", pl__level_name(c->log_level), 0},
  };
  uint32_t n = sizeof all / sizeof *all;

  if (n >= max)
    n = max - 1;
  memcpy(out, all, n * sizeof *all);
  out[n] = (struct pl_vm_value){0};
}
