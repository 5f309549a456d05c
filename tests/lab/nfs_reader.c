/* nfs_reader PORT HANDLE SIZE: READs the file of this NFS handle (hexadecimal) from start to end, eight calls of 1 MiB
 * under way, and prints seconds and the bytes received, the replies' heads left out. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STEP = 1 << 20, DEPTH = 8 };
static uint32_t call[64];
static int words, offset_at, file;
static unsigned char buffer[STEP + 4096];

static void word(uint32_t value) { call[words++] = htonl(value); }

static void receive(void *into, size_t size) {
  for (char *at = into; size;) {
    ssize_t got = recv(file, at, size, MSG_WAITALL);
    if (got <= 0) { fprintf(stderr, "the server hung up\n"); exit(1); }
    at += got;
    size -= got;
  }
}

static void ask(uint32_t xid, uint64_t offset) {
  call[1] = htonl(xid);
  call[offset_at] = htonl(offset >> 32);
  call[offset_at + 1] = htonl((uint32_t)offset);
  if (send(file, call, words * 4, 0) != words * 4) exit(1);
}

int main(int count, char **argument) {
  if (count != 4) return 2;
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(argument[1]))};
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  uint64_t size = strtoull(argument[3], 0, 10), asked = 0, got = 0;
  int length = strlen(argument[2]) / 2, one = 1;
  unsigned char handle[64];
  for (int i = 0; i < length; i++) sscanf(argument[2] + 2 * i, "%2hhx", handle + i);
  word(0); /* the record's length, below */
  word(0); word(0); word(2); word(100003); word(3); word(6);
  word(1); word(20); word(0); word(0); word(getuid()); word(getgid()); word(0); word(0); word(0);
  word(length);
  memcpy(call + words, handle, length);
  words += length / 4;
  offset_at = words;
  word(0); word(0); word(STEP);
  call[0] = htonl(0x80000000u | (words * 4 - 4));
  file = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(file, (void *)&place, sizeof place)) { perror("connect"); return 1; }
  struct timespec begun, ended;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  uint32_t xid = 1;
  int waiting = 0;
  while (got < size) {
    for (; waiting < DEPTH && asked < size; waiting++, asked += STEP) ask(xid++, asked);
    uint32_t mark;
    receive(&mark, 4);
    uint32_t record = ntohl(mark) & 0x7fffffff;
    if (record > sizeof buffer) return 1;
    receive(buffer, record);
    uint32_t *reply = (void *)buffer;
    int at = 7; /* xid, reply, accepted, no verifier (2), success, status */
    if (ntohl(reply[6])) { fprintf(stderr, "status %u\n", ntohl(reply[6])); return 1; }
    at += ntohl(reply[at]) ? 22 : 1;
    got += ntohl(reply[at]);
    waiting--;
  }
  clock_gettime(CLOCK_MONOTONIC, &ended);
  printf("%.6f %llu\n", ended.tv_sec - begun.tv_sec + (ended.tv_nsec - begun.tv_nsec) / 1e9, (unsigned long long)got);
  return 0;
}
