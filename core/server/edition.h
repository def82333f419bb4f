/* server/edition.h - what a generation's bundle holds beside files: the
 * configuration that it was tried with, and whether the app is to be watched.
 *
 * The bundle of the committed generation is what every worker loads, be it
 * started anew or told to reload; none of them looks at the disk.
 */
#ifndef PL_SERVER_EDITION_H
#define PL_SERVER_EDITION_H

#include <stdbool.h>
#include <stdint.h>

struct pl_bundle;
struct pl_config;

/* Adds the configuration to a bundle that is being written, its settings to the
 * hash.  Returns 0 or PL_EFULL. */
int pl__edition_write(struct pl_bundle *b, const struct pl_config *config);

/* The app has health checks or rules: somebody beside the workers has to load it.
 * Returns 0 or PL_EFULL. */
int pl__edition_mark_watched(struct pl_bundle *b);
bool pl__edition_is_watched(const struct pl_bundle *b);

/* The configuration in the bundle of a generation, to be freed with
 * pl__config_deinit.  For forks of the process that resolved it, or of its
 * master: texts of the program are where they were.
 * Returns 0, PL_ENOMEM, or PL_EGONE: the bundle is of another generation. */
int pl__edition_read(const struct pl_bundle *b, uint32_t generation,
                     struct pl_config *out);

#endif /* PL_SERVER_EDITION_H */
