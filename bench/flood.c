/* Sends datagrams of numbered events as fast as it is told to: flood PORT DATAGRAMS LINES RATE RUN
 * DATAGRAMS in all, LINES events in each, RATE datagrams a second (0: no limit). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 32
#define SIZE 4096

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  long total = atol(argv[2]), lines = atol(argv[3]), sent = 0, number = 0;
  double rate = atof(argv[4]);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) return 1;
  static char text[BATCH][SIZE];
  struct mmsghdr messages[BATCH];
  struct iovec parts[BATCH];
  double started = now();
  while (sent < total) {
    long batch = total - sent < BATCH ? total - sent : BATCH;
    for (long i = 0; i < batch; i++) {
      int length = 0;
      for (long line = 0; line < lines; line++)
        length += snprintf(text[i] + length, SIZE - length, "%stype=flood&run=%s&number=%ld",
                           line ? "\n" : "", argv[5], number++);
      parts[i] = (struct iovec){text[i], length};
      memset(&messages[i], 0, sizeof messages[i]);
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    int done = sendmmsg(fd, messages, batch, 0);
    if (done <= 0) return 1;
    number -= (batch - done) * lines;
    sent += done;
    if (rate > 0) {
      double wait = started + sent / rate - now();
      if (wait > 0) {
        struct timespec pause = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
        nanosleep(&pause, NULL);
      }
    }
  }
  printf("%ld %.6f\n", sent, now() - started);
  return 0;
}
