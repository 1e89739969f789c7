"""The child's side of a plan, and the system calls that Python lacks.

The child (`native/child/`) never touches Python; `protocol.pxi` has its rules. The build compiles this module twice: as
the extension, and without Python as the helper, the executable that the child runs.
Everything else is a thin wrapper: convert, call, raise OSError. Native code makes no decisions and writes no messages.
"""

import posix

include "native/linux.pxi"

# the child, in the order of a container's life
include "native/_verbs.pxi"
include "native/child/protocol.pxi"
include "native/child/block.pxi"
include "native/child/paths.pxi"
include "native/child/proc.pxi"
include "native/child/process.pxi"
include "native/child/clones.pxi"
include "native/child/mounts.pxi"
include "native/child/filesystems.pxi"
include "native/child/copy_up.pxi"
include "native/child/devices.pxi"
include "native/child/masks.pxi"
include "native/child/root.pxi"
include "native/child/terminal.pxi"
include "native/child/credentials.pxi"
include "native/child/program.pxi"
include "native/child/start.pxi"
include "native/child/hooks.pxi"
include "native/child/seccomp.pxi"
include "native/child/restore.pxi"
include "native/child/loop.pxi"

include "native/child/receive.pxi"

include "native/launch.pxi"
include "native/encode.pxi"
include "native/wrappers.pxi"
include "native/files.pxi"
include "native/bpf.pxi"
include "native/json.pxi"
include "native/json_write.pxi"
include "native/match.pxi"
include "native/pagemap.pxi"
