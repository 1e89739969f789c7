/* The floor: only the kernel's work for a container of Docker.

   A runtime parses a config, decides, checks, protects itself and reports errors. This program does not. It only makes
   the system calls that a container with Docker's config (pyoci/executable/docker.json) needs, in a fast order, without
   the C library. No runtime can be faster with that config.

   It is not safe, and its error messages are crude. Never use it as a runtime.

     floor [OPTION]... run|create BUNDLE ID PROGRAM ARGUMENT...
     floor [OPTION]... exec ID PROGRAM ARGUMENT...
     floor [OPTION]... start|state|kill|delete ID
     floor [OPTION]... delete --force ID
     floor [OPTION]... list
     floor keep FILE
     floor nothing

     --root DIR          a directory for each container, with its pid, and a FIFO until it starts
     --cgroups PREFIX    with the ID, the path of a container's cgroup
     --kept FILE         the child enters this mount namespace before it makes its own

   BUNDLE holds rootfs, resolv.conf, hostname and hosts. `keep` makes a mount namespace that is nearly empty, and binds
   it to FILE. A namespace that is made in it then copies few mounts.

   filters.h has the seccomp filter and the device filter of the config. bench/build.py writes it. */

#define _GNU_SOURCE /* all headers are for constants and structures only */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/time_types.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "filters.h"
#include "syscalls.h"

enum { PATH = 4096, PID = 32, DIRENTS = 32768 };

static const char *root = "/run/floor", *cgroups = "/sys/fs/cgroup/floor-", *kept;
static char *const environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=bench", NULL};

/* What the parent opens and the child uses. */
static int rootfs, null, cgroup, binds[3];
static const char *const bind_files[] = {"resolv.conf", "hostname", "hosts"};
static const char *const bind_targets[] = {"etc/resolv.conf", "etc/hostname", "etc/hosts"};

/* Sent along: the child waits for a byte of `go` before the program, and closes `ready` when it has only that to do. */
static int go[2] = {-1, -1}, ready[2] = {-1, -1};

static void print(int fd, const char *text) { call(write, fd, text, length_of(text)); }

static __attribute__((noreturn)) void finish(int status) {
    for (;;) call(exit_group, status);
}

/* Return `result`, or end with the name of what failed. */
static long must(long result, const char *what) {
    if (result >= 0) return result;
    char message[PATH + 64];
    append(append_number(append(append(append(message, "floor: cannot "), what), ": errno "), -result), "\n");
    print(2, message);
    finish(1);
}

/* --- mounts: of the child, below the directory `rootfs` */

struct option {
    const char *key, *value; /* a flag has no value */
};

