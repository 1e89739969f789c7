"""The guard of tests/conftest.py against tests that are skipped unseen."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = (Path(__file__).resolve().parent.parent / "conftest.py").read_text()
INI = "[pytest]\nmarkers =\n    may_skip(reason): may be skipped\n    nightly: takes long"
TESTS = {
    "allowed": "@pytest.mark.may_skip('no such hardware')\ndef test_it(): pytest.skip('none here')",
    "silent": "def test_it(): pytest.skip('not here')",
    "skipif": "@pytest.mark.skipif(True, reason='x')\ndef test_it(): pass",
    "module": "pytest.skip('nothing here', allow_module_level=True)",
    "xfail": "@pytest.mark.xfail\ndef test_it(): assert False",
    "unreasoned": "@pytest.mark.may_skip\ndef test_it(): pass",
}


@pytest.mark.parametrize(
    ("kind", "ci", "expected"),
    [
        ("allowed", "true", 0),
        ("silent", "true", 1),
        ("silent", "", 0),
        ("skipif", "true", 1),
        ("skipif", "", 0),
        ("module", "true", 1),
        ("xfail", "true", 0),
        ("unreasoned", "true", 4),
    ],
)
def test_status(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, kind: str, ci: str, expected: int) -> None:
    """Under CI a skip fails the run unless it is marked as allowed, with a reason."""
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(INI)
    pytester.makepyfile(f"import pytest\ndef test_other(): pass\n{TESTS[kind]}")

    result = pytester.runpytest_inprocess()

    assert expected == result.ret


@pytest.mark.parametrize(("nightly", "passed"), [("", 1), ("true", 2)])
def test_nightly_tests_run_only_at_night(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, nightly: str, passed: int
) -> None:
    """They are deselected otherwise, which is not a skip."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("NIGHTLY", nightly)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(INI)
    pytester.makepyfile("import pytest\ndef test_it(): pass\n@pytest.mark.nightly\ndef test_long(): pass")

    result = pytester.runpytest_inprocess()

    assert pytest.ExitCode.OK == result.ret
    result.assert_outcomes(passed=passed, deselected=2 - passed)
