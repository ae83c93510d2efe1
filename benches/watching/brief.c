/* ADDRESS PORT NUMBER: a connection, and a life long enough to be seen by whoever looks each second.
 * In C, because it is started hundreds of times a second: the smaller, the better. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_in server = { .sin_family = AF_INET };
	char request[200], answer[1000];
	size_t got = 0;
	ssize_t length;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (count != 4 || inet_pton(AF_INET, words[1], &server.sin_addr) != 1)
		return 2;
	server.sin_port = htons(atoi(words[2]));
	memset(request, '?', sizeof request);
	if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0)
		return 3;
	if (write(fd, request, sizeof request) != sizeof request)
		return 4;
	while ((length = read(fd, answer, sizeof answer)) > 0)
		got += length;
	if (got != sizeof answer)
		return 5;
	usleep(1200 * 1000);
	return 0;
}
