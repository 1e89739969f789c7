"""What the end of CRIU's log means: one reason and one hint. Pure.

CRIU logs the cause of a failure first, and then what failed because of it:

    (00.052944) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.
    (00.052956) Error (criu/cr-dump.c:1545): Dump files (pid: 28991) failed with -1
    (00.102537) Error (criu/cr-dump.c:1975): Dumping FAILED.

The texts are those of CRIU 3.17 to 4.2. The container's files and processes choose parts of them, such as names.
"""

import re
from itertools import islice

from pyoci.config.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LOG = 1 << 20
"""How much of the log's end `explain` reads: bytes of the file, characters of the text."""
MAX_REASON = 400  # characters
_MAX_PART = 160  # characters of a name in the reason
_MAX_LINE = 2000  # characters
_MAX_ERRORS = 100  # the cause comes first
NO_REASON = "criu gave no reason"

# `(00.052944)      1: Error (criu/sk-inet.c:200): inet: text`; the parasite's lines begin with `pie: 1: `.
_ERROR = re.compile(r"(?:\([\d.]{1,20}\) {1,9})?(?:pie: )?(?:\d{1,10}: )?Error \([\w./+-]{1,100}:\d{1,6}\): (.*)")
_PREFIX = re.compile(
    r"(?:mnt|mnt-v2|net|inet|unix|tty|cg|fsnotify|sockets|netlink|packet|bfd|page-xfer|pagemap|uffd|cpu|rlimit|sk unix"
    r"|sk queue|seccomp|eventpoll|timens|tun|path|vdso|shmem|ipc|memfd|bpfmap|file-lock|uns|lsm|nf): "
)

# What CRIU logs as an error although it goes on, and what follows from another error.
_NOISE = re.compile(
    r"rlimit: Can't setup RLIMIT_NOFILE for self"
    r"|(?:Pre-)?[Dd]umping FAILED|Restoring FAILED|Dump files \(pid|Collect (?:mappings|fds) \(pid|Dump mappings \(pid"
    r"|Unable to open fd=|Can't make \w+ id|exited, status=|\d+ exited, status=|Can't wait or bad status"
    r"|cg: cgroupd: recv req error|cgroupd: recv req error|Message reply from daemon is trimmed"
    r"|Can't retrieve FDs from socket|RPC client reported script error"
    r"|Couldn't unlink remap|Unable to wait \d|Restorer unexpectedly closed"
)

_SAME_FILES = "restore with the root filesystem and the volumes of the checkpoint"
_STREAMS = "use pipes, or log files that are opened for appending"
_WHOLE_IMAGE = "copy the whole image directory again, or use another checkpoint"
_END_IT = "let the program close it before the checkpoint"
_OLD_IMAGE = "use the CRIU that wrote the checkpoint, or a later one"
_IO_URING = "deny io_uring_setup in the seccomp profile, so that programs work another way"
_NO_OPTION = ""  # no option helps
_FREE_SPACE = "free space where the images and the files of the container are"
_GHOST = "set ghost-limit in /etc/criu/pyoci.conf, such as `ghost-limit 64M`"
_DIAG = "load unix_diag, inet_diag, tcp_diag, udp_diag, raw_diag, packet_diag and netlink_diag"
_NETWORK_LOCK = "install iptables, or pass --network-lock nftables or --network-lock skip"

