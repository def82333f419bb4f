/* bench/idle.c - opens many keep-alive connections to 127.0.0.1, sends one
 * request on each, reads its answer, and then does nothing.
 *
 * Prints "open N" when all are idle, holds them for the given time, and prints
 * "closed K": how many of them the server has ended meanwhile.  Requests are in
 * flight on at most WAVE connections at a time.
 *
 * Usage: idle PORT COUNT HOLD_SECONDS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
  WAVE = 64,
  COUNT_MAX = 100000,
  HOLD_S_MAX = 600,
  REPLY_BYTES_MAX = 4096
};

static void die(const char *what) {
  fprintf(stderr, "idle: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void descriptors_raise(long count) {
  struct rlimit limit;

  if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
    die("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < (rlim_t)count + 16) {
    fprintf(stderr, "idle: only %lu descriptors: raise ulimit -n\n",
            (unsigned long)limit.rlim_max);
    exit(1);
  }
}

static int open_one(long port) {
  static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
  const struct timeval limit = {.tv_sec = 10};
  struct sockaddr_in addr = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int fd = socket(AF_INET, SOCK_STREAM, 0);

  if (fd < 0)
    die("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
    die("connect");
  if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
    die("send");
  return fd;
}

/* Reads until the body's last bytes have come; all servers send the same. */
static void read_answer(int fd) {
  static const char last[] = "Hello, World!";
  char bytes[REPLY_BYTES_MAX];
  size_t count = 0;

  while (!memmem(bytes, count, last, sizeof last - 1)) {
    ssize_t n = recv(fd, bytes + count, sizeof bytes - count, 0);
    if (n <= 0)
      die("answer");
    count += (size_t)n;
  }
}

static bool is_closed(int fd) {
  char byte;
  ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
  return n == 0 || (n < 0 && errno != EAGAIN);
}

int main(int argc, char **argv) {
  static int fds[COUNT_MAX];

  if (argc != 4) {
    fprintf(stderr, "usage: idle PORT COUNT HOLD_SECONDS\n");
    return 2;
  }
  long port = strtol(argv[1], NULL, 10), count = strtol(argv[2], NULL, 10);
  long hold_s = strtol(argv[3], NULL, 10), closed = 0;
  if (port < 1 || port > 65535 || count < 1 || count > COUNT_MAX ||
      hold_s < 0 || hold_s > HOLD_S_MAX) {
    fprintf(stderr, "idle: argument out of range\n");
    return 2;
  }
  descriptors_raise(count);

  for (long i = 0; i < count; i++) {
    fds[i] = open_one(port);
    if (i % WAVE == WAVE - 1 || i == count - 1)
      for (long k = i - i % WAVE; k <= i; k++)
        read_answer(fds[k]);
  }
  printf("open %ld\n", count);
  fflush(stdout);
  sleep((unsigned)hold_s);
  for (long i = 0; i < count; i++)
    closed += is_closed(fds[i]);
  printf("closed %ld\n", closed);
  return 0;
}
