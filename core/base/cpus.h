/* base/cpus.h - how many CPUs this process may really use.
 *
 * The smaller of what it may run on (affinity) and what its control group
 * grants it (quota over period, rounded up), in cgroup v1 and v2, its own
 * group and all above it that can be seen.  Files that are absent or not
 * readable grant everything.
 */
#ifndef PL_BASE_CPUS_H
#define PL_BASE_CPUS_H

/* At least 1. */
int pl__cpus_usable(void);

/* What control groups grant, or 0 when they set no limit.  Files are looked
 * for under `root` ("" is the machine itself): ROOT/proc/self/cgroup and
 * ROOT/sys/fs/cgroup. */
int pl__cpus_granted(const char *root);

#endif /* PL_BASE_CPUS_H */
