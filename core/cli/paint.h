/* cli/paint.h - colour, where a person looks at it.
 *
 * Decided per stream: none without a terminal, with NO_COLOR set to anything,
 * or with TERM=dumb; FORCE_COLOR turns it on.
 */
#ifndef PL_CLI_PAINT_H
#define PL_CLI_PAINT_H

enum paint { PAINT_BOLD, PAINT_ERROR, PAINT_DIM };

/* What begins and what ends a colour on descriptor `fd`; "" when there is to
 * be none. Static. */
const char *pl__cli_paint(int fd, enum paint paint);
const char *pl__cli_paint_end(int fd);

#endif /* PL_CLI_PAINT_H */
