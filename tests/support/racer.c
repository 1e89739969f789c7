/* Exchanges two names for as long as it lives, as a container with a shared volume can do while another is set up.
 *
 *   racer A B [A B ...]     renameat2(A, B, RENAME_EXCHANGE) for each pair, round and round
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

int main(int argc, char **argv)
{
    for (;;)
        for (int i = 1; i + 1 < argc; i += 2)
            if (syscall(SYS_renameat2, AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], RENAME_EXCHANGE) < 0) {
                perror(argv[i]);
                return 1;
            }
}