/* A new mount of a filesystem that is nowhere yet. */
static int make_filesystem(const char *type, unsigned attributes, const struct option *options) {
    int context = (int)must(call(fsopen, type, FSOPEN_CLOEXEC), type);
    for (; options && options->key; options++)
        must(call(fsconfig, context, options->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options->key,
                  options->value, 0),
             options->key);
    must(call(fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
    int mount = (int)must(call(fsmount, context, FSMOUNT_CLOEXEC, attributes), type);
    call(close, context);
    return mount;
}

static long attach(int mount, const char *path) {
    return call(move_mount, mount, "", rootfs, path, MOVE_MOUNT_F_EMPTY_PATH);
}

static int mount_filesystem(const char *path, const char *type, unsigned attributes, const struct option *options) {
    int mount = make_filesystem(type, attributes, options);
    must(attach(mount, path), path);
    return mount;
}

static long set_attributes(int directory, const char *path, unsigned flags, uint64_t set, uint64_t propagation) {
    struct mount_attr attributes = {.attr_set = set, .propagation = propagation};
    return call(mount_setattr, directory, path, flags | AT_EMPTY_PATH, &attributes, sizeof attributes);
}

/* A clone of the mount at `path`, attached to nothing. */
static long clone_mount(int directory, const char *path, unsigned flags) {
    return call(open_tree, directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags);
}

static void populate_dev(int dev) {
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *const links[][2] = {{"pts/ptmx", "ptmx"},
                                           {"/proc/self/fd", "fd"},
                                           {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"},
                                           {"/proc/self/fd/2", "stderr"}};
    static const char *const directories[] = {"pts", "mqueue", "shm"};
    for (size_t i = 0; i < 6; i++)
        must(call(mknodat, dev, nodes[i].name, S_IFCHR | 0666, nodes[i].major << 8 | nodes[i].minor), nodes[i].name);
    for (size_t i = 0; i < 5; i++) must(call(symlinkat, links[i][0], dev, links[i][1]), links[i][1]);
    for (size_t i = 0; i < 3; i++) must(call(mkdirat, dev, directories[i], 0755), directories[i]);
}

#define OPTIONS(...) ((const struct option[]){__VA_ARGS__, {NULL, NULL}})
enum {
    RDONLY = MOUNT_ATTR_RDONLY,
    NOSUID = MOUNT_ATTR_NOSUID,
    NODEV = MOUNT_ATTR_NODEV,
    NOEXEC = MOUNT_ATTR_NOEXEC,
    USUAL = NOSUID | NODEV | NOEXEC,
};

/* /mounts of the config; return the mount of proc. */
static int make_mounts(void) {
    int proc = mount_filesystem("proc", "proc", USUAL, OPTIONS({"source", "proc"}));
    populate_dev(mount_filesystem("dev", "tmpfs", NOSUID | MOUNT_ATTR_STRICTATIME,
                                  OPTIONS({"source", "tmpfs"}, {"mode", "755"}, {"size", "65536k"})));
    mount_filesystem("dev/pts", "devpts", NOSUID | NOEXEC,
                     OPTIONS({"source", "devpts"}, {"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"},
                             {"gid", "5"}));
    mount_filesystem("sys", "sysfs", USUAL | RDONLY, OPTIONS({"source", "sysfs"}));
    mount_filesystem("sys/fs/cgroup", "cgroup2", USUAL | RDONLY, OPTIONS({"source", "cgroup"}));
    mount_filesystem("dev/mqueue", "mqueue", USUAL, OPTIONS({"source", "mqueue"}));
    mount_filesystem("dev/shm", "tmpfs", USUAL, OPTIONS({"source", "shm"}, {"mode", "1777"}, {"size", "67108864"}));
    for (size_t i = 0; i < 3; i++) must(attach(binds[i], bind_targets[i]), bind_targets[i]);
    return proc;
}

/* /linux/readonlyPaths and /linux/maskedPaths. A path that the kernel lacks needs nothing. */
static void restrict_paths(void) {
    static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    static const char *const files[] = {"proc/interrupts", "proc/kcore",       "proc/keys",       "proc/latency_stats",
                                        "proc/timer_list", "proc/timer_stats", "proc/sched_debug"};
    static const char *const directories[] = {"proc/asound", "proc/acpi", "proc/scsi", "sys/firmware",
                                              "sys/devices/virtual/powercap"};
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
        long tree = clone_mount(rootfs, readonly[i], AT_RECURSIVE);
        if (tree < 0) continue;
        must(set_attributes((int)tree, "", AT_RECURSIVE, RDONLY, 0), readonly[i]);
        must(attach((int)tree, readonly[i]), readonly[i]);
    }
    /* Older kernels cannot clone a detached mount, so each further mask is a clone of the first that is attached. */
    int attached = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int mask = attached ? (int)must(clone_mount(null, "", 0), files[i]) : null;
        if (attach(mask, files[i]) == 0) attached = 1;
    }
    int empty = make_filesystem("tmpfs", USUAL | RDONLY, NULL);
    attached = 0;
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        int mask = attached ? (int)must(clone_mount(empty, "", 0), directories[i]) : empty;
        if (attach(mask, directories[i]) == 0) attached = 1;
    }
}

/* --- the rest of what the child does */

static void write_file(int directory, const char *path, const char *text) {
    int file = (int)must(call(openat, directory, path, O_WRONLY | O_CLOEXEC, 0), path);
    must(call(write, file, text, length_of(text)), path);
    call(close, file);
}

static void bring_loopback_up(void) {
    int socket = (int)must(call(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "open a socket");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK};
    must(call(ioctl, socket, SIOCSIFFLAGS, &request), "bring lo up");
    call(close, socket);
}

static const uint32_t CAPABILITIES = 0xa80425fb; /* Docker's fourteen */

