/* The program inside a container under test, and of its hooks. It is static, needs nothing of the root filesystem, and
 * reports what it sees.
 *
 *   probe OPERATION ARGUMENT... OPERATION ARGUMENT... ...
 *
 * Operations are done in order; each writes one line of JSON to standard output: {"op": NAME, ...}. A system call
 * that fails gives "error": its errno's name. Exit status 0, or that of `exit`; 99 for a command line it can't read.
 * The table `operations` at the end lists them all.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <ifaddrs.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char **arguments; /* all of argv */

/* --- JSON: one line, built in a buffer, written with one write(2) -------------------------------------- */

static char *line;
static size_t line_size, line_length;
static int output = 1;

static void put(const char *text, size_t n)
{
    if (line_length + n + 1 > line_size) {
        line_size = (line_length + n + 1) * 2;
        line = realloc(line, line_size);
        if (!line)
            _exit(99);
    }
    memcpy(line + line_length, text, n);
    line_length += n;
    line[line_length] = 0;
}

static void print(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    put(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

/* Bytes as Latin-1: any content survives. */
static void print_bytes(const char *text, size_t n)
{
    print("\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            print("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            print("\\u%04x", c);
        else
            put(text + i, 1);
    }
    print("\"");
}

static void print_string(const char *text)
{
    print_bytes(text, strlen(text));
}

static void key(const char *name)
{
    if (line_length && line[line_length - 1] != '{')
        print(",");
    print_string(name);
    print(":");
}

static void begin(const char *op)
{
    line_length = 0;
    print("{");
    key("op");
    print_string(op);
}

static void end(void)
{
    print("}\n");
    size_t done = 0;
    while (done < line_length) {
        ssize_t n = write(output, line + done, line_length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
}

static void put_number(const char *name, long long value)
{
    key(name);
    print("%lld", value);
}

static void put_unsigned(const char *name, unsigned long long value)
{
    key(name);
    print("%llu", value);
}

static void put_string(const char *name, const char *value)
{
    key(name);
    print_string(value);
}

static void put_error(int error)
{
    const char *name = strerrorname_np(error);
    key("error");
    if (name)
        print_string(name);
    else
        print("\"%d\"", error);
}

/* The outcome of a system call: nothing, or "error". */
static void put_outcome(long result)
{
    if (result < 0)
        put_error(errno);
}

/* How a child ended, which waitpid(2) tells. */
static void put_ending(int status)
{
    if (WIFSIGNALED(status))
        put_number("signal", WTERMSIG(status));
    else
        put_number("exited", WEXITSTATUS(status));
}

static void put_strings(const char *name, char **values)
{
    key(name);
    print("[");
    for (int i = 0; values && values[i]; i++) {
        if (i)
            print(",");
        print_string(values[i]);
    }
    print("]");
}

/* A whole file; NULL with errno. */
static char *slurp(const char *path, size_t *length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    size_t size = 65536, used = 0;
    char *data = malloc(size + 1);
    for (;;) {
        ssize_t n = read(fd, data + used, size - used);
        if (n < 0) {
            int error = errno;
            close(fd);
            free(data);
            errno = error;
            return NULL;
        }
        if (n == 0 || used > 1 << 20)
            break;
        used += (size_t)n;
        if (used == size) {
            size *= 2;
            data = realloc(data, size + 1);
        }
    }
    close(fd);
    data[used] = 0;
    *length = used;
    return data;
}

static void put_file(const char *name, const char *path)
{
    size_t n;
    char *data = slurp(path, &n);
    if (!data)
        return;
    key(name);
    print_bytes(data, n);
    free(data);
}

/* --- what this process is ------------------------------------------------------------------------------- */

static void put_namespaces(const char *process) /* "self" or a number */
{
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    key("namespaces");
    print("{");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[64], target[64];
        snprintf(path, sizeof path, "/proc/%s/ns/%s", process, names[i]);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n < 0)
            continue;
        target[n] = 0;
        put_string(names[i], target);
    }
    print("}");
}

static void put_limits(void)
{
    static const char *const names[] = {"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
                                        "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"};
    key("rlimits");
    print("{");
    for (int i = 0; i < 16; i++) {
        uint64_t limits[2];
        if (syscall(SYS_prlimit64, 0, i, NULL, limits) < 0)
            continue;
        key(names[i]);
        print("[%llu,%llu]", (unsigned long long)limits[0], (unsigned long long)limits[1]);
    }
    print("}");
}

struct attributes { /* sched_attr(2), with utilisation clamps */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

static void put_scheduler(void)
{
    struct attributes attributes = {.size = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0)
        return;
    key("scheduler");
    print("{");
    put_number("policy", attributes.policy);
    put_unsigned("flags", attributes.flags);
    put_number("nice", attributes.nice);
    put_number("priority", attributes.priority);
    put_unsigned("runtime", attributes.runtime);
    put_unsigned("deadline", attributes.deadline);
    put_unsigned("period", attributes.period);
    print("}");
}

static void put_terminal(void)
{
    struct winsize size;
    key("tty");
    print("[%d,%d,%d]", isatty(0), isatty(1), isatty(2));
    if (ioctl(0, TIOCGWINSZ, &size) == 0) {
        key("winsize");
        print("{\"height\":%d,\"width\":%d}", size.ws_row, size.ws_col);
    }
    int controlling = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    key("controlling");
    print(controlling >= 0 ? "true" : "false");
    if (controlling >= 0)
        close(controlling);
}

static void put_descriptors(void)
{
    key("fds");
    print("[");
    bool first = true;
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) {
            print(first ? "%d" : ",%d", fd);
            first = false;
        }
    print("]");
}

static void put_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return;
    uint64_t bounding = 0, ambient = 0;
    for (int i = 0; i < 64; i++) {
        if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
            bounding |= 1ull << i;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1)
            ambient |= 1ull << i;
    }
    key("capabilities");
    print("{");
    put_unsigned("effective", data[0].effective | (uint64_t)data[1].effective << 32);
    put_unsigned("permitted", data[0].permitted | (uint64_t)data[1].permitted << 32);
    put_unsigned("inheritable", data[0].inheritable | (uint64_t)data[1].inheritable << 32);
    put_unsigned("bounding", bounding);
    put_unsigned("ambient", ambient);
    print("}");
}

