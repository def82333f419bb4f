/* fabric/record.h - what processes tell the log: the layout of its records.
 *
 * A record is a fixed head followed by what its kind has.  It is written in
 * one go into the process's own ring and formatted by another process (room
 * log); so every room can log and none waits.  No function here allocates.
 *
 * A ring that fills up keeps its last part for what matters more: debug is
 * dropped past 1/2, info and access records past 3/4, warnings past 9/10.
 * The last tenth is the reserve of errors, which outlives the process.  An
 * error that finds not even there a place waits for the reader, as long as it
 * reads, and then goes where the writer's `overflow` puts it: it is dropped
 * only if that fails, or if there is none.
 * Drops are counted per level in the ring, and the log tells how many.
 *
 * Texts are bytes as they came: the log makes valid UTF-8 of them.
 *
 * Whose request a record belongs to stands in its head: numbers there, texts
 * (the labels) right behind it.
 */
#ifndef PL_FABRIC_RECORD_H
#define PL_FABRIC_RECORD_H

#include "base/limits.h"
#include "base/peer.h"
#include "base/slice.h"
#include "fabric/ring.h"

enum pl_record_kind { PL_RECORD_LOG = 1, PL_RECORD_ACCESS = 2 };

enum pl_level { PL_LEVEL_DEBUG, PL_LEVEL_INFO, PL_LEVEL_WARN, PL_LEVEL_ERROR };

/* "debug", "info", "warn", "error"; "?" of a number that is no level. */
const char *pl__level_name(unsigned level);

enum pl_field_type { PL_FIELD_STRING = 1, PL_FIELD_NUMBER, PL_FIELD_BOOL };

#define PL_RECORD_USUAL_BYTES 1024u

#define PL_RECORD_NO_ROUTE UINT32_MAX
#define PL_RECORD_MASTER 0xffffu  /* `worker` of the master's records */
#define PL_RECORD_CONTROL 0xfffeu /* and of control's */
#define PL_RECORD_TRIAL 0xfffdu   /* and of one that tries a generation out */
#define PL_RECORD_EXPORTER                                                     \
  0xfffcu /* whose ring is that of control's exporter;
                                      its records say that they are control's */

/* The head of every record. */
struct pl_record {
  uint8_t kind;            /* enum pl_record_kind */
  uint8_t level;           /* enum pl_level */
  uint16_t worker;         /* number of the worker, or PL_RECORD_MASTER, ... */
  uint32_t route;          /* route id, or PL_RECORD_NO_ROUTE */
  int64_t time_ns;         /* realtime */
  uint64_t request_id;     /* 0: belongs to no request */
  uint64_t trace_id[2];    /* high, low; both 0: none */
  uint64_t span_id;        /* 0: none */
  uint32_t generation;     /* of the app, which the route's id is of; 0: none */
  uint8_t tenant_bytes;    /* of the labels, set by pl__record_begin_for */
  uint8_t caller_id_bytes; /* likewise */
  uint16_t zero;
};

/* Texts of whose request it is; empty: none. */
struct pl_record_labels {
  struct pl_slice tenant;    /* at most PL_LIMIT_TENANT_BYTES are kept */
  struct pl_slice caller_id; /* the request id as a peer has given it, shown in
                                the place of request_id; at most
                                PL_LIMIT_REQUEST_ID_BYTES are kept */
};

/* One answered request, as the caller hands it over. */
struct pl_access {
  int64_t time_ns; /* realtime, when it was answered; 0: now, coarsely */
  uint64_t request_id;
  uint64_t trace_id[2]; /* as in the head */
  uint64_t span_id;
  struct pl_record_labels labels; /* copied */
  uint64_t duration_ns;
  uint64_t bytes_in;  /* received, of the body */
  uint64_t bytes_out; /* sent, of the body */
  uint32_t route;     /* or PL_RECORD_NO_ROUTE */
  uint32_t generation;
  uint16_t worker;
  uint16_t status;
  uint8_t method; /* enum pl_method */
  uint8_t http_minor;
  uint8_t aborted; /* 1: the client was gone before the end */
  struct pl_peer peer;
  struct pl_slice target; /* copied, at most PL_LIMIT_LOG_TARGET_BYTES */
};

/* Writes an access record and publishes it; the reader is not woken (see
 * pl__ring_wake).  Returns 0, or PL_EFULL: it is counted as dropped. */
int pl__record_access(struct pl_ring_writer *w, const struct pl_access *a);

/* A LOG record in the making, in memory of the caller's. */
struct pl_record_draft {
  char *at;       /* the caller's memory */
  uint32_t bytes; /* filled */
  uint32_t cap;   /* its size, at most PL_LIMIT_LOG_RECORD_BYTES are used */
  uint32_t body;  /* where what follows the labels begins */
};