/* All of /process that can come before the seccomp filter. */
static void become_the_user(void) {
    for (int capability = 0; call(prctl, PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (capability >= 32 || !(CAPABILITIES >> capability & 1))
            must(call(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0), "drop a capability");
    const uint32_t group = 0;
    must(call(setgroups, 1, &group), "set groups");
    must(call(setresgid, 0, 0, 0), "set the group");
    must(call(setresuid, 0, 0, 0), "set the user");
    must(call(chdir, "/"), "change the directory");
}

/* The filter needs CAP_SYS_ADMIN, so the capabilities come last. */
static __attribute__((noreturn)) void run_program(char **arguments) {
    struct sock_fprog filter = {sizeof seccomp_filter / sizeof(struct sock_filter), (void *)seccomp_filter};
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{CAPABILITIES, CAPABILITIES, 0}, {0, 0, 0}};
    must(call(seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter), "load the seccomp filter");
    must(call(capset, &header, sets), "set capabilities");
    must(call(execve, arguments[0], arguments, environment), arguments[0]);
    finish(1);
}

static __attribute__((noreturn)) void be_init(int kept_namespace, char **arguments) {
    call(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    long mask = call(umask, 0);
    call(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    must(call(setsid), "start a session");
    if (kept_namespace >= 0) {
        must(call(setns, kept_namespace, CLONE_NEWNS), "enter the kept namespace");
        must(call(unshare, CLONE_NEWNS), "make a mount namespace");
    }
    must(call(unshare, CLONE_NEWCGROUP), "make a cgroup namespace");
    must(set_attributes(AT_FDCWD, "/", AT_RECURSIVE, 0, MS_SLAVE), "set the propagation");
    /* at any path: pivot_root needs a mount point */
    must(call(move_mount, rootfs, "", AT_FDCWD, kept_namespace >= 0 ? "/root" : "/mnt", MOVE_MOUNT_F_EMPTY_PATH),
         "attach the root filesystem");
    int proc = make_mounts();
    bring_loopback_up();
    must(call(sethostname, "bench", 5), "set the hostname");
    write_file(proc, "sys/net/ipv4/ip_unprivileged_port_start", "0");
    write_file(proc, "sys/net/ipv4/ping_group_range", "0 2147483647");
    write_file(proc, "self/oom_score_adj", "0");
    restrict_paths(); /* proc/sys is read-only from here on */
    must(call(fchdir, rootfs), "enter the root filesystem");
    must(call(pivot_root, ".", "."), "change the root");
    must(call(umount2, ".", MNT_DETACH), "detach the old root");
    become_the_user();
    call(close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    call(prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
    call(close, ready[1]);
    char byte;
    if (call(read, go[0], &byte, 1) != 1) finish(1);
    call(umask, mask);
    run_program(arguments);
}

/* --- the parent */

static char *in_root(char *path, const char *id, const char *name) {
    append(append(append(append(path, root), "/"), id), name);
    return path;
}

static void make_cgroup_path(char *path, const char *id) { append(append(path, cgroups), id); }

static void attach_device_filter(void) {
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insn_cnt = sizeof device_filter / sizeof(struct bpf_insn),
                           .insns = (uintptr_t)device_filter,
                           .license = (uintptr_t) "GPL"};
    int program = (int)must(call(bpf, BPF_PROG_LOAD, &load, sizeof load), "load the device filter");
    union bpf_attr attachment = {.target_fd = (uint32_t)cgroup,
                                 .attach_bpf_fd = (uint32_t)program,
                                 .attach_type = BPF_CGROUP_DEVICE,
                                 .attach_flags = BPF_F_ALLOW_MULTI};
    must(call(bpf, BPF_PROG_ATTACH, &attachment, sizeof attachment), "attach the device filter");
    call(close, program);
}

static int open_private_tree(int bundle, const char *name) {
    int tree = (int)must(clone_mount(bundle, name, AT_RECURSIVE), name);
    must(set_attributes(tree, "", AT_RECURSIVE, 0, MS_PRIVATE), name);
    return tree;
}

/* Clone the container's init into a new cgroup. It waits for a byte from go[1] before it executes the program. */
static long launch(const char *bundle_path, const char *id, char **arguments) {
    char path[PATH];
    make_cgroup_path(path, id);
    must(call(mkdirat, AT_FDCWD, path, 0755), path);
    cgroup = (int)must(call(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), path);
    int bundle = (int)must(call(openat, AT_FDCWD, bundle_path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0), bundle_path);
    rootfs = (int)must(clone_mount(bundle, "rootfs", AT_RECURSIVE), "open rootfs");
    for (size_t i = 0; i < 3; i++) binds[i] = open_private_tree(bundle, bind_files[i]);
    null = open_private_tree(AT_FDCWD, "/dev/null");
    must(set_attributes(null, "", 0, RDONLY, 0), "make /dev/null read-only");
    int kept_namespace = kept ? (int)must(call(openat, AT_FDCWD, kept, O_RDONLY | O_CLOEXEC, 0), kept) : -1;
    struct clone_args clone = {.flags = CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_INTO_CGROUP,
                               .exit_signal = SIGCHLD,
                               .cgroup = (uint64_t)cgroup};
    if (!kept) clone.flags |= CLONE_NEWNS;
    long pid = must(call(clone3, &clone, sizeof clone), "clone");
    if (pid == 0) be_init(kept_namespace, arguments);
    attach_device_filter();
    return pid;
}

static int wait_for(long pid) {
    int status;
    must(call(wait4, pid, &status, 0, NULL), "wait");
    return status & 127 ? 128 + (status & 127) : status >> 8 & 255;
}

static void remove_cgroup(const char *id) {
    char path[PATH];
    make_cgroup_path(path, id);
    must(call(unlinkat, AT_FDCWD, path, AT_REMOVEDIR), path);
}

static int run(const char *bundle, const char *id, char **arguments) {
    must(call(pipe2, go, O_CLOEXEC), "make a pipe");
    long pid = launch(bundle, id, arguments);
    must(call(write, go[1], "", 1), "start the program");
    int status = wait_for(pid);
    remove_cgroup(id);
    return status;
}

static int create(const char *bundle, const char *id, char **arguments) {
    char path[PATH], text[PID];
    call(mkdirat, AT_FDCWD, root, 0700);
    must(call(mkdirat, AT_FDCWD, in_root(path, id, ""), 0700), path);
    must(call(mknodat, AT_FDCWD, in_root(path, id, "/fifo"), S_IFIFO | 0600, 0), path);
    go[0] = (int)must(call(openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0), path);
    must(call(pipe2, ready, O_CLOEXEC), "make a pipe");
    long pid = launch(bundle, id, arguments);
    call(close, ready[1]);
    int record = (int)must(
        call(openat, AT_FDCWD, in_root(path, id, "/pid"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), path);
    append_number(text, pid);
    must(call(write, record, text, length_of(text)), path);
    return (int)must(call(read, ready[0], text, 1), "wait for the child"); /* 0: the end of the pipe */
}

static long pid_of(const char *id) {
    char path[PATH], text[PID] = {0};
    int record = (int)must(call(openat, AT_FDCWD, in_root(path, id, "/pid"), O_RDONLY | O_CLOEXEC, 0), path);
    must(call(read, record, text, sizeof text - 1), path);
    call(close, record);
    return number_of(text);
}

/* A pidfd, or -1 if the process has ended and its parent has waited for it. */
static int open_pid(long pid) {
    long pidfd = call(pidfd_open, pid, 0);
    return pidfd == -ESRCH ? -1 : (int)must(pidfd, "open the process");
}

static int is_running(int pidfd) {
    struct pollfd ended = {pidfd, POLLIN, 0};
    struct __kernel_timespec now = {0, 0};
    return pidfd >= 0 && must(call(ppoll, &ended, 1, &now, NULL, 0), "poll") == 0;
}

/* Executing the program closes the only reader of the FIFO. */
static int start(const char *id) {
    char path[PATH];
    int fifo = (int)must(call(openat, AT_FDCWD, in_root(path, id, "/fifo"), O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0), path);
    must(call(write, fifo, "", 1), "start the program");
    struct pollfd closed = {fifo, 0, 0};
    must(call(ppoll, &closed, 1, NULL, NULL, 0), "wait for the program");
    must(call(unlinkat, AT_FDCWD, path, 0), path);
    return 0;
}

static void show(const char *id) {
    char text[PATH];
    long pid = pid_of(id);
    int pidfd = open_pid(pid);
    char *end = append_number(append(append(append(text, "{\"id\":\""), id), "\",\"pid\":"), pid);
    append(append(append(end, ",\"status\":\""), is_running(pidfd) ? "running" : "stopped"), "\"}\n");
    print(1, text);
    if (pidfd >= 0) call(close, pidfd);
}

static int list(void) {
    static char entries[DIRENTS];
    int directory = (int)must(call(openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), root);
    for (long size; (size = must(call(getdents64, directory, entries, sizeof entries), root)) > 0;)
        for (long at = 0; at < size; at += *(uint16_t *)(entries + at + 16)) /* struct linux_dirent64: d_reclen, */
            if (entries[at + 19] != '.') show(entries + at + 19);            /* d_name */
    return 0;
}

static int send_kill(const char *id) {
    must(call(pidfd_send_signal, open_pid(pid_of(id)), SIGKILL, NULL, 0), "kill");
    return 0;
}

static int remove_container(const char *id, int force) {
    char path[PATH];
    int pidfd = open_pid(pid_of(id));
    struct pollfd ended = {pidfd, POLLIN, 0};
    if (force && pidfd >= 0 && call(pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0)
        must(call(ppoll, &ended, 1, NULL, NULL, 0), "wait for the end");
    if (is_running(pidfd)) must(-EBUSY, "delete a running container");
    call(unlinkat, AT_FDCWD, in_root(path, id, "/fifo"), 0); /* start removes it, too */
    must(call(unlinkat, AT_FDCWD, in_root(path, id, "/pid"), 0), path);
    must(call(unlinkat, AT_FDCWD, in_root(path, id, ""), AT_REMOVEDIR), path);
    remove_cgroup(id);
    return 0;
}

static int execute(const char *id, char **arguments) {
    char path[PATH];
    int pidfd = open_pid(pid_of(id));
    make_cgroup_path(path, id);
    cgroup = (int)must(call(openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), path);
    must(call(setns, pidfd, CLONE_NEWPID), "join the pid namespace");
    struct clone_args clone = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    long pid = must(call(clone3, &clone, sizeof clone), "clone");
    if (pid) return wait_for(pid);
    must(call(setns, pidfd, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP),
         "join the namespaces");
    call(keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    must(call(setsid), "start a session");
    write_file(AT_FDCWD, "/proc/self/oom_score_adj", "0");
    become_the_user();
    call(close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
    run_program(arguments);
}

/* A mount namespace with a tmpfs and the directory /root in it, bound to a file. */
static int keep(const char *file) {
    int made[2], done[2];
    char byte, path[PATH];
    must(call(pipe2, made, O_CLOEXEC), "make a pipe");
    must(call(pipe2, done, O_CLOEXEC), "make a pipe");
    struct clone_args clone = {.flags = CLONE_NEWNS, .exit_signal = SIGCHLD};
    long pid = must(call(clone3, &clone, sizeof clone), "clone");
    if (pid == 0) {
        call(close, done[1]);
        must(set_attributes(AT_FDCWD, "/", AT_RECURSIVE, 0, MS_PRIVATE), "set the propagation");
        int small = make_filesystem("tmpfs", USUAL, NULL);
        must(call(mkdirat, small, "root", 0755), "make /root");
        must(call(move_mount, small, "", AT_FDCWD, "/mnt", MOVE_MOUNT_F_EMPTY_PATH), "attach a tmpfs");
        must(call(fchdir, small), "enter the tmpfs");
        must(call(pivot_root, ".", "."), "change the root");
        must(call(umount2, ".", MNT_DETACH), "detach the old root");
        call(close, made[1]);
        call(read, done[0], &byte, 1);
        finish(0);
    }
    call(close, made[1]);
    call(read, made[0], &byte, 1);
    int target = (int)must(call(openat, AT_FDCWD, file, O_CREAT | O_CLOEXEC, 0600), file);
    call(close, target);
    append(append_number(append(path, "/proc/"), pid), "/ns/mnt");
    must(call(mount, path, file, NULL, MS_BIND, NULL), path);
    call(close, done[1]);
    return wait_for(pid);
}

static int command(int count, char **words) {
    const char *name = words[0];
    if (count == 1 && same(name, "nothing")) return 0;
    if (count == 1 && same(name, "list")) return list();
    if (count > 3 && same(name, "run")) return run(words[1], words[2], words + 3);
    if (count > 3 && same(name, "create")) return create(words[1], words[2], words + 3);
    if (count > 2 && same(name, "exec")) return execute(words[1], words + 2);
    if (count == 2 && same(name, "start")) return start(words[1]);
    if (count == 2 && same(name, "state")) return show(words[1]), 0;
    if (count == 2 && same(name, "kill")) return send_kill(words[1]);
    if (count == 2 && same(name, "delete")) return remove_container(words[1], 0);
    if (count == 3 && same(name, "delete") && same(words[1], "--force")) return remove_container(words[2], 1);
    if (count == 2 && same(name, "keep")) return keep(words[1]);
    print(2, "floor: cannot read the command line: see the top of bench/floor.c\n");
    return 2;
}

__attribute__((noreturn, used)) void begin(long *stack) {
    int count = (int)stack[0] - 1;
    char **words = (char **)(stack + 2);
    for (; count > 2 && words[0][0] == '-'; words += 2, count -= 2)
        *(same(words[0], "--kept") ? &kept : same(words[0], "--cgroups") ? &cgroups : &root) = words[1];
    finish(count > 0 ? command(count, words) : 2);
}