static void do_report(char **a)
{
    (void)a;
    struct utsname names;
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid, groups[1024];
    char cwd[PATH_MAX];
    begin("report");
    put_number("pid", getpid());
    put_number("ppid", getppid());
    put_number("sid", getsid(0));
    put_number("pgid", getpgid(0));
    getresuid(&ruid, &euid, &suid);
    getresgid(&rgid, &egid, &sgid);
    key("uid");
    print("[%u,%u,%u]", ruid, euid, suid);
    key("gid");
    print("[%u,%u,%u]", rgid, egid, sgid);
    int n = getgroups(1024, groups);
    key("groups");
    print("[");
    for (int i = 0; i < n; i++)
        print(i ? ",%u" : "%u", groups[i]);
    print("]");
    mode_t mask = umask(0);
    umask(mask);
    put_number("umask", mask);
    if (syscall(SYS_getcwd, cwd, sizeof cwd) > 0)
        put_string("cwd", cwd);
    put_strings("args", arguments);
    put_strings("env", environ);
    put_capabilities();
    put_number("noNewPrivileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    put_number("seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    put_limits();
    put_scheduler();
    put_number("ioprio", syscall(SYS_ioprio_get, 1, 0));
    put_number("personality", personality(0xffffffff));
    int mode = -1;
    unsigned long nodes[64] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, NULL, 0) == 0) {
        put_number("mempolicy", mode);
        put_unsigned("memnodes", nodes[0]);
    }
    put_terminal();
    put_descriptors();
    uname(&names);
    put_string("hostname", names.nodename);
    put_string("domainname", names.domainname);
    put_string("machine", names.machine);
    put_namespaces("self");
    put_file("uid_map", "/proc/self/uid_map");
    put_file("gid_map", "/proc/self/gid_map");
    put_file("timens_offsets", "/proc/self/timens_offsets");
    put_file("oom_score_adj", "/proc/self/oom_score_adj");
    put_file("mountinfo", "/proc/self/mountinfo");
    put_file("cgroup", "/proc/self/cgroup");
    put_file("status", "/proc/self/status");
    put_file("label", "/proc/self/attr/current");
    put_file("numa_maps", "/proc/self/numa_maps");
    end();
}

static void do_clocks(char **a)
{
    (void)a;
    struct timespec boot, monotonic;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    begin("clocks");
    put_number("boottime", boot.tv_sec);
    put_number("monotonic", monotonic.tv_sec);
    end();
}

