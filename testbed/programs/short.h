/* What the roles of short.c and calls.c share. */

#define _GNU_SOURCE
#include <stdint.h>
#include <sys/socket.h>

extern long request, reply;

void fail(const char *what);
void say(const char *format, ...);
char *option(const char *key);
long number(const char *key, long otherwise);
int64_t now(void);
void sleep_until(int64_t when);
int commanded(void);
socklen_t address(const char *host, int port, struct sockaddr_storage *to);

void mmsg(void);
void ring(void);