# Pattern, reason, hint. {1} is the first group, without what is not printable. The first matching line decides.
_CAUSES = [
    # --- options of the command
    (r"Connected TCP socket, consider", "a process has established TCP connections",
     "pass --tcp-established to keep them, or --tcp-close to close them"),
    (r"Connected TCP socket in image", "the checkpoint has established TCP connections",
     "pass --tcp-established to keep them, or --tcp-close to close them"),
    (r"Need to set the --tcp-close", "the container was checkpointed with --tcp-close", "pass --tcp-close"),
    (r"In-flight connection", "a TCP connection waits for a process to accept it", "pass --tcp-skip-in-flight"),
    (r"Some file locks are hold", "a process holds a file lock", "pass --file-locks"),
    (r"External socket is used", "a process is connected to a unix socket outside the container",
     "pass --ext-unix-sk"),
    (r"External socket found in image", "the checkpoint has connections to unix sockets outside the container",
     "pass --ext-unix-sk"),
    (r"Can't create link remap for (.+)\. Use", "a process has the removed file {1} open, which has another hard link",
     "pass --link-remap"),
    (r"not a session leader", "the container's init is not the leader of its session", "pass --shell-job"),
    (r"Found dangling tty with sid", "a process has a terminal of a session outside the container",
     "pass --shell-job"),
    (r"A session leader of (\d+).* is outside of its pid namespace",
     "process {1} belongs to a session that began outside the container",
     "end the processes of exec first"),
    (r"Can't dump ghost file (.+) of (\d+) size", "a process has the deleted file {1} open, with {2} bytes", _GHOST),
    (r"(?:has unreachable sharing|Try --enable-external-masters)", "a mount gets mounts from outside the container",
     "make the mount private or rprivate in config.json"),
    (r"PID (\d+) has uprobes vma", "a tracer of the host has set uprobes in process {1}", "end the tracer"),

    # --- what CRIU can't dump
    (r"send_fds failed \(-22\)",
     "a process has a descriptor, such as an io_uring, that the kernel keeps to it: CRIU can't dump it",
     _IO_URING),
    (r"Unknown shit \d+ \((?:anon_inode:)?(.+)\)", "a process maps {1}, which CRIU can't dump", _IO_URING),
    (r"Can't dump file (\d+) of that type \[\d+\] \(anon (?:anon_inode:)?\[?(.+?)\]?\)",
     "a process has {2} as descriptor {1}, which CRIU can't dump", _END_IT),
    (r"Can't dump file (\d+) of that type \[\d+\] \(chr (\d+:\d+)\)",
     "a process has the character device {2} as descriptor {1}, which CRIU can't dump", _END_IT),
    (r"Can't dump file (\d+) of that type \[\d+\] \(\w+ (.+)\)",
     "a process has {2} as descriptor {1}, which CRIU can't dump", _END_IT),
    (r"Can't handle non-regular mapping on (\d+)'s", "process {1} maps a device, which CRIU can't dump", _NO_OPTION),
    (r"Can't lookup mount=\d+ for fd=(-?\d+) path=/(memfd:.*|secretmem.*|anon_hugepage.*)",
     "a process has the memory {2} as descriptor {1}, which CRIU can't dump", _NO_OPTION),
    (r"Can't lookup mount=\d+ for fd=(-?\d+) path=(.+)",
     "a process has {2} as descriptor {1}, on a mount outside the container", _END_IT),
    (r"Open files on overmounted mounts are not supported yet; .* path=(.+)",
     "a process has {1} open, on a mount that another one hides", _END_IT),
    (r"Unsupported proto 262 ", "a process has an MPTCP socket, which CRIU can't dump",
     "set GODEBUG=multipathtcp=0 in the environment of a Go program"),
    (r"Unsupported proto (\d+) for socket", "a process has a socket of protocol {1}, which CRIU can't dump", _END_IT),
    (r"Unknown socket collected \(family (\d+)\)",
     "a process has a socket of address family {1}, which CRIU can't dump", _END_IT),
    (r"Can't dump \d+ inet socket", "a process has an inet socket of a type that CRIU can't dump", _END_IT),
    (r"The socket has data to read", "a process has not read a message of the kernel from a netlink socket",
     "try again"),
    (r"Can't dump corked dgram", "a process has begun a UDP message with UDP_CORK", "try again"),
    (r"Can't dump half of stream unix connection\. .*peer name: (.+)",
     "a process is connected to the unix socket {1} outside the container",
     "end the connection; --ext-unix-sk is for datagram sockets only"),
    (r"Can't dump name-less external socket",
     "a process has one end of a socket pair, and the other is outside the container", _END_IT),
    (r"Unix socket \d+ (?:without|with unreachable) peer|Dangling connection",
     "a process is connected to a unix socket outside the container that CRIU can't find", _END_IT),
    (r"Can't dump nested time_for_children namespace for (\d+)",
     "process {1} has a time namespace of its own, which CRIU can't dump", _NO_OPTION),
    (r"Can't dump nested (\w+) namespace for (\d+)", "process {2} has its own {1} namespace, which CRIU can't dump",
     _NO_OPTION),
    (r"Task (\d+) with SysVIPC shmem map", "process {1} maps System V shared memory of the host",
     "give the container an ipc namespace of its own"),
    (r"Unseizable non-zombie (\d+) found, state \w, err -1/10|Unable to detach from (\d+): No such process",
     "cannot stop process {1}{2}: a debugger traces it, or it has just ended", "detach the debugger, and try again"),
    (r"The criu itself is within dumped tree", "CRIU runs in the container that it should dump",
     "call pyoci outside the container"),
    (r"Can't find suitable path for handle", "a process watches a removed file with inotify or fanotify", _END_IT),
    (r"pidfd pid \S+ is not a part of process tree", "a process has a pidfd of a process outside the container",
     _END_IT),
    (r"Unable to find a master for (.+)", "the master of the terminal {1} is outside the container",
     "create the container with a console socket"),
    (r"Found slave peer index (\d+) without", "the master of the terminal /dev/pts/{1} is outside the container",
     _END_IT),
    (r"FS mnt \.?(.+) dev \S+ root .+ unsupported",
     "the container has mounted a filesystem on {1} that CRIU can't dump",
     "unmount it before the checkpoint"),
    (r"failed to dump fs \.?(.+) \((\w+)\): always fail",
     "the container has mounted a {2} filesystem on {1}, which CRIU can't dump", "unmount it before the checkpoint"),
    (r"\d+:\.?(.+) doesn't have a proper root mount", "CRIU can't find the source of the mount {1}",
     "declare the mount in config.json, or unmount it before the checkpoint"),
    (r"Can't parse \d+'s mountinfo|The root task has another root than mntns",
     "the container's init has changed its root directory", _NO_OPTION),
    (r"zombie (\d+) .*found while seizing", "cannot stop process {1}: a debugger traces it, or it is ending",
     "detach the debugger, and try again"),
    (r"Zombies with threads are not supported|Zombie thread not supported", "a thread of a process is ending",
     "try again"),
    (r"Individually stopped threads not supported", "a single thread of a process is stopped", "continue the thread"),
    (r"Can't dump the (\d+) thread with a pending SIGTRAP", "thread {1} has a pending SIGTRAP", "detach the debugger"),
    (r"Unable to freeze cgroup", "the container's processes do not freeze",
     "look for processes in state D with `pyoci ps`, and try again"),
    (r"Timeout reached\. Try to interrupt", "the container's processes did not stop within CRIU's timeout",
     "look for processes in state D with `pyoci ps`, and try again"),
    (r"has rseq but kernel lacks get_rseq_conf", "the kernel lacks PTRACE_GET_RSEQ_CONFIGURATION",
     "use Linux 5.13 or later"),

    # --- the host
    (r"Can't get rlimit \d+: Operation not permitted", "CRIU may not read the limits of a process of another user",
     "run it with CAP_SYS_RESOURCE"),
    (r"No space left on device", "no space left on device", _FREE_SPACE),
    (r"Disk quota exceeded", "the disk quota is exceeded", _FREE_SPACE),
    (r"Cannot allocate memory", "out of memory", "raise the memory limit, or free memory"),
    (r"Diag module missing", "the kernel lacks a module for socket diagnostics", _DIAG),
    (r"Tracking memory is not available", "the kernel does not track changes of memory",
     "use a kernel with CONFIG_MEM_SOFT_DIRTY"),
    (r"UFFD is not supported|Lazy pages are not available", "the kernel lacks what lazy pages need",
     "use a kernel with CONFIG_USERFAULTFD"),
    (r"connect to (.*lazy-pages\.socket) failed", "no `criu lazy-pages` listens on {1}",
     "run `criu lazy-pages` in the work directory first"),
    (r"Can't connect to server", "cannot connect to the page server",
     "run `criu page-server` at the address of --page-server"),
    (r"CRIU was built without libnftables", "criu was built without nftables",
     "pass --network-lock iptables or --network-lock skip"),
    (r"Invalid parent image directory provided|No parent image found", "the parent images are missing",
     "pass --parent-path relative to --image-path"),
    (r"(apparmor|selinux) LSM specified but", "the kernel has no {1}", "omit --lsm-profile, or enable {1}"),
    (r"invalid argument (.+) for --lsm-profile|unknown lsm (.+)", "invalid LSM profile `{1}{2}`",
     "pass --lsm-profile apparmor:NAME or selinux:LABEL"),
    (r"Can't (?:write|open|find) (?:lsm|aa|apparmor) profile|write AA policy",
     "cannot apply the LSM profile of the checkpoint", "load the profile, or pass --lsm-profile"),
    (r"mismatched lsm types", "the checkpoint was made under another LSM", "pass --lsm-profile"),

    # --- a restore
    # CRIU opens a file that it has inherited as /proc/self/fd/N, with the flags of the checkpoint
    (r"File fd/(\d) has bad size (\d+) \(expect (\d+)\)",
     "the caller's file for standard stream {1} has {2} bytes; at the checkpoint it had {3}", _STREAMS),
    (r"Can't open file fd/(\d) on restore: (.+)", "cannot open the caller's file for standard stream {1}: {2}",
     _STREAMS),
    (r"File (.+) has bad size (\d+) \(expect (\d+)\)", "/{1} has {2} bytes; at the checkpoint it had {3}",
     _SAME_FILES),
    (r"File (.+) has bad build-ID", "/{1} is another program or library than at the checkpoint", _SAME_FILES),
    (r"File (.+) has bad mode 0(\d+) \(expect 0(\d+)\)", "/{1} has mode {2}; at the checkpoint it had {3}",
     _SAME_FILES),
    (r"Can't open file (.+) on restore: (.+)", "cannot open /{1}: {2}", _SAME_FILES),
    (r"Can't stat mountpoint .*/mnt-\d+/?(.*): No such file", "the root filesystem lacks the mount point /{1}",
     _SAME_FILES),
    (r"No mapping for \d+:(?:\(null\)|(.*)) mountpoint", "the checkpoint has a mount that config.json lacks: {1}",
     "restore with the config.json of the checkpoint"),
    (r"Failed to open_tree (.+): (.+)", "cannot open the source of a mount: {2}",
     "create the sources of the mounts in config.json"),
    (r"Can't bind inet socket .*Address already in use", "an address of the container is already in use",
     "stop the program that listens on it, or give the container a network namespace of its own"),
    (r"Can't (?:bind|connect) inet socket.*Cannot assign requested address",
     "the network namespace lacks an address of the checkpoint", "give it the same addresses, or pass --tcp-close"),
    (r"Can't connect \d+ socket: (.+)", "cannot connect to a unix socket outside the container: {1}",
     "start the program that listens on it"),
    (r"Can't fork for (\d+): File exists|Pid \d+ do not match expected (\d+)", "pid {1}{2} is already in use",
     "end the process that has it, or give the container a pid namespace of its own"),
    (r"Unable to find an external (net|pid)ns", "the checkpoint has a {1} namespace that config.json lacks",
     "restore with the namespaces of the checkpoint"),
    (r"Can't set (?:flock|posix lock|ofd lock)|Can not set (?:flock|posix lock|ofd lock)",
     "another process holds a file lock of the container", "end that process"),
    (r"Missing required plugin: (.+)", "the checkpoint needs the CRIU plugin {1}", "install the plugin"),
    (r"Core march mismatch|Image carries unknown vendor", "the checkpoint is of another processor architecture",
     "restore on a machine of the same architecture"),
    (r"FPU feature required by image|CPU (?:instruction )?capabilities do not match|CPU xsave|CPU xfeatures",
     "this processor lacks features of the one at the checkpoint", "restore on a machine with the same processor"),
    (r"Too old image|Not supported images version (\d+)", "this criu does not read the format of the checkpoint",
     _OLD_IMAGE),
    (r"Abort restore of existing cgroups", "a cgroup of the checkpoint exists already",
     "pass --manage-cgroups-mode soft"),
    (r"Unexpected EOF on \(empty-image\)", "the image directory is not a checkpoint, or lacks files", _WHOLE_IMAGE),
    (r"Read -?\d+ bytes while \d+ expected (?:from|on) (?:.*/)?([^/]+\.img)", "the file {1} is truncated",
     _WHOLE_IMAGE),
    (r"(?:Head magic|Magic) doesn't match for (?:.*/)?([^/]+\.img)", "the file {1} is damaged", _WHOLE_IMAGE),
    (r"Can't restore tmpfs content", "cannot unpack the files of a tmpfs from the image directory", _WHOLE_IMAGE),
    (r"Can't read pages data|Reached EOF unexpectedly while reading page|Img trimmed|image file was truncated",
     "the image directory is damaged", _WHOLE_IMAGE),
    (r"No (?:root|parent) found for|[Ii]mages? corrupt|image corruption|Missing \S+ in parent pagemap",
     "the image directory is damaged", _WHOLE_IMAGE),
    (r"\d+ killed by signal (\d+)", "signal {1} killed a process of the container",
     "look in the kernel's log, and at the memory limit"),
]  # fmt: skip

