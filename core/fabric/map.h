/* fabric/map.h - the memory that all processes of one server share.
 *
 * One memfd, mapped by the master before it forks: so it lies at the same
 * address in every process, and plain pointers into it are valid everywhere.
 * It outlives each worker.  Its size is fixed when it is made (and sealed);
 * pages cost nothing before they are touched.
 *
 * It is divided into named sections.  Who looks one up says which version and
 * element size it was built for, so two halves that disagree find out before
 * they touch anything.  The table of sections cannot be written to once it is
 * made.  What a section means is its owner's business.
 */
#ifndef PL_FABRIC_MAP_H
#define PL_FABRIC_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PL_FABRIC_NAME_BYTES 24    /* of a section, NUL included */
#define PL_FABRIC_ERROR_BYTES 160  /* room for a sentence about a failure */
#define PL_FABRIC_PAGE_BYTES 4096u /* sections begin at multiples of it */

/* One section that is wanted. */
struct pl_fabric_section {
  char name[PL_FABRIC_NAME_BYTES]; /* NUL-terminated, unique, not empty */
  uint32_t version;                /* of what lies in it; the owner's number */
  uint32_t element_bytes;          /* size of one element, not 0 */
  uint64_t element_count;          /* how many, not 0 */
};

/* One process's handle; the fabric itself lies at `base`. */
struct pl_fabric {
  char *base;     /* NULL when closed */
  uint64_t bytes; /* mapped */
  int fd;         /* the memfd, close-on-exec; -1 when closed */
};

/* Fills in a section's name, "log.0" from ("log", 0), or "routes" from
 * ("routes", -1).  Returns 0, or PL_EINVAL when it does not fit. */
int pl__fabric_name(struct pl_fabric_section *s, const char *stem, int number);

/* Makes a fabric with the given sections, all bytes zero.
 *
 *   sections  `count` of them, copied; at most PL_LIMIT_SECTION_COUNT
 *   error     PL_FABRIC_ERROR_BYTES; a sentence on failure, "" else
 *
 * Returns 0, or with nothing held: PL_EINVAL (a bad or repeated section),
 * PL_EFULL (too many sections, or sizes that overflow), or a negated errno of
 * memfd_create, ftruncate, fcntl or mmap. */
int pl__fabric_open(struct pl_fabric *f,
                    const struct pl_fabric_section *sections, uint32_t count,
                    char *error);

/* Unmaps it in this process; when the last one has, it is gone.  Closing twice
 * does nothing. */
void pl__fabric_close(struct pl_fabric *f);

/* Finds the section `name`.  *at is its first element and *count (may be NULL)
 * how many there are.  Returns 0, PL_EINVAL when there is none of that name,
 * PL_EVERSION when version or element size differ. */
int pl__fabric_find(const struct pl_fabric *f, const char *name,
                    uint32_t version, uint32_t element_bytes, void **at,
                    uint64_t *count);

/* Finds the section by stem and number, as pl__fabric_name joins them. */
int pl__fabric_find_number(const struct pl_fabric *f, const char *stem,
                           int number, uint32_t version, uint32_t element_bytes,
                           void **at, uint64_t *count);

/* Gives the pages that lie whole in [at, at + bytes) back to the system; they
 * read as zero afterwards, in every process.  Returns 0 or a negated errno, as
 * when the memory is no fabric. */
int pl__fabric_punch(void *at, size_t bytes);

/* The section of that number, from 0, and how many of its bytes take memory now.
 * For readers that list them; what they hold is still their owner's business.
 * False: there is none of that number, or the system doesn't say. */
bool pl__fabric_section(const struct pl_fabric *f, uint32_t index,
                        struct pl_fabric_section *s, uint64_t *resident_bytes);

/* Bytes of the fabric that take memory now.  Returns 0 or a negated errno. */
int pl__fabric_resident(const struct pl_fabric *f, uint64_t *bytes);

#endif /* PL_FABRIC_MAP_H */
