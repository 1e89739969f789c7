"""The executor of plans, and the system calls that Python lacks.

No policy, no JSON and no prose live here. The executor runs in the child between clone and execve and never touches Python
(see `native/child.pxi`); everything else is a thin wrapper: convert, call, raise OSError.
"""

import posix

include "native/linux.pxi"
include "native/child.pxi"
include "native/wrappers.pxi"
include "native/bpf.pxi"
include "native/json.pxi"
