"""docker build, compose and swarm."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.docker import Docker


@pytest.fixture
def image(docker: Docker):
    """The name of an image to build."""
    yield "built"
    docker("rmi", "--force", "built")
    docker("builder", "prune", "--all", "--force")


def dockerfile(folder: Path, *lines: str) -> Path:
    """A context with this Dockerfile."""
    (folder / "Dockerfile").write_text("\n".join(["FROM busybox", *lines]) + "\n")
    return folder


def test_build(docker: Docker, folder: Path, image) -> None:
    """build: RUN with the environment, the working directory and the user."""
    context = dockerfile(
        folder,
        "ENV A=b",
        "WORKDIR /work",
        "USER joan",
        "RUN id -u >/tmp/file && pwd >>/tmp/file && echo $A >>/tmp/file",
    )

    docker("build", "--tag", image, context)

    assert ["1000", "/work", "b"] == docker("run", "--rm", image, "cat", "/tmp/file").split()


def test_build_runtime(docker: Docker, folder: Path, image) -> None:
    """build: DOCKER_BUILDKIT_RUNC_COMMAND names what runs the steps."""
    command = [*docker.client, "build", "--tag", image, dockerfile(folder, "RUN sleep 1.234")]
    build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def lines():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                yield path.read_text().split("\0")

    until(lambda: any(Path(line[0]).name == docker.runtime and "run" in line for line in lines()), "it runs the step")
    assert 0 == build.wait(60)


def test_build_fails(docker: Docker, folder: Path, image) -> None:
    """build: a step that fails, with its exit status and its output; the daemon goes on."""
    out = docker(
        "build", "--progress", "plain", "--tag", image, dockerfile(folder, "RUN echo so far; exit 7"), status=1
    )

    assert "so far" in out
    assert 'process "/bin/sh -c echo so far; exit 7" did not complete successfully: exit code: 7' in out
    docker("build", "--tag", image, dockerfile(folder, "RUN true"))


def test_build_program_is_missing(docker: Docker, folder: Path, image) -> None:
    """build: a program that is not there."""
    out = docker("build", "--progress", "plain", "--tag", image, dockerfile(folder, 'RUN ["/none"]'), status=1)

    assert '"/none"' in out
    assert "no such file or directory" in out


def test_build_mounts(docker: Docker, folder: Path, image) -> None:
    """build: RUN --mount of types bind, cache, tmpfs and secret, --network none."""
    (folder / "file").write_text("context\n")
    (folder / "secret").write_text("hidden\n")
    context = dockerfile(
        folder,
        "RUN --mount=type=bind,target=/context cat /context/file >/result",
        "RUN --mount=type=cache,target=/cache echo cached >/cache/x && cat /cache/x >>/result",
        "RUN --mount=type=tmpfs,target=/scratch grep -q ' /scratch tmpfs' /proc/mounts && echo scratch >>/result",
        "RUN --mount=type=secret,id=word cat /run/secrets/word >>/result",
        "RUN --network=none ls /sys/class/net >>/result",
    )

    docker("build", "--tag", image, "--secret", f"id=word,src={folder}/secret", context)

    assert ["context", "cached", "scratch", "hidden", "lo"] == docker("run", "--rm", image, "cat", "/result").split()


def test_build_parallel(docker: Docker, folder: Path, image) -> None:
    """build: stages at the same time."""
    stages = [f"FROM busybox AS s{number}\nRUN sleep .3; echo {number} >/out" for number in range(6)]
    copies = [f"COPY --from=s{number} /out /out{number}" for number in range(6)]
    (folder / "Dockerfile").write_text("\n".join([*stages, "FROM busybox", *copies]))

    docker("build", "--tag", image, folder)

    assert [str(number) for number in range(6)] == docker("run", "--rm", image, "sh", "-c", "cat /out?").split()


COMPOSE = """
services:
  server:
    image: busybox
    command: sh -c "echo served >/data/page; exec httpd -f -h /data"
    volumes: ["shared:/data"]
    healthcheck:
      test: wget -qO- 127.0.0.1/page
      interval: 200ms
      retries: 50
    stop_signal: KILL
  client:
    image: busybox
    depends_on:
      server:
        condition: service_healthy
    command: sh -c "sleep 0.2; wget -qO- server/page; cat /data/page"
    volumes: ["shared:/data:ro"]
volumes:
  shared:
"""


def test_compose(docker: Docker, folder: Path) -> None:
    """compose up and down: two services, depends_on with a health check, a shared volume, names on the network."""
    (folder / "compose.yaml").write_text(COMPOSE)
    compose = ["compose", "--progress", "quiet", "--project-name", "project", "--file", folder / "compose.yaml"]
    try:
        docker(*compose, "up", "--detach")
        until(lambda: docker.state("project-client-1") == "exited", "the client ends")

        assert "served\nserved" == docker("logs", "project-client-1")
        assert "served" == docker(*compose, "exec", "-T", "server", "cat", "/data/page")
        docker(*compose, "up", "--detach", "--scale", "server=3", "--no-recreate")
        assert 3 == len(docker(*compose, "ps", "--quiet", "server").split())
    finally:
        docker(*compose, "down", "--volumes", "--timeout", "1")


@pytest.fixture
def swarm(docker: Docker):
    """A swarm of one."""
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    yield docker
    for service in docker("service", "ls", "--quiet").split():
        docker("service", "rm", service)
    until(lambda: not docker("ps", "--quiet"), "the services' containers end")
    docker("swarm", "leave", "--force")


def test_swarm(swarm) -> None:
    """swarm: service create --replicas 5, scale, a rolling update."""

    def tasks():
        lines = swarm("service", "ps", "--format", "json", "--filter", "desired-state=running", "web").splitlines()
        return [task for task in map(json.loads, lines) if task["CurrentState"].startswith("Running")]

    options = [
        "--name",
        "web",
        "--replicas",
        "5",
        "--update-parallelism",
        "2",
        "--update-delay",
        "0s",
        "--stop-signal",
        "KILL",
    ]
    swarm("service", "create", "--detach", "--no-resolve-image", *options, "busybox", "sleep", "1000")
    until(lambda: len(tasks()) == 5, "five run")
    first = set(swarm("ps", "--quiet").split())
    assert 5 == len(first)

    swarm("service", "scale", "--detach", "web=8")
    until(lambda: len(tasks()) == 8, "eight run")
    swarm("service", "scale", "--detach", "web=3")
    until(lambda: len(tasks()) == 3 and len(swarm("ps", "--quiet").split()) == 3, "three run")

    swarm("service", "update", "--detach", "--no-resolve-image", "--env-add", "A=b", "web")
    until(
        lambda: swarm("service", "inspect", "--format", "{{.UpdateStatus.State}}", "web") == "completed",
        "all are new",
        60,
    )
    assert not first & set(swarm("ps", "--quiet").split())


def test_swarm_replaces(swarm) -> None:
    """swarm: a task that is killed is replaced."""
    swarm(
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--name",
        "web",
        "--stop-signal",
        "KILL",
        "--restart-delay",
        "0s",
        "busybox",
        "sleep",
        "1000",
    )
    until(lambda: swarm("ps", "--quiet"), "it runs")
    (first,) = swarm("ps", "--quiet").split()

    os.kill(swarm.inspect(first)["State"]["Pid"], 9)

    until(lambda: swarm("ps", "--quiet") not in ("", first), "another runs")