static void do_addresses(char **a)
{
    (void)a;
    struct ifaddrs *list = NULL, *entry;
    begin("addresses");
    key("links");
    print("{");
    if (getifaddrs(&list) == 0) {
        for (entry = list; entry; entry = entry->ifa_next)
            if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_PACKET)
                put_unsigned(entry->ifa_name, entry->ifa_flags);
    }
    print("}");
    key("addresses");
    print("[");
    bool first = true;
    for (entry = list; entry; entry = entry->ifa_next) {
        char text[INET6_ADDRSTRLEN] = "";
        int family = entry->ifa_addr ? entry->ifa_addr->sa_family : 0;
        if (family == AF_INET)
            inet_ntop(family, &((struct sockaddr_in *)entry->ifa_addr)->sin_addr, text, sizeof text);
        else if (family == AF_INET6)
            inet_ntop(family, &((struct sockaddr_in6 *)entry->ifa_addr)->sin6_addr, text, sizeof text);
        else
            continue;
        print(first ? "[" : ",[");
        first = false;
        print_string(entry->ifa_name);
        print(",");
        print_string(text);
        print("]");
    }
    print("]");
    end();
    freeifaddrs(list);
}

/* --- files --------------------------------------------------------------------------------------------------- */

static void put_stat(const struct stat *st)
{
    put_number("mode", st->st_mode & 07777);
    put_string("type", S_ISREG(st->st_mode)   ? "file"
                       : S_ISDIR(st->st_mode) ? "directory"
                       : S_ISLNK(st->st_mode) ? "symlink"
                       : S_ISCHR(st->st_mode) ? "c"
                       : S_ISBLK(st->st_mode) ? "b"
                       : S_ISFIFO(st->st_mode) ? "p"
                                               : "socket");
    put_number("uid", st->st_uid);
    put_number("gid", st->st_gid);
    put_number("major", major(st->st_rdev));
    put_number("minor", minor(st->st_rdev));
    put_unsigned("ino", st->st_ino);
    put_unsigned("dev", st->st_dev);
    put_number("size", st->st_size);
    put_number("nlink", (long long)st->st_nlink);
}

static void stat_as(const char *op, const char *path, int flags)
{
    struct stat st;
    begin(op);
    put_string("path", path);
    if (fstatat(AT_FDCWD, path, &st, flags) < 0)
        put_error(errno);
    else
        put_stat(&st);
    end();
}

static void do_stat(char **a) { stat_as("stat", a[0], 0); }
static void do_lstat(char **a) { stat_as("lstat", a[0], AT_SYMLINK_NOFOLLOW); }

static void do_read(char **a)
{
    size_t n;
    begin("read");
    put_string("path", a[0]);
    char *data = slurp(a[0], &n);
    if (!data)
        put_error(errno);
    else {
        key("content");
        print_bytes(data, n);
    }
    end();
}

static void write_with(const char *op, char **a, int flags)
{
    begin(op);
    put_string("path", a[0]);
    int fd = open(a[0], flags | O_WRONLY | O_CLOEXEC | O_NONBLOCK, 0644);
    if (fd < 0)
        put_error(errno);
    else {
        put_outcome(write(fd, a[1], strlen(a[1])));
        close(fd);
    }
    end();
}

static void do_write(char **a) { write_with("write", a, 0); }
static void do_create(char **a) { write_with("create", a, O_CREAT | O_TRUNC); }

static void do_append(char **a) { write_with("append", a, O_CREAT | O_APPEND); }

static void do_open(char **a)
{
    begin("open");
    put_string("path", a[0]);
    int flags = strcmp(a[1], "r") == 0 ? O_RDONLY : strcmp(a[1], "w") == 0 ? O_WRONLY : O_RDWR;
    int fd = open(a[0], flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    put_outcome(fd);
    if (fd >= 0)
        close(fd);
    end();
}

static void do_list(char **a)
{
    begin("list");
    put_string("path", a[0]);
    DIR *directory = opendir(a[0]);
    if (!directory)
        put_error(errno);
    else {
        struct dirent *entry;
        bool first = true;
        key("names");
        print("[");
        while ((entry = readdir(directory))) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            if (!first)
                print(",");
            first = false;
            print_string(entry->d_name);
        }
        print("]");
        closedir(directory);
    }
    end();
}

static void do_readlink(char **a)
{
    char target[PATH_MAX];
    begin("readlink");
    put_string("path", a[0]);
    ssize_t n = readlink(a[0], target, sizeof target);
    if (n < 0)
        put_error(errno);
    else {
        key("target");
        print_bytes(target, (size_t)n);
    }
    end();
}

