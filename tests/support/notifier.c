/* Says what its arguments are, each in one datagram, to $NOTIFY_SOCKET, and then does nothing until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path) return 2;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (int i = 1; i < argc; i++)
        if (sendto(sock, argv[i], strlen(argv[i]), 0, (struct sockaddr *)&address, sizeof address) < 0) {
            perror(path);
            return 3;
        }
    pause();
    return 0;
}