# Weaker: CRIU also logs these when it goes on without the program.
_WEAK_CAUSES = [
    (r"no legacy version present", "iptables-legacy-restore is not installed", "install iptables"),
    (r"execvp\(\"(ip6?tables[\w-]*)\", .*No such file", "{1} is not installed", _NETWORK_LOCK),
    (r"execvp\(\"ip\", .*No such file", "ip is not installed", "install iproute2"),
    (r"execvp\(\"(.+)\", .*No such file", "{1} is not installed", "install {1}, which CRIU executes"),
    (r"Locking network failed|Iptables configuration failed", "cannot lock the network of the container",
     _NETWORK_LOCK),
    (r"IP tool failed", "CRIU's call of ip failed", "look for its message in the log"),
]  # fmt: skip


def explain(log: str, *, dumping: bool) -> tuple[str, str]:
    """Return why CRIU failed, and what the user can do about it.

    `log` is the end of dump.log or restore.log, or one error of an answer. It may be empty. Both results are one line
    of printable characters. The hint is empty if there is nothing to recommend.
    """
    errors = list(islice(_errors(log), _MAX_ERRORS))
    for table in (_CAUSES, _WEAK_CAUSES):
        for error in errors:
            found = _match(table, error)
            if found:
                return found
    text = errors[0] if errors else ""
    return _as_reason(text) if text else NO_REASON, "" if text else _hint_without_reason(dumping)


