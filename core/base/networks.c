/* base/networks.c - see networks.h. */
#include "base/networks.h"

#include "base/err.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>

#define NETWORK_TEXT_BYTES 64 /* room for one of them, NUL included */

static uint8_t bits_max(uint8_t family) {
  return family == PL_PEER_IPV4 ? 32 : 128;
}

static int has_bits_behind(const struct pl_network *n) {
  for (unsigned bit = n->bits; bit < bits_max(n->family); bit++)
    if (n->address[bit / 8] & 0x80u >> bit % 8)
      return 1;
  return 0;
}

static int parse_bits(struct pl_network *n, const char *text) {
  uint64_t bits;

  if (pl__text_number(pl__slice_text(text), bits_max(n->family), &bits))
    return PL_EINVAL;
  n->bits = (uint8_t)bits;
  return has_bits_behind(n) ? PL_EINVAL : 0;
}

/* One without white space; `text` is changed. */
static int parse_one(struct pl_network *n, char *text) {
  char *slash = strchr(text, '/');

  memset(n, 0, sizeof *n);
  if (strcmp(text, "unix") == 0) {
    n->family = PL_PEER_UNIX;
    return 0;
  }
  if (slash)
    *slash = '\0';
  if (inet_pton(AF_INET, text, n->address) == 1)
    n->family = PL_PEER_IPV4;
  else if (inet_pton(AF_INET6, text, n->address) == 1)
    n->family = PL_PEER_IPV6;
  else
    return PL_EINVAL;
  n->bits = bits_max(n->family);
  return slash ? parse_bits(n, slash + 1) : 0;
}

int pl__networks_parse(struct pl_networks *n, const char *text) {
  struct pl_networks list = {0};

  while (*text) {
    char one[NETWORK_TEXT_BYTES];
    size_t bytes = strcspn(text, ",");
    const char *next = text + bytes + (text[bytes] == ',');

    while (bytes && *text == ' ')
      text++, bytes--;
    while (bytes && text[bytes - 1] == ' ')
      bytes--;
    if (bytes >= sizeof one || list.count == PL_NETWORKS_MAX)
      return PL_EINVAL;
    memcpy(one, text, bytes);
    one[bytes] = '\0';
    if (parse_one(&list.at[list.count++], one))
      return PL_EINVAL;
    text = next;
  }
  *n = list;
  return 0;
}

static int has(const struct pl_network *n, const struct pl_peer *peer) {
  unsigned whole = n->bits / 8, rest = n->bits % 8;

  if (n->family != peer->family || memcmp(n->address, peer->address, whole))
    return 0;
  return !rest || (n->address[whole] ^ peer->address[whole]) >> (8 - rest) == 0;
}

int pl__networks_have(const struct pl_networks *n, const struct pl_peer *peer) {
  for (uint32_t i = 0; i < n->count; i++)
    if (has(&n->at[i], peer))
      return 1;
  return 0;
}