/* How much of `text` stays when there is room for `max` bytes: not half of a
 * UTF-8 character. */
uint32_t pl__record_cut(struct pl_slice text, uint32_t max);

/* Begins a record.
 *
 *   memory   aligned to 8, 256 bytes or more, up to PL_LIMIT_LOG_RECORD_BYTES
 *            make sense; the caller's, in use until pl__record_end
 *   head     copied; kind is set, and time_ns when it is 0
 *   message  copied; cut at PL_LIMIT_LOG_MESSAGE_BYTES or when memory ends
 */
void pl__record_begin(struct pl_record_draft *d, void *memory, uint32_t bytes,
                      const struct pl_record *head, struct pl_slice message);
/* The same with labels, which are copied. */
void pl__record_begin_for(struct pl_record_draft *d, void *memory,
                          uint32_t bytes, const struct pl_record *head,
                          const struct pl_record_labels *labels,
                          struct pl_slice message);

/* Add a field.  Keys and texts that are too long are cut, fields for which
 * there is no room or no count left are left out; the record tells both. */
void pl__record_str(struct pl_record_draft *d, struct pl_slice key,
                    struct pl_slice value);
void pl__record_num(struct pl_record_draft *d, struct pl_slice key,
                    double value);
void pl__record_bool(struct pl_record_draft *d, struct pl_slice key, int value);

/* Whether a record of that level is worth making: there is room for one of
 * PL_RECORD_USUAL_BYTES.  Errors always are. */
bool pl__record_has_room(struct pl_ring_writer *w, enum pl_level level);

/* Copies the record into the ring and publishes it; the reader is not woken,
 * but for an error that waits for room.  Returns 0, or PL_EFULL: it is counted
 * as dropped. */
int pl__record_end(struct pl_record_draft *d, struct pl_ring_writer *w);

/* The same, but the record may fill the ring to its last byte whatever its
 * level, and one that finds no room is not counted: what counts others, and
 * would be written again. */
int pl__record_try_end(struct pl_record_draft *d, struct pl_ring_writer *w);

/* A record without fields, in one call; a message past some 2000 bytes is cut.
 * Returns as pl__record_end. */
int pl__record_text(struct pl_ring_writer *w, const struct pl_record *head,
                    struct pl_slice message);
/* One with a text, or with none where `value` is NULL. */
int pl__record_with(struct pl_ring_writer *w, const struct pl_record *head,
                    const char *message, const char *key, const char *value);

/* Copies a record that was read from another ring, and publishes it.  Nobody is
 * waited for or woken.  Returns 0; PL_EFULL: it is counted as dropped; PL_EBAD: it is
 * none. */
int pl__record_copy(struct pl_ring_writer *w, const void *record,
                    uint32_t bytes);

/* --- reading ---------------------------------------------------------- */

/* A view into a record; its slices point into the ring. */
struct pl_record_access_view {
  struct pl_access access;   /* target cut; time_ns set */
  uint32_t target_cut_bytes; /* cut off the target */
};

struct pl_record_log_view {
  struct pl_slice message;
  uint32_t message_cut_bytes; /* cut off the message */
  uint32_t fields_left_out;   /* fields that found no room */
  uint32_t field_count;
  const char *fields; /* for pl__record_field */
  const char *end;
};

struct pl_field {
  struct pl_slice key;
  struct pl_slice text; /* PL_FIELD_STRING */
  double number;        /* PL_FIELD_NUMBER; PL_FIELD_BOOL: 0 or 1 */
  uint32_t cut_bytes;   /* cut off the text */
  uint8_t type;         /* enum pl_field_type */
};

/* Reads the head.  Returns 0, or PL_EBAD: `bytes` at `at` are no record. */
int pl__record_read(const void *at, uint32_t bytes, struct pl_record *head);
/* The labels of a record whose head was read; they point into it. */
struct pl_record_labels pl__record_labels(const void *at,
                                          const struct pl_record *head);

/* Read the rest of a record whose head said it is of that kind.  Return 0 or
 * PL_EBAD; every length is checked, nothing outside the record is read. */
int pl__record_read_access(const void *at, uint32_t bytes,
                           struct pl_record_access_view *view);
int pl__record_read_log(const void *at, uint32_t bytes,
                        struct pl_record_log_view *view);

/* Takes the next field off the view.  Returns 1, 0 when there is none, or
 * PL_EBAD. */
int pl__record_field(struct pl_record_log_view *view, struct pl_field *field);

#endif /* PL_FABRIC_RECORD_H */
