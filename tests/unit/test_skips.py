"""The guard of tests/conftest.py against tests that are skipped unseen."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = (Path(__file__).resolve().parent.parent / "conftest.py").read_text()
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
    pytester.makeini("[pytest]\nmarkers = may_skip(reason): may be skipped")
    pytester.makepyfile(f"import pytest\ndef test_other(): pass\n{TESTS[kind]}")

    result = pytester.runpytest_inprocess()

    assert expected == result.ret