def name_process(reason: str, hint: str, problems: list[str]) -> tuple[str, str]:
    """Return a reason that names the process, if one of `problems` is about the same: a line of `undumpable.find`."""
    topics = [theirs for ours, theirs in _TOPICS if ours in reason]
    options = set(_OPTION.findall(hint))
    for problem in problems:
        text, _, advice = problem.removesuffix(")").partition(" (hint: ")
        if any(topic in text for topic in topics) or options & set(_OPTION.findall(advice)):
            return text, advice or ("" if options else hint)
    return reason, hint


_OPTION = re.compile(r"--[a-z-]+|ghost-limit")
# Words of a reason, and of a problem that is about the same.
_TOPICS = [
    ("unix socket", "unix socket"),
    ("netlink", "netlink"),
    ("cannot stop process", "is traced by"),
    ("CRIU can't dump", "CRIU can't dump it"),
]


def _errors(log: str) -> "Iterator[str]":
    """Yield the texts of the errors in the log, the cause first. A log without error lines is one text."""
    lines = log[-MAX_LOG:].splitlines()
    errors = [match[1].strip() for line in lines if (match := _ERROR.match(line[:_MAX_LINE].lstrip()))]
    if not errors and len(lines) == 1:
        errors = [lines[0][:_MAX_LINE].strip()]
    for error in errors:
        if error and not _NOISE.search(error):
            yield error


def _match(table: "list[tuple[str, str, str]]", error: str) -> "tuple[str, str] | None":
    for pattern, reason, hint in table:
        match = re.search(pattern, error)
        if match:
            parts = ["", *(_part(group or "") for group in match.groups())]
            return _shorten(reason.format(*parts).removesuffix(": "), MAX_REASON), hint.format(*parts)
    return None


def _part(text: str) -> str:
    """A part of the log, printable. The kernel's reasons begin with a lower-case letter, as everywhere."""
    text = _shorten(printable(text.strip()), _MAX_PART)
    is_reason = text[:1].isupper() and text[1:2].islower() and " " in text
    return text[:1].lower() + text[1:] if is_reason else text


def _as_reason(error: str) -> str:
    text = _PREFIX.sub("", error, count=1).rstrip(".! ")
    if text[1:2].islower() or text[1:2] in ("'", " "):
        text = text[:1].lower() + text[1:]
    return _shorten(printable(text), MAX_REASON)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _hint_without_reason(dumping: bool) -> str:
    return "look for free space and memory, or run `criu check`" if dumping else _WHOLE_IMAGE