static void do_statfs(char **a)
{
    struct statfs fs;
    begin("statfs");
    put_string("path", a[0]);
    if (statfs(a[0], &fs) < 0)
        put_error(errno);
    else {
        put_unsigned("type", (unsigned long)fs.f_type);
        put_unsigned("flags", (unsigned long)fs.f_flags);
        put_unsigned("size", (unsigned long long)fs.f_blocks * (unsigned long long)fs.f_bsize);
    }
    end();
}

/* The SELinux label of a file. */
static void do_label(char **a)
{
    char value[512];
    begin("label");
    put_string("path", a[0]);
    long n = syscall(SYS_lgetxattr, a[0], "security.selinux", value, sizeof value);
    if (n < 0)
        put_error(errno);
    else {
        key("label");
        print_bytes(value, (size_t)n);
    }
    end();
}

static void simple(const char *op, const char *path, long result)
{
    int error = errno;
    begin(op);
    put_string("path", path);
    if (result < 0)
        put_error(error);
    end();
}

static void do_mkdir(char **a) { simple("mkdir", a[0], mkdir(a[0], 0755)); }
static void do_remove(char **a) { simple("remove", a[0], remove(a[0])); }
static void do_chdir(char **a) { simple("chdir", a[0], chdir(a[0])); }

static void do_mknod(char **a)
{
    mode_t kind = a[1][0] == 'b' ? S_IFBLK : a[1][0] == 'p' ? S_IFIFO : S_IFCHR;
    simple("mknod", a[0], mknod(a[0], kind | 0600, makedev((unsigned)atoi(a[2]), (unsigned)atoi(a[3]))));
}

static void do_mount(char **a)
{
    simple("mount", a[1], mount(a[0], a[1], a[2], strtoul(a[3], NULL, 0), NULL));
}

static void do_umount(char **a) { simple("umount", a[0], umount2(a[0], MNT_DETACH)); }
static void do_symlink(char **a) { simple("symlink", a[1], symlink(a[0], a[1])); }
static void do_exists(char **a) /* wait until there is such a file: at most a[1] milliseconds */
{
    long left = atol(a[1]);
    int result;
    while ((result = access(a[0], F_OK)) < 0 && left > 0) {
        usleep(5000);
        left -= 5;
    }
    simple("exists", a[0], result);
}

/* --- signals, processes ------------------------------------------------------------------------------------------ */

/* Tell that we are there, wait for one of the signals, tell which. */
static void do_await(char **a)
{
    sigset_t set;
    sigemptyset(&set);
    for (char *part = strtok(strdup(a[0]), ","); part; part = strtok(NULL, ","))
        sigaddset(&set, atoi(part));
    sigprocmask(SIG_BLOCK, &set, NULL);
    begin("await");
    end();
    int signal = 0;
    sigwait(&set, &signal);
    begin("caught");
    put_number("signal", signal);
    end();
}

static void do_pause(char **a)
{
    (void)a;
    begin("pause");
    end();
    for (;;)
        pause();
}

static void do_sleep(char **a) { usleep((useconds_t)atol(a[0]) * 1000); }
static void do_exit(char **a) { exit(atoi(a[0])); }
static void do_raise(char **a)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    signal(atoi(a[0]), SIG_DFL);
    raise(atoi(a[0]));
}

static void do_echo(char **a)
{
    begin("echo");
    put_string("text", a[0]);
    end();
}

static void do_become(char **a) /* uid and gid a[0], no groups */
{
    unsigned id = (unsigned)atol(a[0]);
    long result = setgroups(0, NULL);
    if (result == 0)
        result = setresgid(id, id, id);
    if (result == 0)
        result = setresuid(id, id, id);
    simple("become", a[0], result);
}

static void do_exec(char **a) /* the rest of the arguments are the program's */
{
    execv(a[0], a);
    simple("exec", a[0], -1);
}

static int *trap; /* where a SIGSYS handler says which system call it was */
static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    trap[2] = info->si_syscall;
    _exit(0);
}

static void on_signal(int signal) { (void)signal; }

/* A handler that does nothing, and does not restart system calls. */
static void do_handle(char **a)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(atoi(a[0]), &action, NULL);
}

/* A child does this one system call; how that ended. `nr`, then six arguments; "&" is the address of a zeroed page.
 * "trapped" is the number that a handler of SIGSYS got. */
