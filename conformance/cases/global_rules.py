"""Global rules: errors, extensibility, JSON."""

from conformance.trial import Trial


def ERR_01(t: Trial) -> None:
    """A create that fails at its last mount leaves no process, mount, cgroup or state behind."""
    t.bundle.bind(t.folder / "missing", "/tmp")
    t.refused(why="with a bind source that is missing")


def EXT_01(t: Trial) -> None:
    """Properties that the specification does not know, in any object, change nothing."""

    def sprinkle(value: object) -> None:
        if isinstance(value, dict):
            for inner in list(value.values()):
                sprinkle(inner)
            value["x-unknown"] = {"y": [1, "2", None]}
        elif isinstance(value, list):
            for inner in value:
                sprinkle(inner)

    t.bundle.linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    t.bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    sprinkle(t.bundle.config)
    t.bundle.config["annotations"] = {"org.example.unknown": "x"}

    t.equal([0, 0], t.report()["rlimits"]["CORE"], "RLIMIT_CORE")
