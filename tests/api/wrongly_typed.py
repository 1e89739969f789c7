"""What mypy must reject, one error in each marked line: test_typing.py."""

from pathlib import Path

import pyoci

runtime = pyoci.Runtime(root=1)  # error
runtime.create("id", Path("/x"), stdout="file")  # error
container: int = runtime.load("id")  # error
pyoci.spec()["process"]["argz"] = []  # error
pyoci.spec()["hostname"] = 1  # error
runtime.load("id").exec(["id"], user=1.5)  # error
runtime.load("id").update({"memory": {"limt": 1}})  # error
pyoci.plan({}, cgroup_manager="none")  # error
pyoci.no_such_name  # error