static void do_syscall(char **a)
{
    long arguments_[6], number = strtol(a[0], NULL, 0);
    static char page[4096];
    for (int i = 0; i < 6; i++)
        arguments_[i] = strcmp(a[i + 1], "&") == 0 ? (long)page : (long)strtoull(a[i + 1], NULL, 0);
    int *shared = trap = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[2] = -1;
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &action, NULL);
        long result = syscall(number, arguments_[0], arguments_[1], arguments_[2], arguments_[3], arguments_[4], arguments_[5]);
        shared[0] = result < 0 ? errno : 0;
        shared[1] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    begin("syscall");
    put_number("number", number);
    if (WIFSIGNALED(status))
        put_number("signal", WTERMSIG(status));
    else if (shared[2] >= 0)
        put_number("trapped", shared[2]);
    else if (!shared[1])
        put_number("exited", WEXITSTATUS(status));
    else if (shared[0])
        put_error(shared[0]);
    end();
    munmap(shared, 4096);
}

static void *call_in_thread(void *number)
{
    syscall((long)number, 0, 0, 0, 0, 0, 0);
    return NULL;
}

/* A thread of a child does system call a[0], the child waits for it: what became of the child. */
static void do_thread(char **a)
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, call_in_thread, (void *)atol(a[0])) == 0)
            pthread_join(thread, NULL);
        _exit(7);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    begin("thread");
    put_number("number", atol(a[0]));
    put_ending(status);
    end();
}

/* A child does system call a[0] and is traced: the message of its seccomp event. */
static void do_traced(char **a)
{
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        syscall(atol(a[0]), 0, 0, 0, 0, 0, 0);
        _exit(0);
    }
    int status = 0;
    unsigned long message = 0;
    bool event = false;
    waitpid(pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, pid, 0, 0);
    waitpid(pid, &status, 0);
    if (WIFSTOPPED(status) && status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
        event = true;
        ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
        ptrace(PTRACE_CONT, pid, 0, 0);
        waitpid(pid, &status, 0);
    }
    begin("traced");
    if (event)
        put_unsigned("message", message);
    end();
}

#ifdef __x86_64__
static int call32(int number, int first)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(first), "c"(0), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
#endif

/* The same through the 32-bit entry of x86. */
static void do_syscall32(char **a)
{
    begin("syscall32");
#ifdef __x86_64__
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        shared[0] = call32(atoi(a[0]), atoi(a[1]));
        shared[1] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        put_number("signal", WTERMSIG(status));
    else if (shared[1] && shared[0] < 0)
        put_error(-shared[0]);
    munmap(shared, 4096);
#else
    (void)a;
    put_error(ENOSYS);
#endif
    end();
}

/* Touch so many MiB, in a child. */
static void do_allocate(char **a)
{
    size_t n = (size_t)atol(a[0]) << 20;
    pid_t pid = fork();
    if (pid == 0) {
        char *memory = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            _exit(1);
        for (size_t i = 0; i < n; i += 4096)
            memory[i] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    begin("allocate");
    put_ending(status);
    end();
}

/* How many children that only sleep can be made, up to a[0]. */
static void do_fork(char **a)
{
    int wanted = atoi(a[0]), made = 0, error = 0;
    pid_t *pids = calloc((size_t)wanted, sizeof *pids);
    for (; made < wanted; made++) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        if (pid < 0) {
            error = errno;
            break;
        }
        pids[made] = pid;
    }
    for (int i = 0; i < made; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    begin("fork");
    put_number("made", made);
    if (error)
        put_error(error);
    end();
    free(pids);
}

/* Busy for a[0] milliseconds of the clock; how much CPU time that gave. */
static void do_spin(char **a)
{
    struct timespec now, start, used;
    clock_gettime(CLOCK_MONOTONIC, &start);
    long wanted = atol(a[0]), passed;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
        passed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    } while (passed < wanted);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    begin("spin");
    put_number("cpu", used.tv_sec * 1000 + used.tv_nsec / 1000000);
    end();
}

/* --- as a hook --------------------------------------------------------------------------------------------------- */

