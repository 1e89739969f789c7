"""The executor of plans, and the system calls that Python lacks.

No policy, no JSON and no prose live here. The executor runs in the child between clone and execve and never touches Python
(see `_executor.pxi`); everything else is a thin wrapper: convert, call, raise OSError.
"""

import posix

include "_linux.pxi"
include "_executor.pxi"
include "_wrappers.pxi"
include "_bpf.pxi"
include "_json.pxi"
