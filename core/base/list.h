/* base/list.h - a doubly linked list whose links lie in its members.
 *
 * The list is a ring through a head that is no member.  A link that is in no
 * list points to itself, so removing twice does nothing.  Allocates nothing,
 * never fails, and knows no types: PL_LIST_ENTRY goes from link to member.
 */
#ifndef PL_BASE_LIST_H
#define PL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pl_list {
  struct pl_list *next;
  struct pl_list *prev;
};

/* The struct of `type` whose field `member` is at `link`. */
#define PL_LIST_ENTRY(link, type, member)                                      \
  ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* Walks from the first link to the last.  The current one may be removed, no
 * other. */
#define PL_LIST_EACH(link, after, head)                                        \
  for ((link) = (head)->next, (after) = (link)->next; (link) != (head);        \
       (link) = (after), (after) = (link)->next)

/* Makes an empty list, or a link that is in none. */
static inline void pl__list_init(struct pl_list *l) { l->next = l->prev = l; }

static inline bool pl__list_is_empty(const struct pl_list *head) {
  return head->next == head;
}

/* Puts `link`, which is in no list, before `at`. */
static inline void pl__list_insert(struct pl_list *at, struct pl_list *link) {
  link->next = at;
  link->prev = at->prev;
  at->prev->next = link;
  at->prev = link;
}

static inline void pl__list_push_back(struct pl_list *head,
                                      struct pl_list *link) {
  pl__list_insert(head, link);
}

static inline void pl__list_push_front(struct pl_list *head,
                                       struct pl_list *link) {
  pl__list_insert(head->next, link);
}

/* Takes `link` out of whatever list it is in, if any. */
static inline void pl__list_remove(struct pl_list *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
  pl__list_init(link);
}

/* The first link, still in the list; NULL when it is empty. */
static inline struct pl_list *pl__list_first(const struct pl_list *head) {
  return head->next == head ? NULL : head->next;
}

/* Takes the first link out; NULL when the list is empty. */
static inline struct pl_list *pl__list_take_front(struct pl_list *head) {
  struct pl_list *link = pl__list_first(head);
  if (link)
    pl__list_remove(link);
  return link;
}

/* Takes the last link out; NULL when the list is empty. */
static inline struct pl_list *pl__list_take_back(struct pl_list *head) {
  struct pl_list *link = head->prev;
  if (link == head)
    return NULL;
  pl__list_remove(link);
  return link;
}

#endif /* PL_BASE_LIST_H */