static void put_inode(const char *name, const char *path) /* as [device, inode] */
{
    struct stat st;
    if (stat(path, &st) < 0)
        return;
    key(name);
    print("[%llu,%llu]", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
}

/* The container's process as it is at this moment, its pid taken from the state in `input`. */
static void put_container(const char *input)
{
    const char *text = strstr(input, "\"pid\"");
    if (!text || !(text = strpbrk(text + 5, "0123456789")))
        return;
    char process[16], path[64];
    snprintf(process, sizeof process, "%.*s", (int)strspn(text, "0123456789"), text);
    key("container");
    print("{");
    snprintf(path, sizeof path, "/proc/%s/root", process);
    put_inode("root", path);
    snprintf(path, sizeof path, "/proc/%s/exe", process);
    put_inode("exe", path);
    snprintf(path, sizeof path, "/proc/%s/mountinfo", process);
    put_file("mountinfo", path);
    put_namespaces(process);
    print("}");
}

/* Append one line to file a[0]: that hook a[1] ran, with what it was given. */
static void do_hook(char **a)
{
    char *input = calloc((1 << 20) + 1, 1);
    size_t used = 0;
    ssize_t n;
    struct timespec now;
    char cwd[PATH_MAX];
    while (used < (1 << 20) && (n = read(0, input + used, (1 << 20) - used)) > 0)
        used += (size_t)n;
    clock_gettime(CLOCK_MONOTONIC, &now);
    begin("hook");
    put_string("name", a[1]);
    key("stdin");
    print_bytes(input, used);
    put_strings("args", arguments);
    put_strings("env", environ);
    if (syscall(SYS_getcwd, cwd, sizeof cwd) > 0)
        put_string("cwd", cwd);
    put_number("pid", getpid());
    put_number("uid", getuid());
    put_number("time", now.tv_sec * 1000000000ll + now.tv_nsec);
    put_namespaces("self");
    put_inode("root", "/");
    put_inode("here", ".");
    put_file("mountinfo", "/proc/self/mountinfo");
    put_container(input);
    int log = open(a[0], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0) {
        fprintf(stderr, "probe: cannot open %s: %m\n", a[0]);
        exit(98);
    }
    output = log;
    end();
    output = 1;
    close(log);
    free(input);
}

/* From here on answers go to this file, appended. */
static void do_output(char **a)
{
    output = open(a[0], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (output < 0)
        exit(98);
}

/* Run a program whose system calls a[1], a list of numbers, are reported to the listener at the socket a[0]. */
static void do_watched(char **a)
{
    struct sock_filter code[64] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    unsigned short n = 1;
    for (char *part = strtok(a[1], ","); part && n < 60; part = strtok(NULL, ",")) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(part), 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, code};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", a[0]);
    int socket_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec data = {"x", 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (connect(socket_, (struct sockaddr *)&address, sizeof address) == 0) {
        int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
        if (listener >= 0 && sendmsg(socket_, &message, 0) == 1) {
            close(listener);
            execvp(a[2], a + 2);
        }
    }
    fprintf(stderr, "probe: cannot watch %s: %m\n", a[2]);
    exit(98);
}

static const struct {
    const char *name;
    int arguments;
    void (*run)(char **);
} operations[] = {
    {"report", 0, do_report},       {"clocks", 0, do_clocks},       {"addresses", 0, do_addresses},
    {"stat", 1, do_stat},           {"lstat", 1, do_lstat},         {"read", 1, do_read},
    {"write", 2, do_write},         {"create", 2, do_create},       {"append", 2, do_append},
    {"open", 2, do_open},           {"list", 1, do_list},           {"readlink", 1, do_readlink},
    {"statfs", 1, do_statfs},       {"label", 1, do_label},         {"mkdir", 1, do_mkdir},
    {"remove", 1, do_remove},       {"chdir", 1, do_chdir},         {"mknod", 4, do_mknod},
    {"mount", 4, do_mount},         {"umount", 1, do_umount},       {"symlink", 2, do_symlink},
    {"exists", 2, do_exists},       {"await", 1, do_await},         {"pause", 0, do_pause},
    {"sleep", 1, do_sleep},         {"exit", 1, do_exit},           {"raise", 1, do_raise},
    {"echo", 1, do_echo},           {"become", 1, do_become},       {"exec", 1, do_exec},
    {"syscall", 7, do_syscall},     {"syscall32", 2, do_syscall32}, {"allocate", 1, do_allocate},
    {"fork", 1, do_fork},           {"spin", 1, do_spin},           {"hook", 2, do_hook},
    {"output", 1, do_output},       {"handle", 1, do_handle},       {"thread", 1, do_thread},
    {"traced", 1, do_traced},       {"watched", 3, do_watched},
};

int main(int argc, char **argv)
{
    arguments = argv;
    for (int i = 1; i < argc;) {
        size_t n = 0, count = sizeof operations / sizeof operations[0];
        while (n < count && strcmp(argv[i], operations[n].name) != 0)
            n++;
        if (n == count || i + operations[n].arguments >= argc) {
            fprintf(stderr, "probe: cannot do %s\n", argv[i]);
            return 99;
        }
        operations[n].run(argv + i + 1);
        i += 1 + operations[n].arguments;
    }
    return 0;
}
